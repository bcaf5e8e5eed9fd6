package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"edge/rules"
)

// crowd is a Crowd on a clock of its own.
type crowd struct {
	*Crowd
	now  time.Time
	logs *observer.ObservedLogs
}

func newCrowd() *crowd {
	core, logs := observer.New(zap.InfoLevel)
	return &crowd{NewCrowd(zap.New(core)), time.Date(2027, 3, 1, 3, 0, 0, 0, time.UTC), logs}
}

// minute lets a minute go by in which f makes requests.
func (c *crowd) minute(f func()) {
	f()
	c.now = c.now.Add(crowdWindow)
	c.note(netip.MustParseAddr("192.0.2.1"), true, nil, c.now) // somebody trusted, so that the window ends
}

// send makes n requests of peer; with a header, each with a value of its own.
func (c *crowd) send(n int, peer, header string) {
	for i := range n {
		h := http.Header{}
		if header != "" {
			h.Set(header, fmt.Sprintf("1.2.3.4, 198.51.100.%d", i%50))
		}
		c.note(netip.MustParseAddr(peer), false, h, c.now)
	}
}

// visitors makes n others call directly, from all over the internet.
func (c *crowd) visitors(n int) {
	for i := range n {
		c.send(1, fmt.Sprintf("20.%d.0.1", i), "")
	}
}

func (c *crowd) warnings() (all []string) {
	for _, e := range c.logs.All() {
		if e.Level == zap.WarnLevel {
			all = append(all, e.Message)
		}
	}
	return all
}

func TestCrowd(t *testing.T) {
	const lb, cdn, evil = "10.1.2.3", "203.0.113.7", "203.0.113.66"
	for _, c := range []struct {
		name    string
		windows int
		traffic func(*crowd)
		suspect string // or ""
	}{
		{"balancer", 1, func(c *crowd) { c.send(300, lb, "X-Forwarded-For") }, lb},
		{"two_of_three", 1, func(c *crowd) { c.send(100, lb, "X-Forwarded-For"); c.send(150, "10.1.2.4", "X-Forwarded-For") }, lb},
		{"translation", 1, func(c *crowd) { c.send(300, "172.17.0.1", "") }, "172.17.0.1"},
		{"loopback", 1, func(c *crowd) { c.send(300, "127.0.0.1", "") }, "127.0.0.1"},
		{"carrier", 1, func(c *crowd) { c.send(300, "100.64.0.9", "") }, "100.64.0.9"},
		{"ipv6_local", 1, func(c *crowd) { c.send(300, "fd00::1", "Forwarded") }, "fd00::1"},
		{"too_few", 1, func(c *crowd) { c.send(150, lb, "X-Forwarded-For") }, ""},
		{"few_but_often", 2, func(c *crowd) { c.send(150, lb, "X-Forwarded-For") }, lb},
		{"not_most", 1, func(c *crowd) { c.send(300, lb, "X-Forwarded-For"); c.visitors(100) }, ""},
		{"four", 1, func(c *crowd) {
			for i := range 4 {
				c.send(100, fmt.Sprintf("10.0.0.%d", i), "X-Forwarded-For")
			}
		}, ""},
		{"cdn_at_once", 2, func(c *crowd) { c.send(300, cdn, "X-Forwarded-For") }, ""},
		{"cdn", 3, func(c *crowd) { c.send(300, cdn, "X-Forwarded-For") }, cdn},
		{"cdn_via", 3, func(c *crowd) { c.send(300, cdn, "Via") }, cdn},
		{"busy_client", 9, func(c *crowd) { c.send(300, evil, "") }, ""},
		{"one_value", 9, func(c *crowd) {
			for range 300 {
				c.note(netip.MustParseAddr(evil), false, http.Header{"X-Forwarded-For": {"1.2.3.4"}}, c.now)
			}
		}, ""},
		{"some_with", 9, func(c *crowd) { c.send(200, evil, "X-Forwarded-For"); c.send(100, evil, "") }, ""},
		// An attacker who sends the header while people call directly is no proxy.
		{"spoofing_by_day", 9, func(c *crowd) { c.send(5000, evil, "X-Forwarded-For"); c.visitors(crowdCallers) }, ""},
		{"spoofing_inside", 9, func(c *crowd) {
			c.send(5000, "10.9.9.9", "X-Forwarded-For")
			for i := range crowdCallers {
				c.send(1, fmt.Sprintf("10.0.0.%d", i), "")
			}
		}, ""},
		// The probes of a balancer, all from its network, are not people.
		{"probes", 3, func(c *crowd) {
			c.send(300, cdn, "X-Forwarded-For")
			for i := range 40 {
				c.send(1, fmt.Sprintf("35.191.0.%d", i), "")
			}
		}, cdn},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newCrowd()
			for range c.windows {
				w.minute(func() { c.traffic(w) })
			}
			if c.suspect == "" {
				if got := w.Collapsed(); len(got) > 0 || len(w.warnings()) > 0 {
					t.Errorf("%v %q", got, w.warnings())
				}
				return
			}
			said := strings.Join(w.warnings(), "\n")
			if addr := netip.MustParseAddr(c.suspect); !w.Suspect(addr) || !strings.Contains(said, c.suspect) || w.Suspect(netip.MustParseAddr("203.0.113.250")) {
				t.Errorf("%v %q", w.Collapsed(), said)
			}
		})
	}
}

