package proxy

import (
	"hash/maphash"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Crowd notices when most requests seem to come from a few addresses because a
// proxy in front of the edge is not in client_ip.trusted_proxies. Then everybody
// is one client, and to shut that one out is to shut out everybody.
//
// It judges a window at a time, of a minute at least and of 200 requests at least.
// Traffic has collapsed when three peers or fewer make 80 % of a window and look
// like proxies: they have a private address, or nearly all they send carries
// X-Forwarded-For, Forwarded or Via with at least five different last values.
//
// Clients choose their headers, and who is suspected is not banned; so a single
// attacker must not come by that cheaply. What he cannot take away is other
// people: where eight have called the edge directly, with none of these headers,
// within a day, nobody becomes suspect, for then there is no proxy that everybody
// comes through. (Private addresses count one by one, public ones by their
// provider's network, so that the probes of a balancer are not people.) And a public
// address has to keep it up for three windows. What is left to him is an edge hardly
// anybody visits: there, 80 % of all requests over three minutes buy an hour without
// a ban, while limits and the WAF still hold, and a warning that names him. The other
// way round, whoever reaches an edge past its proxy from eight networks can keep a
// suspicion from arising, but not end one: that takes an hour without collapse.
//
// Memory is bounded whatever is sent: 8 shards of 64 peers, and 16 callers each way.
type Crowd struct {
	logger   *zap.Logger
	seed     maphash.Seed
	shards   [8]shard
	due      atomic.Int64                // when the window is judged, Unix nanoseconds; 0: there is none yet
	suspects atomic.Pointer[[]Suspicion] // immutable, those who make most first

	mu      sync.Mutex                    // held by whoever judges
	callers [2]map[netip.Prefix]time.Time // who called directly and when last: public, private
	streak  map[netip.Addr]int            // windows in a row in which an address looked suspect
	told    time.Time                     // when the suspicion was last logged
}

// Limits of a Crowd.
const (
	crowdWindow   = time.Minute
	crowdRequests = 200
	crowdPeers    = 3              // how many may make up a crowd
	crowdShare    = 80             // and with how many per cent of the requests
	crowdValues   = 5              // different last values of a proxy's headers
	crowdStreak   = 3              // windows that a public address has to look suspect for
	crowdCallers  = 8              // direct callers; where there are as many, nobody becomes suspect
	crowdMemory   = 24 * time.Hour // for those
	crowdHold     = time.Hour      // how long a suspicion lasts after the last window that confirmed it
	crowdRemind   = time.Hour
	crowdShard    = 64 // peers that a shard tells apart
)

// Suspicion is a peer that seems to be a proxy nobody told the edge about.
type Suspicion struct {
	Peer      netip.Addr `json:"peer"`
	Share     int        `json:"share"`            // of all requests, per cent, when last confirmed
	Header    string     `json:"header,omitempty"` // what it passes clients on in, if it does
	Since     time.Time  `json:"since"`
	Confirmed time.Time  `json:"confirmed"`
}

// Advice says in a sentence what is wrong and what to write.
func (s Suspicion) Advice() string {
	switch s.Header {
	case "X-Forwarded-For":
		return "most requests come from " + s.Peer.String() + ", which sends X-Forwarded-For but is not in client_ip.trusted_proxies; " +
			"bans for it are held back; if it is your proxy, write client_ip: {trusted_proxies: [" + s.Peer.String() + "]}"
	case "":
		return "most requests come from " + s.Peer.String() + ", a private address that does not say whom they are from; bans for it are held back; " +
			"if it is your proxy, let it send X-Forwarded-For and add it to client_ip.trusted_proxies, or the PROXY protocol and add it to listen.proxy_protocol"
	}
	return "most requests come from " + s.Peer.String() + ", which sends " + s.Header + " but is not in client_ip.trusted_proxies; bans for it are held back; " +
		"if it is your proxy, let it send X-Forwarded-For, too, and write client_ip: {trusted_proxies: [" + s.Peer.String() + "]}"
}

// shard counts some of the requests of a window. Which ones is chance, so that
// requests of one peer do not wait for each other.
type shard struct {
	mu    sync.Mutex
	total int
	peers map[netip.Addr]*tally
	_     [40]byte // keeps shards off each other's cache lines
}

// tally is what one peer did in a window.
type tally struct {
	requests  int
	forwarded int                 // of them, those with a proxy's header
	header    string              // the last of those
	values    [crowdValues]uint64 // hashes of different last values, as many as it takes
}

// NewCrowd returns a Crowd that has seen nobody, and tells logger what it notices.
func NewCrowd(logger *zap.Logger) *Crowd {
	c := &Crowd{logger: logger, seed: maphash.MakeSeed(), streak: map[netip.Addr]int{}}
	for i := range c.callers {
		c.callers[i] = map[netip.Prefix]time.Time{}
	}
	c.suspects.Store(&[]Suspicion{})
	return c
}

// Suspect says that addr seems to stand for many clients, so that it should not be
// shut out.
func (c *Crowd) Suspect(addr netip.Addr) bool {
	addr = addr.Unmap()
	return slices.ContainsFunc(c.Collapsed(), func(s Suspicion) bool { return s.Peer == addr })
}

// Collapsed returns who is suspected, those with the most requests first; not nil.
// It is not to be changed.
func (c *Crowd) Collapsed() []Suspicion { return *c.suspects.Load() }

// note counts a request of peer, which is a trusted proxy or is not.
func (c *Crowd) note(peer netip.Addr, trusted bool, h http.Header, now time.Time) {
	var header string
	var value uint64
	if trusted && c.Suspect(peer) {
		c.clear(peer) // somebody has read the log
	}
	if !trusted {
		var last string
		if header, last = lastForwarded(h); header != "" {
			value = maphash.String(c.seed, last) | 1 // 0 is none
		}
	}
	s := &c.shards[rand.IntN(len(c.shards))]
	s.mu.Lock()
	s.total++
	if !trusted && peer.IsValid() {
		if t := s.tally(peer); t != nil {
			t.count(header, value)
		}
	}
	s.mu.Unlock()
	if due := c.due.Load(); now.UnixNano() >= due && c.due.CompareAndSwap(due, now.Add(crowdWindow).UnixNano()) && due != 0 {
		c.judge(now)
	}
}

// tally returns the tally of peer. With no room for it, one request of everybody is
// forgotten in exchange for it (Misra and Gries), and so nobody who makes more than
// a 64th of the requests is ever lost.
func (s *shard) tally(peer netip.Addr) *tally {
	if t := s.peers[peer]; t != nil {
		return t
	}
	if len(s.peers) < crowdShard {
		if s.peers == nil {
			s.peers = make(map[netip.Addr]*tally)
		}
		t := &tally{}
		s.peers[peer] = t
		return t
	}
	for p, t := range s.peers {
		if t.requests--; t.requests <= 0 {
			delete(s.peers, p)
		}
		t.forwarded = min(t.forwarded, t.requests)
	}
	return nil
}

// count adds a request, with the proxy's header it had, if any.
func (t *tally) count(header string, value uint64) {
	t.requests++
	if header != "" {
		t.forwarded++
		t.header = header
		t.add(value)
	}
}

// add remembers a value, up to as many as make a difference.
func (t *tally) add(value uint64) {
	for i, v := range t.values {
		if v == value {
			return
		}
		if v == 0 {
			t.values[i] = value
			return
		}
	}
}

// merge adds what another shard knows of the same peer.
func (t *tally) merge(other *tally) {
	t.requests += other.requests
	t.forwarded += other.forwarded
	if other.header != "" {
		t.header = other.header
	}
	for _, v := range other.values {
		if v != 0 {
			t.add(v)
		}
	}
}

// forwards says that the peer passes on requests of others, by what it sends.
func (t *tally) forwards() bool {
	return t.forwarded*10 >= t.requests*9 && t.values[crowdValues-1] != 0
}

// lastForwarded is the header in which a proxy says whom a request is from, and
// the last value in it: what the nearest proxy added.
func lastForwarded(h http.Header) (name, value string) {
	for _, name := range [...]string{"X-Forwarded-For", "Forwarded", "Via"} {
		if lines := h[name]; len(lines) > 0 {
			_, last, _ := cutLast(lines[len(lines)-1])
			return name, last
		}
	}
	return "", ""
}

// take empties the shards and returns what was in them, unless that is too little
// to judge.
func (c *Crowd) take() (total int, peers map[netip.Addr]*tally) {
	for i := range c.shards {
		c.shards[i].mu.Lock()
		total += c.shards[i].total
		c.shards[i].mu.Unlock()
	}
	if total < crowdRequests {
		return 0, nil
	}
	total, peers = 0, map[netip.Addr]*tally{}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		total += s.total
		part := s.peers
		s.total, s.peers = 0, nil
		s.mu.Unlock()
		for p, t := range part {
			if peers[p] == nil {
				peers[p] = &tally{}
			}
			peers[p].merge(t)
		}
	}
	return total, peers
}

