package access

import (
	"net"
	"net/netip"
	"time"

	"github.com/gaissmai/bart"
	"github.com/yl2chen/cidranger"

	"edge/internal/ranges"
)

// table finds the ranges around an address. Prefixes and addresses that it is
// given are valid, unmapped, masked and without zones. After the last set it may
// be read concurrently.
type table interface {
	// set puts an entry in place of the one of the same range, if there is one.
	set(e *ranges.Entry)
	// get returns the entry of exactly this range, or nil.
	get(p netip.Prefix) *ranges.Entry
	// find returns the entry of the narrowest range that has addr and counts at
	// now, or nil.
	find(addr netip.Addr, now time.Time) *ranges.Entry
}

// few is a table for lists as people write them.
type few struct {
	trie  cidranger.Ranger
	exact map[netip.Prefix]*ranges.Entry // cidranger finds ranges by addresses only
}

func newFew() few {
	return few{cidranger.NewPCTrieRanger(), map[netip.Prefix]*ranges.Entry{}}
}

// ranged is an entry in the words of cidranger.
type ranged struct{ *ranges.Entry }

// Network implements cidranger.RangerEntry.
func (r ranged) Network() net.IPNet {
	addr := r.Prefix.Addr()
	return net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(r.Prefix.Bits(), addr.BitLen())}
}

func (t few) set(e *ranges.Entry) {
	_ = t.trie.Insert(ranged{e}) // it fails where an address is neither IPv4 nor IPv6
	t.exact[e.Prefix] = e
}

func (t few) get(p netip.Prefix) *ranges.Entry { return t.exact[p] }

func (t few) find(addr netip.Addr, now time.Time) *ranges.Entry {
	around, _ := t.trie.ContainingNetworks(addr.AsSlice()) // fails as Insert does
	for i := len(around) - 1; i >= 0; i-- {                // the widest comes first
		if e := around[i].(ranged).Entry; e.Live(now) {
			return e
		}
	}
	return nil
}

// many is a table for lists that machines write.
type many struct{ tree bart.Table[*ranges.Entry] }

func newMany() *many { return &many{} }

func (t *many) set(e *ranges.Entry) { t.tree.Insert(e.Prefix, e) }

func (t *many) get(p netip.Prefix) *ranges.Entry {
	e, _ := t.tree.Get(p)
	return e
}

func (t *many) find(addr netip.Addr, now time.Time) *ranges.Entry {
	narrowest, ok := t.tree.Lookup(addr)
	if !ok || narrowest.Live(now) {
		return narrowest
	}
	for _, e := range t.tree.Supernets(narrowest.Prefix) { // from the narrowest to the widest
		if e.Live(now) {
			return e
		}
	}
	return nil
}
