// Package ratelimit counts requests against limits.
//
// A [Limit] is policy and travels with every call; a [Store] holds only the
// state that belongs to a key, so a reload that changes a limit has nothing to
// migrate. Which request counts against which key is the caller's business.
package ratelimit

import (
	"container/list"
	"context"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limit is a token bucket's policy.
type Limit struct {
	Rate  float64 // tokens a second
	Burst int     // tokens the bucket holds, at least 1
}

// Draw is one token of one bucket.
type Draw struct {
	Key   string
	Limit Limit
}

// Result is the answer to one request.
type Result struct {
	Allowed    bool
	Refused    int           // which draw was refused, the first if there are several
	RetryAfter time.Duration // until that bucket has a token; 0 when allowed
}

// Store keeps the buckets. Take makes all of draws as of now, or, if one of the
// buckets is empty, none: a refused request costs nothing. A bucket that is new
// is made, full; one whose limit has changed is re-tuned. Take is safe for
// concurrent use. An error means that the store could not tell; it is the caller
// who decides what follows.
type Store interface {
	Take(ctx context.Context, draws []Draw, now time.Time) (Result, error)
}

const shards = 16

// Memory is a Store in this process. Keys come from clients, so it holds a fixed
// number of buckets: past that, the bucket not used for longest is forgotten,
// which at worst lets its key start again with a full one.
type Memory struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu     sync.Mutex
	cap    int
	byKey  map[string]*list.Element
	recent list.List // of *bucket, the latest used in front
}

type bucket struct {
	key string
	lim *rate.Limiter
}

var _ Store = (*Memory)(nil)

// NewMemory returns a Memory that holds at least capacity buckets, each some
// 300 bytes beside its key.
func NewMemory(capacity int) *Memory {
	m := &Memory{seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].cap = (capacity + shards - 1) / shards
		m.shards[i].byKey = map[string]*list.Element{}
	}
	return m
}

// Take implements Store. It never returns an error. Of several draws that
// contend with others for the last token, some may be made though one is refused.
func (m *Memory) Take(_ context.Context, draws []Draw, now time.Time) (Result, error) {
	limiters := make([]*rate.Limiter, len(draws))
	for i, d := range draws {
		limiters[i] = m.shards[maphash.String(m.seed, d.Key)%shards].limiter(d.Key, d.Limit, now)
		if missing := 1 - limiters[i].TokensAt(now); missing > 0 && len(draws) > 1 {
			return refused(i, missing, d.Limit), nil
		}
	}
	for i, lim := range limiters {
		if !lim.AllowN(now, 1) {
			return refused(i, 1-lim.TokensAt(now), draws[i].Limit), nil
		}
	}
	return Result{Allowed: true}, nil
}

// refused answers for a bucket that lacks part of a token.
func refused(i int, missing float64, l Limit) Result {
	return Result{Refused: i, RetryAfter: max(1, time.Duration(missing/l.Rate*float64(time.Second)))}
}

// limiter finds or makes the limiter of key, tuned to limit.
func (s *shard) limiter(key string, limit Limit, now time.Time) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	el, ok := s.byKey[key]
	if !ok {
		if s.recent.Len() >= s.cap {
			oldest := s.recent.Back()
			delete(s.byKey, s.recent.Remove(oldest).(*bucket).key)
		}
		el = s.recent.PushFront(&bucket{key, rate.NewLimiter(rate.Limit(limit.Rate), limit.Burst)})
		s.byKey[key] = el
		return el.Value.(*bucket).lim
	}
	s.recent.MoveToFront(el)
	lim := el.Value.(*bucket).lim
	if lim.Limit() != rate.Limit(limit.Rate) || lim.Burst() != limit.Burst {
		lim.SetLimitAt(now, rate.Limit(limit.Rate))
		lim.SetBurstAt(now, limit.Burst)
	}
	return lim
}