// judge ends a window.
func (c *Crowd) judge(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	total, peers := c.take()
	if total == 0 {
		return
	}
	c.remember(peers, now)
	alike := lookalikes(total, peers)
	streak := map[netip.Addr]int{}
	var next []Suspicion
	for _, p := range alike {
		streak[p] = c.streak[p] + 1
		if s, ok := c.suspicion(p, streak[p]); ok {
			t := peers[p]
			s.Share, s.Header, s.Confirmed = t.requests*100/total, t.header, now
			if s.Since.IsZero() {
				s.Since = now
			}
			next = append(next, s)
		}
	}
	c.streak = streak
	for _, s := range c.Collapsed() {
		if !slices.ContainsFunc(next, func(n Suspicion) bool { return n.Peer == s.Peer }) && now.Sub(s.Confirmed) < crowdHold {
			next = append(next, s)
		}
	}
	c.change(next, now)
}

// suspicion is the one there is of p, or a new one if there is reason enough.
func (c *Crowd) suspicion(p netip.Addr, windows int) (Suspicion, bool) {
	for _, s := range c.Collapsed() {
		if s.Peer == p {
			return s, true
		}
	}
	if len(c.callers[kind(p)]) >= crowdCallers || kind(p) == 0 && windows < crowdStreak {
		return Suspicion{}, false
	}
	return Suspicion{Peer: p}, true
}

