package rules

import (
	"fmt"
	"slices"
	"strings"
)

// Match says which requests a rule is about. Every part that is given must
// hold; the zero Match holds for all.
type Match struct {
	// Method is one HTTP method, in capitals. Without it, every method matches.
	Method Method `yaml:"method"`
	// Path is a pattern over the decoded path. "*" stands for any characters
	// within one segment, "**" for any number of whole segments: "/api/**" is
	// /api and everything below it. Letter case and a slash at the end do not count.
	Path Pattern `yaml:"path"`
	// Tenant is one tenant, as it is recorded. Without it, every tenant matches.
	Tenant string `yaml:"tenant"`
}

// Method is an HTTP method.
type Method string

// UnmarshalText accepts what can be a method.
func (m *Method) UnmarshalText(text []byte) error {
	if *m = Method(text); !methodForm.MatchString(string(text)) {
		return fmt.Errorf("%q is no method; write it in capitals", text)
	}
	return nil
}

// Request is what a Match is held against.
type Request struct {
	Method, Tenant string
	Path           string // decoded and cleaned
	Plain          string // another reading of the path, where it has two; "" where it has not
}

// Matches reports whether r is meant, in any reading of its path. It is for rules
// that restrict.
func (m Match) Matches(r Request) bool {
	return m.about(r) && (m.Path.Matches(r.Path) || r.Plain != "" && m.Path.Matches(r.Plain))
}

// MatchesAll reports whether r is meant, in every reading of its path. It is for
// rules that let something through.
func (m Match) MatchesAll(r Request) bool {
	return m.about(r) && m.Path.Matches(r.Path) && (r.Plain == "" || m.Path.Matches(r.Plain))
}

// about is all but the path.
func (m Match) about(r Request) bool {
	return (m.Method == "" || string(m.Method) == r.Method) && (m.Tenant == "" || m.Tenant == r.Tenant)
}

// String is the match in words, for keys and messages.
func (m Match) String() string {
	return fmt.Sprintf("method=%s tenant=%s path=%s", m.Method, m.Tenant, m.Path)
}

// Pattern is a compiled path pattern. The zero Pattern matches every path.
type Pattern struct{ segments []string }

// UnmarshalText compiles a pattern.
func (p *Pattern) UnmarshalText(text []byte) error {
	s := string(text)
	if !strings.HasPrefix(s, "/") || strings.ContainsAny(s, "?#\\%") {
		return fmt.Errorf("%q is no path pattern; it starts with / and has no ?, #, %% or backslash", s)
	}
	p.segments = split(s)
	for _, seg := range p.segments {
		if seg == "." || seg == ".." {
			return fmt.Errorf("%q: no path has a segment %q when it is matched", s, seg)
		}
		if strings.Contains(seg, "**") && seg != "**" {
			return fmt.Errorf("%q: ** stands for whole segments; write it between slashes", s)
		}
	}
	return nil
}

// String is the pattern in small letters, "" for the one that matches every path.
func (p Pattern) String() string {
	if p.segments == nil {
		return ""
	}
	return "/" + strings.Join(p.segments, "/")
}

// Matches reports whether path fits. It takes time proportional to the product
// of both lengths at worst, never more.
func (p Pattern) Matches(path string) bool {
	return p.segments == nil || fits(p.segments, split(path), "**", fitsSegment)
}

// split cuts a path into lower-case segments, without empty ones.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(strings.ToLower(path), "/"), func(s string) bool { return s == "" })
}

func fitsSegment(pattern, segment string) bool {
	return fits([]byte(pattern), []byte(segment), '*', func(p, s byte) bool { return p == s })
}

// fits is glob matching over any kind of element: wild stands for any run of
// them. On a mismatch it goes back to the last wild only, which is enough, and
// keeps a hostile path from costing exponential time.
func fits[T comparable](pattern, s []T, wild T, same func(p, s T) bool) bool {
	p, i, star, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == wild:
			star, from = p, i
			p++
		case p < len(pattern) && same(pattern[p], s[i]):
			p, i = p+1, i+1
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == wild {
		p++
	}
	return p == len(pattern)
}