// By night, when nobody else is there, an attacker who was seen among visitors by
// day is still none.
func TestCrowdRemembersVisitors(t *testing.T) {
	c := newCrowd()
	c.minute(func() { c.send(200, "198.51.100.7", ""); c.visitors(20) })
	for range 60 {
		c.minute(func() { c.send(300, "203.0.113.66", "X-Forwarded-For") })
	}
	if len(c.Collapsed()) > 0 {
		t.Errorf("%v", c.Collapsed())
	}
	c.now = c.now.Add(crowdMemory)
	for range 4 {
		c.minute(func() { c.send(300, "203.0.113.66", "X-Forwarded-For") })
	}
	if len(c.Collapsed()) != 1 {
		t.Errorf("after a day without visitors: %v", c.Collapsed())
	}
}

// It is said once and then hourly, lasts an hour longer than what it comes from, and
// ends at once when the proxy is trusted.
func TestCrowdEnds(t *testing.T) {
	const lb = "10.1.2.3"
	c := newCrowd()
	for range 61 {
		c.minute(func() { c.send(300, lb, "X-Forwarded-For") })
	}
	want := "most requests come from 10.1.2.3, which sends X-Forwarded-For but is not in client_ip.trusted_proxies; bans for it are held back"
	if got := c.warnings(); len(got) != 2 || !strings.HasPrefix(got[0], want) {
		t.Errorf("%q", got)
	}
	c.minute(func() { c.send(300, lb, "X-Forwarded-For"); c.visitors(250) }) // many others: it may have been the flood of an attacker
	if !c.Suspect(netip.MustParseAddr("::ffff:10.1.2.3")) {
		t.Error("one window ends it")
	}
	for range 60 {
		c.minute(func() { c.visitors(250) })
	}
	if len(c.Collapsed()) > 0 || len(c.warnings()) != 2 {
		t.Errorf("after an hour: %v %q", c.Collapsed(), c.warnings())
	}

	c = newCrowd()
	c.minute(func() { c.send(300, lb, "") })
	c.note(netip.MustParseAddr(lb), true, http.Header{}, c.now)
	if len(c.Collapsed()) > 0 || c.Suspect(netip.MustParseAddr(lb)) {
		t.Errorf("trusted, and still suspect: %v", c.Collapsed())
	}
}

// Whatever comes, memory does not grow, and who makes most is not lost among them.
func TestCrowdIsBounded(t *testing.T) {
	c := newCrowd()
	for i := range 100_000 {
		a := rand.Uint32()
		c.note(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), false, nil, c.now)
		c.send(6, "10.1.2.3", "X-Forwarded-For")
		if i%1000 == 0 {
			for j := range c.shards {
				if n := len(c.shards[j].peers); n > crowdShard {
					t.Fatalf("%d peers in a shard", n)
				}
			}
		}
	}
	total, peers := c.take()
	if total != 700_000 || !peers[netip.MustParseAddr("10.1.2.3")].forwards() || peers[netip.MustParseAddr("10.1.2.3")].requests < 560_000 {
		t.Errorf("%d requests, %+v", total, peers[netip.MustParseAddr("10.1.2.3")])
	}
	if n := len(c.callers[0]) + len(c.callers[1]); n > 4*crowdCallers {
		t.Errorf("%d callers", n)
	}
}

func TestCrowdConcurrently(t *testing.T) {
	c := newCrowd()
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 5000 {
				now := c.now.Add(time.Duration(i) * 100 * time.Millisecond)
				c.note(netip.MustParseAddr("10.1.2.3"), g == 3 && i%1000 == 0, http.Header{"X-Forwarded-For": {fmt.Sprint(i)}}, now)
				c.Suspect(netip.MustParseAddr("10.1.2.3"))
			}
		})
	}
	all.Wait()
	if len(c.Collapsed()) > 1 {
		t.Errorf("%v", c.Collapsed())
	}
}

// Beside one lock around one counter, which every request would wait for.
func BenchmarkCrowd(b *testing.B) {
	peer, h, now := netip.MustParseAddr("10.1.2.3"), http.Header{"X-Forwarded-For": {"198.51.100.7"}}, time.Now()
	b.Run("baseline", func(b *testing.B) {
		var mu sync.Mutex
		counts := map[netip.Addr]int{}
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				mu.Lock()
				counts[peer]++
				mu.Unlock()
			}
		})
	})
	for name, header := range map[string]http.Header{"forwarded": h, "direct": {}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			c := NewCrowd(zap.NewNop())
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c.note(peer, false, header, now)
				}
			})
		})
	}
	b.Run("flood", func(b *testing.B) {
		b.ReportAllocs()
		c := NewCrowd(zap.NewNop())
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				a := rand.Uint32()
				c.note(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), false, nil, now)
			}
		})
	})
}

// Every request that an app is asked is counted, and requests for nobody are not.
func TestServerAsksTheCrowd(t *testing.T) {
	e := start(t, func(http.ResponseWriter, *http.Request) {}, rules.Off)
	ask := func(host string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host, r.RemoteAddr = host, "[::ffff:10.1.2.3]:4711"
		e.ServeHTTP(httptest.NewRecorder(), r)
	}
	for range crowdRequests - 1 {
		ask("hr.test")
		ask("nobody.test")
	}
	e.Crowd().due.Store(1) // long ago
	ask("nobody.test")
	if e.Crowd().Suspect(netip.MustParseAddr("10.1.2.3")) {
		t.Error("requests for nobody count")
	}
	ask("hr.test")
	if !e.Crowd().Suspect(netip.MustParseAddr("10.1.2.3")) {
		t.Error("it notices nothing")
	}
}
