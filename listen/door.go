package listen

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"edge/internal/ranges"
)

// Limits is how many connections there may be.
type Limits struct {
	Total     int                   // open at once
	PerClient int                   // of one address, or IPv6 /64
	Exempt    func(netip.Addr) bool // from PerClient: proxies speak for many; may be nil
}

// Figures is how many connections there are and were.
type Figures struct {
	Open       int    `json:"open"`
	Refused    uint64 `json:"refused"`            // there were too many
	Crowded    uint64 `json:"refused_per_client"` // there were too many of one client
	Handshakes uint64 `json:"handshakes_failed"`
}

// door counts who is inside. What is too much is turned away before it has cost
// anything, and without an answer: that would cost a handshake.
type door struct {
	limits Limits

	mu      sync.Mutex
	open    int
	shaking int                  // of those, in the middle of their handshake
	clients map[netip.Prefix]int // of those inside, and so bounded

	full, crowded, failed atomic.Uint64
}

func newDoor(l Limits) *door { return &door{limits: l, clients: map[netip.Prefix]int{}} }

// enter counts c, or closes it. One that announces its client is counted as that
// client's when it has, with become.
func (d *door) enter(c net.Conn, announces bool) (*inside, bool) {
	from := c.RemoteAddr()
	who := clientOf(from)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.open >= d.limits.Total, d.shaking > d.limits.Total/2: // who stalls leaves half of it to others
		d.full.Add(1)
	case !announces && d.crowd(from, who):
		d.crowded.Add(1)
	default:
		d.open++
		d.shaking++
		d.clients[who]++
		return &inside{Conn: c, door: d, who: who}, true
	}
	_ = c.Close() // it has not been heard
	return nil, false
}

// crowd says that who has as many connections as one may have. a is the address
// itself: of an IPv6 /64 it may be the only one that is exempt.
func (d *door) crowd(a net.Addr, who netip.Prefix) bool {
	exempt := !who.IsValid() || d.limits.Exempt != nil && d.limits.Exempt(addrOf(a).Addr())
	return !exempt && d.clients[who] >= d.limits.PerClient
}

// become counts c as a connection of a, unless it would be one too many.
func (d *door) become(c *inside, a net.Addr) bool {
	who := clientOf(a)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case who == c.who:
		return true
	case d.crowd(a, who):
		d.crowded.Add(1)
		return false
	}
	d.forget(c.who)
	d.clients[who]++
	c.who = who
	return true
}

// settle notes that the handshake of c is over.
func (d *door) settle(c *inside) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !c.settled {
		c.settled = true
		d.shaking--
	}
}

func (d *door) leave(c *inside) {
	d.settle(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	d.forget(c.who)
}

func (d *door) forget(who netip.Prefix) {
	if d.clients[who]--; d.clients[who] == 0 {
		delete(d.clients, who)
	}
}

// Figures returns how many connections there are and were.
func (s *Server) Figures() Figures {
	s.door.mu.Lock()
	defer s.door.mu.Unlock()
	return Figures{Open: s.door.open, Refused: s.door.full.Load(), Crowded: s.door.crowded.Load(), Handshakes: s.door.failed.Load()}
}

// clientOf is the client at a; the zero Prefix where that is no TCP address.
func clientOf(a net.Addr) netip.Prefix { return ranges.Client(addrOf(a).Addr()) }

// inside is a connection that is counted until it is closed.
type inside struct {
	net.Conn
	door *door
	who  netip.Prefix
	once sync.Once

	settled bool // its handshake is over
}

// Close implements net.Conn.
func (c *inside) Close() error {
	c.once.Do(func() { c.door.leave(c) })
	return c.Conn.Close()
}

// pause is between attempts to accept when there are too many open files.
const pause = 50 * time.Millisecond
