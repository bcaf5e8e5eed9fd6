package listen

import (
	"net"
	"net/netip"
	"testing"
)

// caller is a connection from an address.
type caller struct {
	net.Conn
	from net.Addr
}

func (c caller) RemoteAddr() net.Addr { return c.from }
func (caller) Close() error           { return nil }

func TestDoorCounts(t *testing.T) {
	proxy := netip.MustParseAddr("2001:db8::5")
	limits := Limits{Total: 5, PerClient: 2, Exempt: func(a netip.Addr) bool { return a == proxy }}
	for _, test := range []struct {
		name, addr string
		enters     int
	}{
		{"ipv4", "192.0.2.1", 2},
		{"ipv4_in_ipv6", "::ffff:192.0.2.1", 2},
		{"ipv6", "2001:db8:1::1", 2},
		{"neighbour_of_a_proxy", "2001:db8::6", 2},
		{"proxy", "2001:db8::5", 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, n := newDoor(limits), 0
			var last *inside
			for range 2 * limits.Total {
				c := caller{from: &net.TCPAddr{IP: net.ParseIP(test.addr), Port: 4711}}
				if in, ok := d.enter(c, false); ok {
					n, last = n+1, in
				}
			}
			if n != test.enters {
				t.Errorf("%d entered, and %d may", n, test.enters)
			}
			_, _ = last.Close(), last.Close()
			if d.open != n-1 || d.full.Load()+d.crowded.Load() != uint64(2*limits.Total-n) {
				t.Errorf("%d inside, %d and %d refused", d.open, d.full.Load(), d.crowded.Load())
			}
		})
	}
}
