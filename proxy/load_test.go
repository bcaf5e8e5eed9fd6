package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edge/blocklog"
	"edge/config"
	"edge/internal/strictyaml"
	"edge/overload"
	"edge/rules"
)

// bulkheads sets what the app of e may have under way, and whom it tells apart.
func (e *edge) bulkheads(c config.Concurrency) {
	a := e.current.Load().exact["hr.test"]
	a.concurrency, a.tenant.Known = c, []string{"acme", "globex"}
}

// ask sends a request for a tenant, and returns nil where the client has left.
func (e *edge) ask(ctx context.Context, tenant, path, body string) *http.Response {
	e.t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Error(err)
		return nil
	}
	if req.Host = tenant + ".hr.test"; body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	e.t.Cleanup(func() { res.Body.Close() })
	return res
}

// until waits for what is so in the end.
func (e *edge) until(what string, so func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("not in time: %s; %+v", what, e.Load())
		}
	}
}

// A tenant all of whose requests hang leaves the others alone, and is told to come
// again later when too many of its own are waiting.
func TestHangingTenant(t *testing.T) {
	var hanging atomic.Int64
	release := make(chan struct{})
	e := start(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			hanging.Add(1)
			<-release
		}
	}, rules.Off)
	e.bulkheads(config.Concurrency{App: 300, Tenant: 250, Queue: 50, Wait: strictyaml.Duration(time.Hour)})
	var all sync.WaitGroup
	var refused, served atomic.Int64
	for range 300 {
		all.Go(func() {
			switch res := e.ask(t.Context(), "acme", "/hang", ""); {
			case res == nil:
			case res.StatusCode == http.StatusOK:
				served.Add(1)
			default:
				refused.Add(1)
			}
		})
	}
	e.until("250 hang and 50 wait", func() bool { return hanging.Load() == 250 && e.Load()["hr"].Waiting == 50 })
	for range 20 {
		if res := e.ask(t.Context(), "globex", "/", ""); res == nil || res.StatusCode != http.StatusOK {
			t.Fatal("another tenant is not served while the first hangs")
		}
	}
	res := e.ask(t.Context(), "acme", "/", "")
	if res == nil || res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "3600" {
		t.Fatalf("one more of the first: %+v", res)
	}
	if events := e.events(res.Header.Get("X-Request-Id")); len(events) != 1 || events[0].Edge.Stage != blocklog.StageLoad ||
		events[0].Edge.Reason != blocklog.ReasonOverload || events[0].Edge.Action != blocklog.Fail || events[0].Edge.Tenant != "acme" {
		t.Errorf("events %+v", events)
	}
	close(release)
	all.Wait()
	if served.Load() != 300 || refused.Load() != 0 {
		t.Errorf("%d served, %d refused", served.Load(), refused.Load())
	}
	e.until("everybody has left", func() bool { return e.Load()["hr"] == overload.Stats{Refused: 1} })
}

// Who leaves while waiting gives up the place in the line, and is no news; who is
// there for the time allowed is told to come later; detect only takes notes.
func TestWaitingForAPlace(t *testing.T) {
	release := make(chan struct{})
	e := start(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-release
		}
	}, rules.Off)
	limits := config.Concurrency{App: 1, Tenant: 1, Queue: 1, Wait: strictyaml.Duration(time.Hour)}
	e.bulkheads(limits)
	var all sync.WaitGroup
	defer all.Wait()
	defer close(release)
	all.Go(func() { e.ask(t.Context(), "acme", "/hang", "") })
	e.until("one hangs", func() bool { return e.Load()["hr"].InUse == 1 })
	ctx, leave := context.WithCancel(t.Context())
	all.Go(func() { e.ask(ctx, "acme", "/", "") })
	e.until("one waits", func() bool { return e.Load()["hr"].Waiting == 1 })
	leave()
	e.until("nobody waits", func() bool { return e.Load()["hr"].Waiting == 0 })
	limits.Wait = strictyaml.Duration(time.Millisecond)
	e.bulkheads(limits)
	if res := e.ask(t.Context(), "acme", "/", ""); res == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("after the time allowed: %+v", res)
	}
	limits.Mode = config.LoadDetect
	e.bulkheads(limits)
	res := e.ask(t.Context(), "acme", "/", "")
	if res == nil || res.StatusCode != http.StatusOK {
		t.Fatalf("in detect: %+v", res)
	}
	events := e.events(res.Header.Get("X-Request-Id"))
	if len(events) != 2 || events[1].Edge.Action != blocklog.Detect || events[1].Edge.Reason != blocklog.ReasonOverload {
		t.Errorf("events %+v", events)
	}
}

