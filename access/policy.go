package access

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"edge/internal/ranges"
	"edge/rules"
)

// Policy is what the access rules of one app come to, those for all apps
// included. It is immutable and safe for concurrent use. The zero Policy and nil
// have nothing against anybody, and trust nobody.
type Policy struct {
	rules []rule
	trust lists
	files map[string]*List // those behind it, by name
}

// rule is a compiled rules.Access.
type rule struct {
	name    string
	match   rules.Match
	enforce bool // otherwise what it would refuse is only noted
	deny    lists
	allow   lists // nil: whoever is not denied
}

// lists are several in one.
type lists []named

// named is a list by the name that people know it by.
type named struct {
	name string
	list *List
}

// Verdict is what a Policy has against a request. The zero Verdict has nothing.
type Verdict struct {
	Rule    string // the access rule that decided, "" where none did
	Denied  bool   // the rule denies the address; otherwise it allows only others
	Enforce bool   // the request is to be refused; otherwise that is only to be noted
	Detail  string // which list it is about, in a clause
}

// Judge holds a request from client against the rules at now. A rule that denies
// comes before one that allows only others, and both come before what rules in
// detect mode say.
func (p *Policy) Judge(r rules.Request, client netip.Addr, now time.Time) Verdict {
	if p == nil || len(p.rules) == 0 {
		return Verdict{}
	}
	about := make([]*rule, 0, 8)
	for i := range p.rules {
		if p.rules[i].match.Matches(r) {
			about = append(about, &p.rules[i])
		}
	}
	for _, enforce := range []bool{true, false} {
		if v := judge(about, enforce, client, now); v.Rule != "" {
			return v
		}
	}
	return Verdict{}
}

// judge asks those rules that are enforced, or those that are not.
func judge(about []*rule, enforce bool, client netip.Addr, now time.Time) (v Verdict) {
	for _, r := range about {
		if r.enforce != enforce {
			continue
		}
		if e, list, ok := r.deny.find(client, now); ok {
			return Verdict{r.name, true, enforce, fmt.Sprintf("%s is in %s: %s", client.Unmap(), list, e)}
		}
	}
	for _, r := range about {
		if r.enforce != enforce || r.allow == nil {
			continue
		}
		if _, _, ok := r.allow.find(client, now); !ok {
			return Verdict{r.name, false, enforce, r.allow.without(client)}
		}
	}
	return v
}

// Trusts reports whether client is on a list of those that are never banned.
func (p *Policy) Trusts(client netip.Addr, now time.Time) bool {
	if p == nil {
		return false
	}
	_, _, ok := p.trust.find(client, now)
	return ok
}

// SameFiles reports whether both policies use the same files, with the same in them.
func (p *Policy) SameFiles(other *Policy) bool { return maps.Equal(p.files, other.files) }

// find returns the first of the lists that has addr, and the entry it is.
func (l lists) find(addr netip.Addr, now time.Time) (e ranges.Entry, name string, ok bool) {
	for _, n := range l {
		if e, ok := n.list.Find(addr, now); ok {
			return e, n.name, true
		}
	}
	return e, "", false
}

// without says that client is on none of the lists, or is no longer.
func (l lists) without(client netip.Addr) string {
	switch {
	case len(l) == 0:
		return "the allow list is empty, so nobody may"
	case !client.IsValid():
		return "the client's address is not known"
	}
	if e, name, was := l.find(client, time.Time{}); was { // when nothing had expired
		return fmt.Sprintf("%s is no longer in %s: %s", client.Unmap(), name, e)
	}
	return fmt.Sprintf("%s is not in %s", client.Unmap(), l)
}

// String is the names of the lists in words, each once.
func (l lists) String() string {
	var names []string
	for _, n := range l {
		if len(names) == 0 || names[len(names)-1] != n.name { // a list of several files is several in a row
			names = append(names, n.name)
		}
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
