// Package ranges is how people write addresses and ranges of them: one by one in
// YAML, or by the hundred thousand in list files. It reads both strictly and
// places every fault; which address is in which range is the business of the
// room access.
package ranges

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Entry is one address or range on a list.
type Entry struct {
	// Prefix is masked; IPv4 is IPv4, however it was written.
	Prefix netip.Prefix
	// Until is the first moment at which the entry no longer counts: the midnight
	// (UTC) that ends the day that was written. Zero: it counts for ever.
	Until time.Time
	// Comment is what its author says about it, for the people who will ask.
	Comment string
	// Source is the file it is from, "" where it was written in YAML.
	Source string
}

// Live reports whether the entry counts at now.
func (e Entry) Live(now time.Time) bool { return e.Until.IsZero() || now.Before(e.Until) }

// String is the entry as a person would write it.
func (e Entry) String() string {
	s := e.Prefix.String()
	if e.Prefix.IsSingleIP() {
		s = e.Prefix.Addr().String()
	}
	if !e.Until.IsZero() {
		s += " until " + e.Until.AddDate(0, 0, -1).Format(time.DateOnly)
	}
	if e.Comment != "" {
		s += " # " + e.Comment
	}
	return s
}

// ParsePrefix reads 10.0.0.7, 10.0.0.0/8, 2001:db8::7 or 2001:db8::/32. IPv4 in
// the clothes of IPv6 (::ffff:10.0.0.7) is IPv4. Zones, bits set behind the
// length, and short forms such as 127.1 are errors.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if strings.Contains(text, "%") {
		return netip.Prefix{}, fmt.Errorf("%q has a zone, which means something on one machine only; leave out the %% and what follows", text)
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no address or range; write 10.0.0.7 or 10.0.0.0/8", text)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits set behind its length; did you mean %s?", text, Unmap(p.Masked()))
	}
	return Unmap(p), nil
}

// Unmap is p with IPv4 as IPv4, where all of p is.
func Unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// Parse reads what ParsePrefix does, followed, where its author likes, by
// "until 2027-03-01", that day included, and by "# " and a comment.
func Parse(text string) (Entry, error) {
	e, _, err := parse(text)
	return e, err
}

// parse says too at which byte of text its fault is.
func parse(text string) (e Entry, at int, err error) {
	if at, what := unprintable(text); what != "" {
		return e, at, errors.New(what)
	}
	rest, comment, _ := strings.Cut(text, "#")
	e.Comment = strings.TrimSpace(comment)
	word, at, next := cutWord(rest, 0)
	if word == "" {
		return e, at, errors.New("there is no address in front of the comment")
	}
	if e.Prefix, err = ParsePrefix(word); err != nil {
		return e, at, err
	}
	word, at, next = cutWord(rest, next)
	if word == "" {
		return e, 0, nil
	}
	if word != "until" {
		return e, at, fmt.Errorf("%q: an address is followed by until 2027-03-01, by # and a comment, or by nothing", word)
	}
	word, at, next = cutWord(rest, next)
	day, err := time.Parse(time.DateOnly, word)
	if err != nil {
		return e, at, fmt.Errorf("until %q: that is no date; write until 2027-03-01", word)
	}
	e.Until = day.AddDate(0, 0, 1)
	if word, at, _ = cutWord(rest, next); word != "" {
		return e, at, fmt.Errorf("%q: a date is followed by # and a comment, or by nothing", word)
	}
	return e, 0, nil
}

// cutWord returns the first word in s from byte from on, where it is, and where
// what follows it begins.
func cutWord(s string, from int) (word string, at, next int) {
	for at = from; at < len(s) && (s[at] == ' ' || s[at] == '\t'); at++ {
	}
	for next = at; next < len(s) && s[next] != ' ' && s[next] != '\t'; next++ {
	}
	return s[at:next], at, next
}

// unprintable says what a line of text would not hold, and at which byte it is.
// Comments go to terminals and records.
func unprintable(s string) (at int, what string) {
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			return i, "that is not UTF-8; is it a list at all?"
		case r < utf8.RuneSelf && r >= ' ' && r != 0x7F, r == '\t': // nearly all there is
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return i, fmt.Sprintf("%U is no character for a list", r)
		}
	}
	return 0, ""
}

// Client is what counts as one client: an IPv4 address, or the /64 of an IPv6 address,
// within which everybody can have as many addresses as they like. It is the zero
// Prefix for what is no address.
func Client(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // no address has fewer
	return p
}
