package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"sync"
	"time"

	"edge/blocklog"
	"edge/config"
	"edge/overload"
	"edge/rules"
)

// lightBody is how long a body is that costs the WAF no more than a head does.
const lightBody = 4 << 10

// lanes are what inspections have of the processors. Large bodies have their own,
// and never all of them, so that requests that are cheap to inspect, which is
// nearly all there are, do not wait for those that are not.
type lanes struct{ light, heavy overload.Limits }

func newLanes(processors int) lanes {
	return lanes{
		light: overload.Limits{Slots: 2 * processors, Queue: 1000, Wait: 5 * time.Second},
		heavy: overload.Limits{Slots: max(1, processors/2), Queue: 100, Wait: 20 * time.Second},
	}
}

// detectWait is for how long an inspection waits that only takes notes.
const detectWait = 100 * time.Millisecond

// load is who is where. It outlives every reload.
type load struct {
	lanes        lanes
	light, heavy overload.Gate

	mu   sync.Mutex
	apps map[string]*overload.Gate // by name
}

func newLoad() *load {
	return &load{lanes: newLanes(runtime.GOMAXPROCS(0)), apps: map[string]*overload.Gate{}}
}

// app is the gate of the app called name.
func (l *load) app(name string) *overload.Gate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.apps[name] == nil {
		l.apps[name] = &overload.Gate{}
	}
	return l.apps[name]
}

// Load returns who is in use of what and who is waiting for it: requests under way
// by the name of their app, and inspections as "inspection/light" and
// "inspection/heavy".
func (s *Server) Load() map[string]overload.Stats {
	s.load.mu.Lock()
	apps := maps.Clone(s.load.apps)
	s.load.mu.Unlock()
	stats := map[string]overload.Stats{"inspection/light": s.load.light.Now(), "inspection/heavy": s.load.heavy.Now()}
	for name, gate := range apps {
		stats[name] = gate.Now()
	}
	return stats
}

// checkLoad lets so many requests of an app and of each of its tenants be under
// way at once, and has some more wait. It comes after the body, so that who sends
// slowly takes no place from those who have sent. A tenant that is one of one has
// no share.
func (s *Server) checkLoad(x *exchange) (pass blocklog.Decision) {
	c := x.app.concurrency
	if c.App == 0 { // it has not been through config.Load
		return pass
	}
	want := overload.Limits{Slots: c.App, PerKey: c.Tenant, Queue: c.Queue, Wait: time.Duration(c.Wait)}
	if x.tenant == "" || x.app.tenant.From == config.Fixed {
		want.PerKey = 0
	}
	if c.Mode == config.LoadDetect {
		want.Queue = 0
	}
	leave, err := s.load.app(x.app.name).Enter(x.r.Context(), x.tenant, want)
	if err != nil {
		return overloaded(err, c.Mode == config.LoadDetect, want.Wait,
			fmt.Sprintf("as many requests are under way as may be (concurrency: app %d, tenant %d), and %v", c.App, c.Tenant, err))
	}
	x.leave = leave
	return pass
}

// left gives up the place of x, the first time.
func (x *exchange) left() {
	if x.leave != nil {
		x.leave()
		x.leave = nil
	}
}

// overloaded turns what a gate said into a decision.
func overloaded(err error, detect bool, retry time.Duration, detail string) blocklog.Decision {
	d := blocklog.Decision{
		Action: blocklog.Fail, Stage: blocklog.StageLoad, Reason: blocklog.ReasonOverload,
		Status: http.StatusServiceUnavailable, RetryAfter: max(time.Second, retry), Detail: detail,
	}
	switch {
	case !errors.Is(err, overload.ErrFull) && !errors.Is(err, overload.ErrWait):
		d.Reason, d.Status, d.RetryAfter, d.Detail = blocklog.ReasonClientGone, statusClientGone, 0, "the client left before there was room for its request"
	case detect:
		d.Action = blocklog.Detect
	}
	return d
}

// inLane has judge run when there is room for it in the lane of bodies of this
// size. In block mode there is no way around it; in detect mode what finds no room
// soon goes uninspected, and the record says so.
func (x *exchange) inLane(size int64, judge func() blocklog.Decision) blocklog.Decision {
	gate, want, lane := &x.load.light, x.load.lanes.light, "light"
	if size > lightBody {
		gate, want, lane = &x.load.heavy, x.load.lanes.heavy, "heavy"
	}
	ctx, detect := x.r.Context(), x.app.mode == rules.Detect
	if detect {
		ctx, want.Wait = context.WithoutCancel(ctx), detectWait // what a client did is of interest when it has left, too
	}
	leave, err := gate.Enter(ctx, x.app.name+"/"+x.tenant, want)
	if err != nil {
		return overloaded(err, detect, want.Wait, fmt.Sprintf("no room for the inspection of the request (%s lane, %d at once), and %v", lane, want.Slots, err))
	}
	defer leave()
	return judge()
}
