package config

import (
	"fmt"
	"maps"
	"slices"

	"edge/internal/ranges"
	"edge/internal/strictyaml"
	"edge/rules"
)

// Addresses is what is said about addresses for all apps. Where addresses are
// listed, each item is an address or a range, file:NAME for a file of them, or
// list:NAME for one of Lists.
type Addresses struct {
	// Lists are lists of addresses that rules of all files share by their names.
	Lists map[string][]ranges.Item `yaml:"lists"`
	// Access are the access rules of every app, beside those in its rules files.
	Access []rules.Access `yaml:"access"`
	// Trust are addresses that no app ever bans. It lets them do nothing else.
	Trust []ranges.Item `yaml:"trust"`
}

// listFiles are the list files that are named.
func (a *Addresses) listFiles() []string {
	files := ranges.Files(a.Trust)
	for _, items := range a.Lists {
		files = append(files, ranges.Files(items)...)
	}
	for i := range a.Access {
		files = append(files, a.Access[i].Files()...)
	}
	return files
}

func (a *Addresses) complete(dir string) {
	ranges.Resolve(a.Trust, dir)
	for _, items := range a.Lists {
		ranges.Resolve(items, dir)
	}
	for i := range a.Access {
		a.Access[i].Complete(dir)
	}
}

func (a *Addresses) check(doc *strictyaml.Document) {
	for _, name := range slices.Sorted(maps.Keys(a.Lists)) {
		if !nameForm.MatchString(name) {
			doc.Faultf("lists."+name, "lists: %q is no name; use a-z, 0-9 and -, at most 63", name)
		}
		for i, item := range a.Lists[name] {
			if item.List != "" {
				doc.Faultf(fmt.Sprintf("lists.%s[%d]", name, i), "lists: a list is made of addresses and files, not of other lists")
			}
		}
	}
	a.checkNames(doc, "trust", a.Trust)
	seen := map[string]bool{}
	for i := range a.Access {
		path := fmt.Sprintf("access[%d]", i)
		a.Access[i].Check(doc, path, seen)
		a.checkNames(doc, path+".allow", a.Access[i].Allow)
		a.checkNames(doc, path+".deny", a.Access[i].Deny)
	}
}

// checkNames says so where items name a list that there is not.
func (a *Addresses) checkNames(doc *strictyaml.Document, path string, items []ranges.Item) {
	for i, item := range items {
		if why := a.Unknown(item); why != "" {
			doc.Faultf(fmt.Sprintf("%s[%d]", path, i), "%s", why)
		}
	}
}

// Unknown says what is wrong with an item that names a list that is not among
// Lists. It is "" for all others.
func (a *Addresses) Unknown(item ranges.Item) string {
	if _, known := a.Lists[item.List]; known || item.List == "" {
		return ""
	}
	if len(a.Lists) == 0 {
		return fmt.Sprintf("there is no list %q; edge.yaml has no lists:", item.List)
	}
	return fmt.Sprintf("there is no list %q%s", item.List, strictyaml.DidYouMean(item.List, slices.Sorted(maps.Keys(a.Lists))))
}
