// Package access says which addresses may ask for what: a [List] knows whether an
// address is in its ranges, a [Policy] what the access rules of an app make of it,
// and [Lists] makes policies of what the operator wrote. It owns cidranger and
// bart, the tables behind a List.
//
// Which requests there are, and what is told to those that are refused, is the
// caller's business.
package access

import (
	"net/netip"
	"time"

	"edge/internal/ranges"
)

// List is a set of ranges. It is immutable and safe for concurrent use. IPv4 is
// IPv4, however it comes: ::ffff:10.0.0.7 is 10.0.0.7, and ::/0 is all of IPv6 only.
// The zero List contains nobody.
type List struct {
	table table
	size  int
}

// small is how many entries cidranger stands behind. It is the plainer of the two
// and fast enough for them; bart takes a million in a second.
const small = 10_000

// New returns the list of entries, which it keeps. Where one range is there more
// than once, the entry that counts longest stands for it. Prefixes that are none
// are left out.
func New(entries []ranges.Entry) *List {
	if len(entries) > small {
		return fill(newMany(), entries)
	}
	return fill(newFew(), entries)
}

// Contains reports whether addr is in a range that counts at now. What is no
// address is on no list.
func (l *List) Contains(addr netip.Addr, now time.Time) bool { return l.find(addr, now) != nil }

// Find returns the narrowest entry that contains addr and counts at now.
func (l *List) Find(addr netip.Addr, now time.Time) (ranges.Entry, bool) {
	if e := l.find(addr, now); e != nil {
		return *e, true
	}
	return ranges.Entry{}, false
}

func (l *List) find(addr netip.Addr, now time.Time) *ranges.Entry {
	if l.table == nil || !addr.IsValid() {
		return nil
	}
	return l.table.find(addr.Unmap().WithZone(""), now)
}

// Len is the number of different ranges, expired ones included.
func (l *List) Len() int { return l.size }

// fill puts entries into an empty table.
func fill(t table, entries []ranges.Entry) *List {
	l := &List{table: t}
	for i := range entries {
		e := &entries[i]
		if !e.Prefix.IsValid() {
			continue
		}
		e.Prefix = ranges.Unmap(e.Prefix.Masked())
		old := t.get(e.Prefix)
		if old == nil {
			l.size++
		}
		if old == nil || outlives(e, old) {
			t.set(e)
		}
	}
	return l
}

// outlives says that a counts longer than b.
func outlives(a, b *ranges.Entry) bool {
	return !b.Until.IsZero() && (a.Until.IsZero() || a.Until.After(b.Until))
}
