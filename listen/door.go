package listen

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
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
	clients map[netip.Prefix]int // of those inside, and so bounded

	full, crowded, failed atomic.Uint64
}

func newDoor(l Limits) *door { return &door{limits: l, clients: map[netip.Prefix]int{}} }

// enter counts c, or closes it.
func (d *door) enter(c net.Conn) (net.Conn, bool) {
	who := clientOf(c.RemoteAddr())
	d.mu.Lock()
	defer d.mu.Unlock()
	exempt := !who.IsValid() || d.limits.Exempt != nil && d.limits.Exempt(who.Addr())
	switch {
	case d.open >= d.limits.Total:
		d.full.Add(1)
	case !exempt && d.clients[who] >= d.limits.PerClient:
		d.crowded.Add(1)
	default:
		d.open++
		d.clients[who]++
		return &inside{Conn: c, leave: func() { d.leave(who) }}, true
	}
	_ = c.Close() // it has not been heard
	return nil, false
}

func (d *door) leave(who netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
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

// clientOf is what counts as one client: an IPv4 address, or an IPv6 /64, within
// which everybody can have as many addresses as they like.
func clientOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// inside is a connection that is counted until it is closed.
type inside struct {
	net.Conn
	leave func()
	once  sync.Once
}

// Close implements net.Conn.
func (c *inside) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}

// pause is between attempts to accept when there are too many open files.
const pause = 50 * time.Millisecond