// An event stream counts until it has begun.
func TestStreamsTakeNoPlace(t *testing.T) {
	release := make(chan struct{})
	e := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			<-release
		}
	}, rules.Off)
	defer close(release)
	e.bulkheads(config.Concurrency{App: 1, Tenant: 1, Queue: 1, Wait: strictyaml.Duration(time.Second)})
	for range 3 {
		if res := e.ask(t.Context(), "acme", "/stream", ""); res == nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%+v", res)
		}
	}
}

// Large bodies wait for one another and keep no small ones waiting. Without a place
// nothing is forwarded uninspected, but in detect mode everything is.
func TestInspectionLanes(t *testing.T) {
	for _, mode := range []rules.Mode{rules.Block, rules.Detect} {
		t.Run(string(mode), func(t *testing.T) {
			var seen atomic.Int64
			e := start(t, func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				seen.Add(1)
			}, mode)
			e.current.Load().exact["hr.test"].maxBody = 64 << 10
			e.load.lanes.heavy = overload.Limits{Slots: 1, Queue: 0}
			attack := "q=<script>alert(1)</script>&note=" + strings.Repeat("x", lightBody)
			leave, err := e.load.heavy.Enter(t.Context(), "hr/other", e.load.lanes.heavy)
			if err != nil {
				t.Fatal(err)
			}
			for _, body := range []string{"", "note=hello"} {
				if res := e.ask(t.Context(), "acme", "/", body); res == nil || res.StatusCode != http.StatusOK {
					t.Errorf("a small body: %+v", res)
				}
			}
			seen.Store(0)
			res := e.ask(t.Context(), "acme", "/", attack)
			if res == nil {
				t.Fatal("no answer")
			}
			events := e.events(res.Header.Get("X-Request-Id"))
			if len(events) != 1 || events[0].Edge.Stage != blocklog.StageLoad || events[0].Edge.Reason != blocklog.ReasonOverload {
				t.Errorf("events %+v", events)
			}
			want, action, forwarded := http.StatusServiceUnavailable, blocklog.Fail, int64(0)
			if mode == rules.Detect {
				want, action, forwarded = http.StatusOK, blocklog.Detect, 1
			}
			if res.StatusCode != want || events[0].Edge.Action != action || seen.Load() != forwarded {
				t.Errorf("status %d, %s, seen %d times", res.StatusCode, events[0].Edge.Action, seen.Load())
			}
			if retry := res.Header.Get("Retry-After"); (retry != "") != (mode == rules.Block) {
				t.Errorf("Retry-After %q", retry)
			}
			leave()
			res = e.ask(t.Context(), "acme", "/", attack)
			if events := e.events(res.Header.Get("X-Request-Id")); len(events) != 2 || events[1].Edge.Reason != blocklog.ReasonWAFScore {
				t.Errorf("when there is room: %d, %+v", res.StatusCode, events)
			}
		})
	}
}

func TestLanes(t *testing.T) {
	for processors, want := range map[int][2]int{1: {2, 1}, 2: {4, 1}, 8: {16, 4}} {
		if l := newLanes(processors); l.light.Slots != want[0] || l.heavy.Slots != want[1] {
			t.Errorf("%d processors: %d light, %d heavy", processors, l.light.Slots, l.heavy.Slots)
		}
	}
}
