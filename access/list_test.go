package access

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"edge/internal/ranges"
)

var noon = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// each runs a test with both tables.
func each(t *testing.T, f func(t *testing.T, list func(texts ...string) *List)) {
	tables := map[string]func() table{"few": func() table { return newFew() }, "many": func() table { return newMany() }}
	for name, table := range tables {
		t.Run(name, func(t *testing.T) {
			f(t, func(texts ...string) *List {
				t.Helper()
				return fill(table(), entries(t, texts...))
			})
		})
	}
}

func entries(t testing.TB, texts ...string) (all []ranges.Entry) {
	t.Helper()
	for _, text := range texts {
		e, err := ranges.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestFind(t *testing.T) {
	each(t, func(t *testing.T, list func(...string) *List) {
		l := list("10.0.0.0/8 # net", "10.1.0.0/16 until 2027-02-28 # gone", "10.1.2.0/24 until 2027-03-01 # today", "10.1.2.3 until 2026-01-01 # long gone",
			"203.0.113.7 # one", "2001:db8::/32 # six", "2001:db8::1 # one six", "::ffff:198.51.100.0/120 # mapped")
		for addr, want := range map[string]string{
			"10.200.0.1": "net", "10.1.0.1": "net", "10.1.2.1": "today", "10.1.2.3": "today", "::ffff:10.1.2.3": "today", "10.0.0.0": "net", "10.255.255.255": "net",
			"203.0.113.7": "one", "203.0.113.6": "", "203.0.113.8": "", "::ffff:203.0.113.7": "one", "::203.0.113.7": "",
			"2001:db8:ffff::": "six", "2001:db8::1": "one six", "2001:db8::1%eth0": "one six", "2001:db9::": "",
			"198.51.100.255": "mapped", "198.51.101.0": "", "0.0.0.0": "", "::": "",
		} {
			e, ok := l.Find(netip.MustParseAddr(addr), noon)
			if e.Comment != want || ok != (want != "") || l.Contains(netip.MustParseAddr(addr), noon) != ok {
				t.Errorf("%s: %q, %v", addr, e, ok)
			}
		}
		if l.Len() != 8 {
			t.Errorf("%d ranges", l.Len())
		}
		if e, ok := l.Find(netip.MustParseAddr("10.1.2.3"), noon.AddDate(0, 0, 1)); e.Comment != "net" || !ok {
			t.Errorf("tomorrow: %q", e)
		}
	})
}

// A client that is no address is on no list, not even on one of everybody.
func TestNoAddress(t *testing.T) {
	each(t, func(t *testing.T, list func(...string) *List) {
		if list("0.0.0.0/0", "::/0").Contains(netip.Addr{}, noon) {
			t.Error("it is")
		}
	})
}

func TestEmptyContainsNobody(t *testing.T) {
	each(t, func(t *testing.T, list func(...string) *List) {
		for _, l := range []*List{list(), {}, New(nil), New(make([]ranges.Entry, 3))} {
			for _, addr := range []string{"0.0.0.0", "127.0.0.1", "::", "::1"} {
				if l.Len() != 0 || l.Contains(netip.MustParseAddr(addr), noon) {
					t.Errorf("%s is on an empty list of %d", addr, l.Len())
				}
			}
		}
	})
}

// All of IPv4 is not all of IPv6.
func TestEverybody(t *testing.T) {
	each(t, func(t *testing.T, list func(...string) *List) {
		four, six := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::1")
		if l := list("0.0.0.0/0"); !l.Contains(four, noon) || l.Contains(six, noon) {
			t.Error("0.0.0.0/0")
		}
		if l := list("::/0"); l.Contains(four, noon) || l.Contains(netip.MustParseAddr("::ffff:203.0.113.7"), noon) || !l.Contains(six, noon) {
			t.Error("::/0")
		}
	})
}

// Of two entries for one range the one that counts longer does, in any order.
func TestTwice(t *testing.T) {
	each(t, func(t *testing.T, list func(...string) *List) {
		for want, texts := range map[string][]string{
			"b": {"10.0.0.7 until 2026-01-01 # a", "10.0.0.7 until 2027-03-01 # b", "10.0.0.7/32 until 2026-03-01 # c"},
			"d": {"10.0.0.7 until 2099-01-01 # c", "::ffff:10.0.0.7 # d", "10.0.0.7 # e", "10.0.0.7 until 2027-03-01 # f"},
		} {
			l := list(texts...)
			if e, ok := l.Find(netip.MustParseAddr("10.0.0.7"), noon); !ok || e.Comment != want || l.Len() != 1 {
				t.Errorf("%q of %d", e, l.Len())
			}
		}
	})
}

// The larger lists are of the other table, and as good.
func TestSize(t *testing.T) {
	for n, want := range map[int]string{small: "few", small + 1: "many"} {
		l := New(random(n))
		name := map[bool]string{true: "many", false: "few"}[isMany(l)]
		if name != want || l.Len() < n*9/10 {
			t.Errorf("%d entries: %s of %d", n, name, l.Len())
		}
	}
}

func isMany(l *List) bool {
	_, ok := l.table.(*many)
	return ok
}

// naive is a list as it would be without a table.
type naive []ranges.Entry

func (n naive) find(addr netip.Addr, now time.Time) (best ranges.Entry, ok bool) {
	addr = addr.Unmap().WithZone("")
	for _, e := range n {
		e.Prefix = ranges.Unmap(e.Prefix)
		if !e.Prefix.Contains(addr) || !e.Live(now) {
			continue
		}
		if !ok || e.Prefix.Bits() > best.Prefix.Bits() || e.Prefix == best.Prefix && outlives(&e, &best) {
			best, ok = e, true
		}
	}
	return best, ok
}

// FuzzList holds both tables against each other and against a list without one.
// The input is entries of 19 bytes (address, kind, length, days) and, as often, an
// address to look up.
func FuzzList(f *testing.F) {
	f.Add([]byte("0123456789abcdef\x00\x08\x00" + "0123456789abcdef\x00\x18\x02" + "0123456789abcdef\x01\x20\x00"))
	f.Add([]byte("0123456789abcdef\x02\x00\x00" + "0123456789abcdef\x01\x80\x01" + "0123456789abcdef\x02\x60\x03"))
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 0))
		data := make([]byte, 19*40)
		for i := range data {
			data[i] = byte(random.Uint32() & random.Uint32()) // near each other
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var all naive
		var asked []netip.Addr
		for len(data) >= 19 && len(all) < 200 {
			addr, e := decode(data[:19])
			all, asked, data = append(all, e), append(asked, addr), data[19:]
		}
		few, many := fill(newFew(), append(naive{}, all...)), fill(newMany(), append(naive{}, all...))
		if few.Len() != many.Len() {
			t.Fatalf("%d and %d ranges", few.Len(), many.Len())
		}
		for _, addr := range asked {
			for day := -1; day < 4; day++ {
				now := noon.AddDate(0, 0, day)
				want, ok := all.find(addr, now)
				a, inFew := few.Find(addr, now)
				b, inMany := many.Find(addr, now)
				if inFew != ok || inMany != ok || !same(a, want) || !same(b, want) {
					t.Fatalf("%s on day %d of %v:\nwant %q, %v\n few %q, %v\nmany %q, %v", addr, day, all, want, ok, a, inFew, b, inMany)
				}
			}
		}
	})
}

