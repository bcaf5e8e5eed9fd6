package overload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// enter waits for a place in the background and says what came of it.
func enter(ctx context.Context, g *Gate, key string, want Limits, then func(leave func(), err error)) {
	go func() { then(g.Enter(ctx, key, want)) }()
	synctest.Wait() // so that lines are in the order of the calls
}

func must(t *testing.T, g *Gate, key string, want Limits) (leave func()) {
	t.Helper()
	leave, err := g.Enter(t.Context(), key, want)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func expect(t *testing.T, g *Gate, want Stats) {
	t.Helper()
	if got := g.Now(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Keys take turns, however many of one are waiting.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		var order []string
		want := Limits{Slots: 1, Queue: 1000, Wait: time.Hour}
		first := must(t, &g, "noisy", want)
		wait := func(key string) {
			enter(t.Context(), &g, key, want, func(leave func(), err error) {
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, key)
				leave()
			})
		}
		for range 500 {
			wait("noisy")
		}
		wait("quiet")
		wait("quiet")
		wait("calm")
		expect(t, &g, Stats{InUse: 1, Waiting: 503})
		first()
		synctest.Wait()
		if got := order[:6]; !slices.Equal(got, []string{"noisy", "quiet", "calm", "noisy", "quiet", "noisy"}) || len(order) != 503 {
			t.Errorf("%d entered, first %q", len(order), got)
		}
		expect(t, &g, Stats{})
		if len(g.lines) > 0 || g.turns.Len() > 0 {
			t.Errorf("%d keys are remembered", len(g.lines))
		}
	})
}

// A key at its own limit waits for itself, and keeps nobody from free places.
func TestPerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		want := Limits{Slots: 10, PerKey: 2, Queue: 5, Wait: time.Second}
		a := must(t, &g, "a", want)
		must(t, &g, "a", want)
		entered := false
		enter(t.Context(), &g, "a", want, func(_ func(), err error) { entered = err == nil })
		must(t, &g, "b", want)
		if expect(t, &g, Stats{InUse: 3, Waiting: 1}); entered {
			t.Error("a third was let in")
		}
		a()
		a() // again, which is nothing
		synctest.Wait()
		if expect(t, &g, Stats{InUse: 3}); !entered {
			t.Error("the third was not let in when one had left")
		}
	})
}

// The line is bounded in length and in time, and who leaves it has left it.
func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		var errs []error
		note := func(_ func(), err error) { errs = append(errs, err) }
		want := Limits{Slots: 1, Queue: 2, Wait: time.Second}
		leave := must(t, &g, "a", want)
		enter(t.Context(), &g, "a", want, note)
		ctx, cancel := context.WithCancel(t.Context())
		enter(ctx, &g, "a", want, note)
		enter(t.Context(), &g, "a", want, note)
		cancel()
		synctest.Wait()
		if !slices.Equal(errs, []error{ErrFull, context.Canceled}) {
			t.Errorf("%v", errs)
		}
		expect(t, &g, Stats{InUse: 1, Waiting: 1, Refused: 1})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(errs) != 3 || !errors.Is(errs[2], ErrWait) {
			t.Errorf("%v", errs)
		}
		expect(t, &g, Stats{InUse: 1, Refused: 2})
		if _, err := g.Enter(ctx, "a", want); !errors.Is(err, context.Canceled) {
			t.Errorf("somebody who has left: %v", err)
		}
		leave()
		must(t, &g, "a", want)()
		if expect(t, &g, Stats{Refused: 2}); len(g.lines) > 0 {
			t.Errorf("%d keys are remembered", len(g.lines))
		}
	})
}

// A line that is full of one key's still has room for another's.
func TestFullOfOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		want := Limits{Slots: 1, Queue: 10, Wait: time.Hour}
		leave := must(t, &g, "noisy", want)
		full := 0
		for range 10 {
			enter(t.Context(), &g, "noisy", want, func(leave func(), err error) {
				if errors.Is(err, ErrFull) {
					full++
				} else {
					leave()
				}
			})
		}
		served := false
		enter(t.Context(), &g, "quiet", want, func(leave func(), err error) {
			if served = err == nil; served {
				leave()
			}
		})
		if _, err := g.Enter(t.Context(), "noisy", want); !errors.Is(err, ErrFull) || full != 1 {
			t.Errorf("%v, %d pushed out", err, full)
		}
		leave()
		if synctest.Wait(); !served {
			t.Error("the quiet one was not served")
		}
		expect(t, &g, Stats{Refused: 2})
	})
}

// New limits hold for who enters from now on.
func TestLimitsTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		must(t, &g, "a", Limits{Slots: 1})
		must(t, &g, "a", Limits{Slots: 2})
		if _, err := g.Enter(t.Context(), "a", Limits{Slots: 1}); !errors.Is(err, ErrFull) {
			t.Error(err)
		}
		must(t, &g, "a", Limits{Slots: 3})()
	})
}

// Whatever happens, in the end everybody has been told, nobody is inside, and
// there were never more than the limits allow.
func TestNoLostPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		var all sync.WaitGroup
		var mu sync.Mutex
		inside := map[string]int{}
		want := Limits{Slots: 5, PerKey: 3, Queue: 40, Wait: 50 * time.Millisecond}
		for i := range 2000 {
			all.Go(func() {
				time.Sleep(rand.N(400 * time.Millisecond))
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(100*time.Millisecond))
				defer cancel()
				key := fmt.Sprint(i % 7)
				leave, err := g.Enter(ctx, key, want)
				if err != nil {
					return
				}
				mu.Lock()
				inside[key]++
				inside["all"]++
				if inside[key] > want.PerKey || inside["all"] > want.Slots {
					t.Errorf("%d of %s, %d in all", inside[key], key, inside["all"])
				}
				mu.Unlock()
				time.Sleep(rand.N(5 * time.Millisecond))
				mu.Lock()
				inside[key]--
				inside["all"]--
				mu.Unlock()
				leave()
			})
		}
		all.Wait()
		if s := g.Now(); s.InUse != 0 || s.Waiting != 0 || s.Refused == 0 {
			t.Errorf("%+v", s)
		}
		if len(g.lines) > 0 || g.turns.Len() > 0 {
			t.Errorf("%d keys, %d turns are left", len(g.lines), g.turns.Len())
		}
	})
}

// A gate beside what it is more than: a plain semaphore, which knows no keys.
func BenchmarkGate(b *testing.B) {
	want := Limits{Slots: 64, PerKey: 32, Queue: 10_000, Wait: time.Minute}
	for _, keys := range []int{1, 100} {
		b.Run(fmt.Sprintf("gate_%d_keys", keys), func(b *testing.B) {
			var g Gate
			names := make([]string, keys)
			for i := range names {
				names[i] = fmt.Sprint(i)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					leave, err := g.Enter(context.Background(), names[i%keys], want)
					if err != nil {
						b.Error(err)
						return
					}
					leave()
				}
			})
		})
	}
	b.Run("semaphore", func(b *testing.B) {
		slots := make(chan struct{}, want.Slots)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				slots <- struct{}{}
				<-slots
			}
		})
	})
}
