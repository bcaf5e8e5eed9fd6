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
					d.settle(in)
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

// Those who stall in their handshake leave places to others, and give theirs back.
func TestDoorStalled(t *testing.T) {
	d := newDoor(Limits{Total: 10, PerClient: 10})
	var all []*inside
	for i := range 10 {
		if in, ok := d.enter(caller{from: &net.TCPAddr{IP: net.IPv4(192, 0, 2, byte(i)), Port: 1}}, false); ok {
			all = append(all, in)
		}
	}
	if len(all) != 6 || d.full.Load() != 4 {
		t.Fatalf("%d of them entered", len(all))
	}
	d.settle(all[0])
	for _, in := range all {
		_ = in.Close()
	}
	if d.open != 0 || d.shaking != 0 || len(d.clients) != 0 {
		t.Errorf("%d inside, %d in their handshake, %v", d.open, d.shaking, d.clients)
	}
}