func same(a, b ranges.Entry) bool { return a.Prefix == b.Prefix && a.Until.Equal(b.Until) }

// decode makes an address and an entry of 19 bytes.
func decode(b []byte) (netip.Addr, ranges.Entry) {
	addr := netip.AddrFrom16([16]byte(b[:16]))
	switch b[16] % 3 {
	case 1:
		addr = netip.AddrFrom4([4]byte(b[:4]))
	case 2:
		addr = netip.AddrFrom16(netip.AddrFrom4([4]byte(b[:4])).As16()) // mapped
	}
	p := netip.PrefixFrom(addr, int(b[17])%(addr.BitLen()+1)).Masked()
	e := ranges.Entry{Prefix: p}
	if days := int(b[18]) % 4; days > 0 {
		e.Until = noon.AddDate(0, 0, days-1)
	}
	return addr, e
}

// random is n ranges such as are on lists of bad addresses: three of four IPv4.
func random(n int) []ranges.Entry {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]ranges.Entry, n)
	for i := range all {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], r.Uint64())
		addr, bits := netip.AddrFrom4([4]byte(b[:4])), 16+r.IntN(17)
		if i%4 == 0 {
			b[0], b[1] = 0x20, 0x01
			addr, bits = netip.AddrFrom16(b), 32+r.IntN(33)
		}
		all[i].Prefix = netip.PrefixFrom(addr, bits).Masked()
	}
	return all
}

// addresses are some to look up, half of them on the list.
func addresses(all []ranges.Entry) []netip.Addr {
	r := rand.New(rand.NewPCG(3, 4))
	asked := make([]netip.Addr, 1<<12)
	for i := range asked {
		asked[i] = all[r.IntN(len(all))].Prefix.Addr()
		if i%2 == 0 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], r.Uint32())
			asked[i] = netip.AddrFrom4(b)
		}
	}
	return asked
}

var sizes = map[string]int{"10k": small, "1M": 1_000_000}

// Loading, beside making a map of the same ranges.
func BenchmarkLoad(b *testing.B) {
	for name, n := range sizes {
		all := random(n)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				New(all)
			}
		})
		b.Run(name+"-baseline-map", func(b *testing.B) {
			for b.Loop() {
				m := map[netip.Prefix]*ranges.Entry{}
				for i := range all {
					m[all[i].Prefix] = &all[i]
				}
			}
		})
	}
}

// Looking up, beside one look-up in a map, and a walk over the first thousand.
func BenchmarkFind(b *testing.B) {
	for name, n := range sizes {
		all := random(n)
		l, asked := New(all), addresses(all)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.Contains(asked[i%len(asked)], noon)
			}
		})
		m := map[netip.Addr]bool{}
		for _, e := range all {
			m[e.Prefix.Addr()] = true
		}
		b.Run(name+"-baseline-map", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				_ = m[asked[i%len(asked)]]
			}
		})
		b.Run(name+"-baseline-walk-1000", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				naive(all[:1000]).find(asked[i%len(asked)], noon)
			}
		})
	}
}
