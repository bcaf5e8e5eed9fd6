package access

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"edge/config"
	"edge/internal/ranges"
	"edge/rules"
)

// Lists makes policies. A million ranges take a second to read, so it keeps the
// lists of the last load, and a file that holds what it held then is not read into
// a new one. The zero value is ready; it is not for concurrent use.
type Lists struct {
	kept map[content]*List
}

// content is a list file's, its name included.
type content [sha256.Size]byte

// Load reads the list files that a configuration and the rules of its apps name,
// and returns the policy of each app. Its error joins the faults of all files, and
// those that only show now: files that are not there, names of lists that nobody
// defines, and access rules of one name.
func (l *Lists) Load(c *config.Config, sets map[string]rules.Set) (map[string]*Policy, error) {
	ld := &loading{config: c, kept: l.kept, next: map[content]*List{}, read: map[string]reading{}, shared: map[string]lists{}}
	policies := map[string]*Policy{}
	for i, a := range c.Apps {
		policies[a.Name] = ld.policy(i, sets[a.Name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.Lists)) { // those that nobody uses are to be right, too
		ld.named(name)
	}
	if err := errors.Join(ld.errs...); err != nil {
		return nil, err
	}
	l.kept = ld.next
	return policies, nil
}

// loading is one Load.
type loading struct {
	config *config.Config
	kept   map[content]*List
	next   map[content]*List
	read   map[string]reading // by name of the file
	shared map[string]lists   // those of edge.yaml
	errs   []error
}

// reading is what came of a file.
type reading struct {
	list *List // an empty one where it has faults, which have been told
	err  error // it could not be read, which is to be told wherever it is named
}

// fault places what is wrong with item i of the list being compiled.
type fault func(i int, format string, args ...any) error

// policy compiles the rules of app n and those of all apps.
func (ld *loading) policy(n int, set rules.Set) *Policy {
	p := &Policy{files: map[string]*List{}}
	c := ld.config
	global := map[string]bool{}
	for i, a := range c.Access {
		global[a.Name] = true
		p.add(ld, a, func(part string, j int, format string, args ...any) error {
			return c.Fault(fmt.Sprintf("access[%d].%s[%d]", i, part, j), format, args...)
		})
	}
	for _, a := range set.Access {
		if global[a.Name] {
			ld.errs = append(ld.errs, set.Fault(a, "name", "name: there is another access rule %q in edge.yaml", a.Name))
		}
		p.add(ld, a, func(part string, j int, format string, args ...any) error {
			return set.Fault(a, fmt.Sprintf("%s[%d]", part, j), format, args...)
		})
	}
	at := func(path string) fault {
		return func(i int, format string, args ...any) error {
			return c.Fault(fmt.Sprintf("%s[%d]", path, i), format, args...)
		}
	}
	p.trust = append(ld.lists(p, c.Trust, "", at("trust")), ld.lists(p, c.Apps[n].Trust, "", at(fmt.Sprintf("apps[%d].trust", n)))...)
	return p
}

// add compiles one rule. Those that are off are compiled for their faults.
func (p *Policy) add(ld *loading, a rules.Access, at func(part string, i int, format string, args ...any) error) {
	in := func(part string) fault {
		return func(i int, format string, args ...any) error { return at(part, i, format, args...) }
	}
	r := rule{name: a.Name, match: a.Match, enforce: a.Mode == rules.Block, deny: ld.lists(p, a.Deny, "the deny list", in("deny"))}
	if a.Allow != nil {
		r.allow = append(lists{}, ld.lists(p, a.Allow, "the allow list", in("allow"))...)
	}
	if a.Mode != rules.Off {
		p.rules = append(p.rules, r)
	}
}

// lists compiles items: what is written in them is one list, by the name inline,
// each file another, and a list that they name brings its own.
func (ld *loading) lists(p *Policy, items []ranges.Item, inline string, at fault) (all lists) {
	var own []ranges.Entry
	for i, item := range items {
		switch {
		case item.List != "":
			if why := ld.config.Unknown(item); why != "" {
				ld.errs = append(ld.errs, at(i, "%s", why))
			}
			all = append(all, ld.named(item.List)...)
			for _, file := range ranges.Files(ld.config.Lists[item.List]) {
				p.files[file] = ld.file(file).list
			}
		case item.File != "":
			r := ld.file(item.File)
			if r.err != nil {
				ld.errs = append(ld.errs, at(i, "%v", r.err))
			}
			p.files[item.File] = r.list
			all = append(all, named{filepath.Base(item.File), r.list})
		default:
			own = append(own, item.Entry)
		}
	}
	if len(own) > 0 {
		all = append(lists{{inline, New(own)}}, all...)
	}
	return all
}

// named compiles one of the lists of edge.yaml, once, and places its faults there.
func (ld *loading) named(name string) lists {
	if all, done := ld.shared[name]; done {
		return all
	}
	items := slices.Clone(ld.config.Lists[name])
	for i := range items {
		items[i].List = "" // a list of lists is a fault that has been told
	}
	all := ld.lists(&Policy{files: map[string]*List{}}, items, name, func(i int, format string, args ...any) error {
		return ld.config.Fault(fmt.Sprintf("lists.%s[%d]", name, i), format, args...)
	})
	for i := range all {
		all[i].name = name // and not those of its files
	}
	ld.shared[name] = all
	return all
}

// file reads a list file, once.
func (ld *loading) file(path string) reading {
	if r, done := ld.read[path]; done {
		return r
	}
	r := reading{list: &List{}}
	data, err := ranges.ReadFile(path)
	if r.err = err; err == nil {
		r.list = ld.parse(path, data)
	}
	ld.read[path] = r
	return r
}

// parse returns the list of a file that holds data, the kept one if there is one.
func (ld *loading) parse(path string, data []byte) *List {
	key := content(sha256.Sum256(append([]byte(path+"\n"), data...)))
	list, kept := ld.kept[key]
	if !kept {
		entries, err := ranges.ParseFile(path, data)
		if err != nil {
			ld.errs = append(ld.errs, err)
		}
		list = New(entries)
	}
	ld.next[key] = list
	return list
}
