package listen

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// What an HTTP/2 connection may have reset in a minute. A stream that is reset
// makes room for the next at once, so the limit on concurrent streams does not
// bound what a client can have begun; this does (CVE-2023-44487, and
// CVE-2025-8671, in which the client makes the server do it). People who leave
// pages reset streams too, hence both numbers.
const (
	maxResets    = 100 // requests
	resetsPerAll = 2   // a connection is cut if more than one in two was reset
	resetsWindow = time.Minute
)

// endTimeout is how long an HTTP/2 client may take to take the last of an answer,
// which it can put off for ever by keeping its window closed.
const endTimeout = 60 * time.Second

// budget is what one connection has had reset.
type budget struct {
	conn *tls.Conn

	mu          sync.Mutex
	since       time.Time
	all, resets int
	spent       bool
}

type budgetKey struct{}

// withBudget gives an HTTP/2 connection its budget, in the context of its requests.
func withBudget(ctx context.Context, c net.Conn) context.Context {
	if h2, ok := c.(*tls.Conn); ok {
		return context.WithValue(ctx, budgetKey{}, &budget{conn: h2})
	}
	return ctx
}

// over counts a request that has ended and reports whether the connection has
// used up its budget with it, the first time that is so.
func (b *budget) over(reset bool, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) > resetsWindow {
		b.since, b.all, b.resets = now, 0, 0
	}
	b.all++
	if reset {
		b.resets++
	}
	if b.spent || b.resets <= maxResets || b.resets*resetsPerAll <= b.all {
		return false
	}
	b.spent = true
	return true
}

// guarded serves HTTP/2 requests within what their connection may have reset and
// the time it may take for the end of an answer. A context that is over when its
// handler returns belongs to a stream that was reset, or to a connection that has
// ended already.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := r.Context().Value(budgetKey{}).(*budget)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		defer func() {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(endTimeout)) // net/http's own, which supports it
			if b.over(r.Context().Err() != nil, time.Now()) {
				s.faults.count("too_many_resets")
				s.logger.Debug("connection cut: most of its requests were reset", zap.Stringer("client", b.conn.RemoteAddr()))
				_ = b.conn.NetConn().Close() // the client is not told: it would not listen
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// faults counts what HTTP/2 clients did wrong, by the words of net/http.
type faults struct {
	mu     sync.Mutex
	counts map[string]uint64
}

// maxFaults bounds the words. There are fewer, all of them in net/http's source.
const maxFaults = 100

func (f *faults) count(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.counts[what]; !ok && len(f.counts) >= maxFaults {
		what = "other"
	}
	f.counts[what]++
}

// HTTP2Faults returns how often HTTP/2 clients broke the protocol, by what they
// did: the words are net/http's, and "too_many_resets". They are for people; a
// new release of Go may change them.
func (s *Server) HTTP2Faults() map[string]uint64 {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return maps.Clone(s.faults.counts)
}
