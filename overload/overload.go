// Package overload lets so many in at a time, and has so many wait in line.
//
// A [Gate] has a number of places. Whoever finds them taken waits, for a bounded
// time and in a bounded line, and the waiting are let in by turns, one of each
// key, in the order in which they came: a key that has five hundred waiting does
// not hold up one that has a single one. What is guarded, and what is a key, is
// the caller's business.
package overload

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// Limits are policy and travel with each call, so a reload that changes them has
// nothing to migrate: they hold for whoever enters from then on.
type Limits struct {
	Slots  int           // places in all, at least 1
	PerKey int           // places of one key; 0: as many as there are
	Queue  int           // how many may wait, of all keys
	Wait   time.Duration // and for how long
}

// What Enter returns when there is no place.
var (
	ErrFull = errors.New("too many are waiting")
	ErrWait = errors.New("no place became free in time")
)

// Gate is a bounded number of places. It remembers a key for only as long as
// somebody of it is inside or waiting. The zero Gate is ready for use.
type Gate struct {
	mu    sync.Mutex
	lines map[string]*line
	turns list.List // of *line: those who may enter as soon as there is a place, in their order
	stats Stats
}

// Stats are what a gate has counted.
type Stats struct {
	InUse   int    `json:"in_use"`
	Waiting int    `json:"waiting"`
	Refused uint64 `json:"refused"` // ever; those who left by themselves are not among them
}

// line is one key.
type line struct {
	key     string
	inUse   int
	waiting list.List     // of *waiter
	turn    *list.Element // in turns, or nil
}

// waiter is one call of Enter that waits. Of place and told, only one ever happens.
type waiter struct {
	want  Limits
	place *list.Element // in its line; nil once it has been let in or refused
	told  chan error    // nil: come in
}

// Enter waits for a place, as one of key, and returns how to leave it again, which
// may be called more than once. Otherwise the error is ErrFull or ErrWait, or that
// of ctx, when the caller has lost interest. A call that finds too many waiting
// takes the place in the line of the latest of the key that has most, if that key
// has more waiting than its own; the one that is pushed out gets ErrFull.
func (g *Gate) Enter(ctx context.Context, key string, want Limits) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	l := g.line(key)
	if g.turns.Len() == 0 && l.waiting.Len() == 0 && g.admits(l, want) {
		g.enter(l)
		g.mu.Unlock()
		return g.leaver(l), nil
	}
	w := g.queue(l, want)
	g.mu.Unlock()
	if w == nil {
		return nil, ErrFull
	}
	return g.wait(ctx, l, w)
}

// Now returns what the gate has counted.
func (g *Gate) Now() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stats
}

// wait waits for what becomes of w. Where it is let in just as it gives up, being
// let in counts, unless nobody is interested any more.
func (g *Gate) wait(ctx context.Context, l *line, w *waiter) (leave func(), err error) {
	timer := time.NewTimer(w.want.Wait)
	defer timer.Stop()
	select {
	case err = <-w.told:
	case <-timer.C:
		err = g.giveUp(l, w, ErrWait)
	case <-ctx.Done():
		if err = g.giveUp(l, w, ctx.Err()); err == nil {
			g.leave(l)
			err = ctx.Err()
		}
	}
	if err != nil {
		return nil, err
	}
	return g.leaver(l), nil
}

// giveUp takes w out of its line and returns why, or, if it was told something
// before, that.
func (g *Gate) giveUp(l *line, w *waiter, why error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.place == nil {
		return <-w.told
	}
	if g.remove(l, w); errors.Is(why, ErrWait) {
		g.stats.Refused++
	}
	g.tidy(l)
	g.admit() // the one behind it may be content with less
	return why
}

// queue lets w stand in its line, or returns nil where there is no room for it.
func (g *Gate) queue(l *line, want Limits) *waiter {
	if g.stats.Waiting >= want.Queue && !g.pushOut(l) {
		g.stats.Refused++
		g.tidy(l)
		return nil
	}
	w := &waiter{want: want, told: make(chan error, 1)}
	w.place = l.waiting.PushBack(w)
	g.stats.Waiting++
	g.takeTurn(l)
	g.admit()
	return w
}

// pushOut makes room for one of l at the cost of the line that is longest.
func (g *Gate) pushOut(l *line) bool {
	longest := l
	for _, other := range g.lines {
		if other.waiting.Len() > longest.waiting.Len() {
			longest = other
		}
	}
	if longest.waiting.Len() <= l.waiting.Len()+1 {
		return false
	}
	w := longest.waiting.Back().Value.(*waiter)
	g.remove(longest, w)
	g.stats.Refused++
	w.told <- ErrFull
	return true
}

// admit lets in whoever there is a place for, by turns.
func (g *Gate) admit() {
	for g.turns.Len() > 0 {
		l := g.turns.Front().Value.(*line)
		w := l.waiting.Front().Value.(*waiter)
		if !g.admits(l, w.want) {
			return // there will be another time: somebody is inside
		}
		g.remove(l, w)
		g.enter(l)
		w.told <- nil
		if l.turn != nil { // to the end, behind the others
			g.turns.MoveToBack(l.turn)
		}
		g.takeTurn(l)
	}
}

// admits says that there is a place for one of l. There always is when nobody is inside.
func (g *Gate) admits(l *line, want Limits) bool {
	return g.stats.InUse < max(1, want.Slots) && l.below(want)
}

// below says that l has not all places it may have.
func (l *line) below(want Limits) bool { return want.PerKey <= 0 || l.inUse < want.PerKey }

// takeTurn sees to it that l has a turn if, and only if, it has somebody waiting
// and may have another place.
func (g *Gate) takeTurn(l *line) {
	first := l.waiting.Front()
	switch may := first != nil && l.below(first.Value.(*waiter).want); {
	case may && l.turn == nil:
		l.turn = g.turns.PushBack(l)
	case !may && l.turn != nil:
		g.turns.Remove(l.turn)
		l.turn = nil
	}
}

// remove takes w out of its line.
func (g *Gate) remove(l *line, w *waiter) {
	l.waiting.Remove(w.place)
	w.place = nil
	g.stats.Waiting--
	g.takeTurn(l)
}

func (g *Gate) enter(l *line) {
	l.inUse++
	g.stats.InUse++
}

// leaver returns a function that leaves, once.
func (g *Gate) leaver(l *line) func() { return sync.OnceFunc(func() { g.leave(l) }) }

func (g *Gate) leave(l *line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.inUse--
	g.stats.InUse--
	g.takeTurn(l)
	g.admit()
	g.tidy(l)
}

// line finds or makes the line of key.
func (g *Gate) line(key string) *line {
	l := g.lines[key]
	if l == nil {
		if g.lines == nil {
			g.lines = map[string]*line{}
		}
		l = &line{key: key}
		g.lines[key] = l
	}
	return l
}

// tidy forgets l if nobody is in it.
func (g *Gate) tidy(l *line) {
	if l.inUse == 0 && l.waiting.Len() == 0 {
		delete(g.lines, l.key)
	}
}