// lookalikes are the peers that look like proxies, if three of them or fewer make
// most of the requests; without those that hardly count.
func lookalikes(total int, peers map[netip.Addr]*tally) []netip.Addr {
	var alike []netip.Addr
	for p, t := range peers {
		if (isPrivate(p) || t.forwards()) && t.requests*20 >= total {
			alike = append(alike, p)
		}
	}
	slices.SortFunc(alike, func(a, b netip.Addr) int {
		if n := peers[b].requests - peers[a].requests; n != 0 {
			return n
		}
		return a.Compare(b)
	})
	alike = alike[:min(len(alike), crowdPeers)]
	sum := 0
	for _, p := range alike {
		sum += peers[p].requests
	}
	if sum*100 < total*crowdShare {
		return nil
	}
	return alike
}

// remember keeps who has called directly, and forgets who has not for a day.
func (c *Crowd) remember(peers map[netip.Addr]*tally, now time.Time) {
	for _, callers := range c.callers {
		for p, at := range callers {
			if now.Sub(at) > crowdMemory {
				delete(callers, p)
			}
		}
	}
	for p, t := range peers {
		if t.header != "" {
			continue
		}
		callers, network := c.callers[kind(p)], callerNetwork(p)
		if _, known := callers[network]; known || len(callers) < 2*crowdCallers {
			callers[network] = now
		}
	}
}

// change puts next in force, and says so when it is news or an hour old.
func (c *Crowd) change(next []Suspicion, now time.Time) {
	last := *c.suspects.Swap(&next)
	same := slices.EqualFunc(last, next, func(a, b Suspicion) bool { return a.Peer == b.Peer })
	switch {
	case len(next) == 0 && len(last) > 0:
		c.logger.Info("requests come from many addresses again; bans are not held back any more")
	case len(next) > 0 && (!same || now.Sub(c.told) >= crowdRemind):
		c.told = now
		for _, s := range next {
			c.logger.Warn(s.Advice(), zap.Stringer("peer", s.Peer), zap.Int("share_percent", s.Share), zap.String("header", s.Header), zap.Time("since", s.Since))
		}
	}
}

// clear ends the suspicion of a peer that has become a trusted proxy.
func (c *Crowd) clear(peer netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(c.Collapsed()), func(s Suspicion) bool { return s.Peer == peer })
	if len(next) < len(c.Collapsed()) {
		c.suspects.Store(&next)
		c.logger.Info("a suspected proxy is in client_ip.trusted_proxies now", zap.Stringer("peer", peer))
	}
}

// kind tells public addresses, 0, from private ones, 1.
func kind(a netip.Addr) int {
	if isPrivate(a) {
		return 1
	}
	return 0
}

// carrierGrade is what providers number customers behind their own translation
// with, and clouds their balancers (RFC 6598).
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")

// isPrivate says that nobody on the internet has this address.
func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || carrierGrade.Contains(a)
}

// callerNetwork is what callers are counted as.
func callerNetwork(a netip.Addr) netip.Prefix {
	bits := map[bool][2]int{true: {16, 32}, false: {32, 64}}[a.Is4()][kind(a)]
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Crowd returns what notices that a proxy is missing in client_ip.trusted_proxies.
func (s *Server) Crowd() *Crowd { return s.crowd }
