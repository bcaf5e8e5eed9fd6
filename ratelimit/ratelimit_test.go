package ratelimit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

var epoch = time.Date(2027, 3, 1, 9, 0, 0, 0, time.UTC)

func take(t *testing.T, s Store, key string, l Limit, now time.Time) Result {
	t.Helper()
	r, err := s.Take(context.Background(), []Draw{{key, l}}, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBucket(t *testing.T) {
	m := NewMemory(100)
	l := Limit{Rate: 2, Burst: 3}
	for i := range 3 {
		if r := take(t, m, "a", l, epoch); !r.Allowed || r.RetryAfter != 0 {
			t.Fatalf("request %d: %+v", i, r)
		}
	}
	for range 5 { // a refused request does not push the next one further away
		if r := take(t, m, "a", l, epoch); r.Allowed || r.RetryAfter != 500*time.Millisecond {
			t.Fatalf("over the limit: %+v", r)
		}
	}
	if r := take(t, m, "b", l, epoch); !r.Allowed {
		t.Error("keys share a bucket")
	}
	if r := take(t, m, "a", l, epoch.Add(500*time.Millisecond)); !r.Allowed {
		t.Error("no token after its time")
	}
}

// A request that one limit refuses costs nothing of the others.
func TestAllOrNothing(t *testing.T) {
	m := NewMemory(100)
	both := []Draw{{"tenant", Limit{0.001, 5}}, {"client", Limit{0.001, 2}}}
	for i := range 6 {
		r, err := m.Take(context.Background(), both, epoch)
		if err != nil || r.Allowed != (i < 2) || !r.Allowed && r.Refused != 1 {
			t.Fatalf("request %d: %+v, %v", i, r, err)
		}
	}
	for i := range 4 {
		if r := take(t, m, "tenant", both[0].Limit, epoch); r.Allowed != (i < 3) {
			t.Errorf("the tenant's request %d: %+v", i, r)
		}
	}
}

// Changing a limit re-tunes the bucket and does not fill it.
func TestRetune(t *testing.T) {
	m := NewMemory(100)
	for range 3 {
		take(t, m, "a", Limit{1, 3}, epoch)
	}
	if r := take(t, m, "a", Limit{10, 30}, epoch); r.Allowed || r.RetryAfter != 100*time.Millisecond {
		t.Errorf("%+v", r)
	}
}

// A flood of keys stays within capacity.
func TestBounded(t *testing.T) {
	m := NewMemory(160)
	for i := range 10_000 {
		take(t, m, fmt.Sprint(i), Limit{1, 1}, epoch)
	}
	held := 0
	for i := range m.shards {
		held += len(m.shards[i].byKey)
		if len(m.shards[i].byKey) != m.shards[i].recent.Len() {
			t.Error("map and list differ")
		}
	}
	if held > 160 {
		t.Errorf("%d buckets", held)
	}
}

// Concurrent requests together get no more than the bucket holds.
func TestConcurrent(t *testing.T) {
	m := NewMemory(10)
	var allowed atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if r, _ := m.Take(context.Background(), []Draw{{"a", Limit{0.001, 20}}}, epoch); r.Allowed {
				allowed.Add(1)
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 20 {
		t.Errorf("%d of 50 allowed", allowed.Load())
	}
}

func BenchmarkTake(b *testing.B) {
	m, now := NewMemory(1000), time.Now()
	draws := []Draw{{"hr/api/acme", Limit{1e9, 1e9}}}
	for b.Loop() {
		_, _ = m.Take(context.Background(), draws, now)
	}
}

func BenchmarkBareLimiter(b *testing.B) {
	l, now := rate.NewLimiter(1e9, 1e9), time.Now()
	for b.Loop() {
		l.AllowN(now, 1)
	}
}
