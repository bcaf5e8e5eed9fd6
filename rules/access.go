package rules

import (
	"fmt"
	"reflect"
	"slices"

	"edge/internal/ranges"
	"edge/internal/strictyaml"
)

// Access says which addresses may send the requests it is about. Of all rules
// that are about a request, any that denies refuses it; otherwise any that allows
// others only does. An address that is allowed is not exempt from anything.
type Access struct {
	// Name identifies the rule in records.
	Name string `yaml:"name"`
	// Match says which requests. Without it, all.
	Match Match `yaml:"match"`
	// Allow are the only addresses that may pass here: each an address, a range,
	// file:NAME or list:NAME. An empty list allows nobody.
	Allow []ranges.Item `yaml:"allow"`
	// Deny are addresses that may not pass here, whatever allows them.
	Deny []ranges.Item `yaml:"deny"`
	// Mode is block (default), detect, which records what block would have
	// refused and changes nothing, or off.
	Mode Mode `yaml:"mode"`

	at place
}

// place is where something was written: the path in one of the documents of a Set.
type place struct {
	doc  int
	path string
}

// Complete fills in defaults and resolves the files that are named relative to dir.
func (a *Access) Complete(dir string) {
	if a.Mode == "" {
		a.Mode = Block
	}
	ranges.Resolve(a.Allow, dir)
	ranges.Resolve(a.Deny, dir)
}

// Check records what is wrong with the rule at path of doc. seen holds the names
// that are taken.
func (a *Access) Check(doc *strictyaml.Document, path string, seen map[string]bool) {
	checkName(doc, path, "access rule", a.Name, seen)
	if a.Allow == nil && a.Deny == nil {
		doc.Faultf(path, "access rule %q: allow: or deny: says which addresses; write [] where nobody is meant", a.Name)
	}
}

// Files are the list files that the rule names.
func (a *Access) Files() []string { return append(ranges.Files(a.Allow), ranges.Files(a.Deny)...) }

// ListFiles are the list files that the access rules name.
func (s Set) ListFiles() (files []string) {
	for _, a := range s.Access {
		files = append(files, a.Files()...)
	}
	return files
}

// Fault is what is wrong with what a, an access rule of s, has at path ("deny[0]"),
// as an error with file, line and column: for what only turns out when files are
// read together.
func (s Set) Fault(a Access, path, format string, args ...any) error {
	if a.at.doc >= len(s.docs) { // not from a file
		return fmt.Errorf(format, args...)
	}
	return s.docs[a.at.doc].Fault(a.at.path+"."+path, format, args...)
}

// Equal reports whether both sets say the same, wherever they say it.
func (s Set) Equal(other Set) bool {
	s.Access, other.Access = anywhere(s.Access), anywhere(other.Access)
	s.docs, other.docs = nil, nil
	return reflect.DeepEqual(s, other)
}

// anywhere is a copy of rules that does not say where they were written.
func anywhere(rules []Access) []Access {
	rules = slices.Clone(rules)
	for i := range rules {
		rules[i].at = place{}
	}
	return rules
}

// takeAccess adds the access rules of one file.
func (s *Set) takeAccess(doc *strictyaml.Document, rules []Access) {
	for i := range rules {
		rules[i].at = place{len(s.docs), fmt.Sprintf("access[%d]", i)}
	}
	s.Access, s.docs = append(s.Access, rules...), append(s.docs, doc)
}
