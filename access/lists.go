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

// content is what a list is made of: that of a file, its name included.
type content [sha256.Size]byte

// Load reads the list files that a configuration and the rules of its apps name,
// and returns the policy of each app. Its error joins the faults of all files, and
// those that only show now: files that are not there, names of lists that nobody
// defines, and access rules of one name.
func (l *Lists) Load(c *config.Config, sets map[string]rules.Set) (map[string]*Policy, error) {
	ld := &loading{config: c, kept: l.kept, next: map[content]*List{}, read: map[string]reading{}, byName: map[string]lists{}}
	forAll := ld.forAll()
	policies := map[string]*Policy{}
	for i, a := range c.Apps {
		policies[a.Name] = ld.policy(forAll, i, sets[a.Name])
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
	byName map[string]lists   // those of edge.yaml
	errs   []error
}

// reading is what came of a file.
type reading struct {
	list *List // an empty one where it has faults, which have been told
	err  error // it could not be read, which is to be told wherever it is named
}

// fault places what is wrong with item i of the list being compiled.
type fault func(i int, format string, args ...any) error

// forAll compiles what edge.yaml says for all apps.
func (ld *loading) forAll() *Policy {
	p := &Policy{files: map[string]*List{}}
	for i, a := range ld.config.Access {
		p.add(ld, a, func(path, format string, args ...any) error {
			return ld.config.Fault(fmt.Sprintf("access[%d].%s", i, path), format, args...)
		})
	}
	p.trust = ld.lists(p, ld.config.Trust, "", ld.at("trust"))
	return p
}

// policy compiles the rules of app n, to go with those for all apps.
func (ld *loading) policy(forAll *Policy, n int, set rules.Set) *Policy {
	p := &Policy{rules: slices.Clone(forAll.rules), trust: slices.Clone(forAll.trust), files: maps.Clone(forAll.files)}
	for _, a := range set.Access {
		if slices.ContainsFunc(ld.config.Access, func(g rules.Access) bool { return g.Name == a.Name }) {
			ld.errs = append(ld.errs, set.Fault(a, "name", "name: there is another access rule %q in edge.yaml", a.Name))
		}
		p.add(ld, a, func(path, format string, args ...any) error { return set.Fault(a, path, format, args...) })
	}
	trust := ld.lists(p, ld.config.Apps[n].Trust, "", ld.at(fmt.Sprintf("apps[%d].trust", n)))
	p.trust = append(p.trust, trust...)
	return p
}

// at places faults in the list at path of edge.yaml.
func (ld *loading) at(path string) fault {
	return func(i int, format string, args ...any) error {
		return ld.config.Fault(fmt.Sprintf("%s[%d]", path, i), format, args...)
	}
}

// add compiles one rule, whose faults are placed by at. One that is off is compiled
// for its faults.
func (p *Policy) add(ld *loading, a rules.Access, at func(path, format string, args ...any) error) {
	in := func(part string) fault {
		return func(i int, format string, args ...any) error {
			return at(fmt.Sprintf("%s[%d]", part, i), format, args...)
		}
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
		all = append(lists{{inline, ld.inline(own)}}, all...)
	}
	return all
}

// named compiles one of the lists of edge.yaml, once, and places its faults there.
func (ld *loading) named(name string) lists {
	if all, done := ld.byName[name]; done {
		return all
	}
	items := slices.Clone(ld.config.Lists[name])
	for i := range items {
		items[i].List = "" // a list of lists is a fault that has been told
	}
	all := ld.lists(&Policy{files: map[string]*List{}}, items, name, ld.at("lists."+name))
	for i := range all {
		all[i].name = name // and not those of its files
	}
	ld.byName[name] = all
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

// parse returns the list of a file that holds data.
func (ld *loading) parse(path string, data []byte) *List {
	return ld.share(data, path, func() *List {
		entries, err := ranges.ParseFile(path, data)
		if err != nil {
			ld.errs = append(ld.errs, err)
		}
		return New(entries)
	})
}

// inline returns the list of entries that are written in YAML. Many apps may use
// the same rules file.
func (ld *loading) inline(entries []ranges.Entry) *List {
	var text []byte
	for _, e := range entries {
		text = append(text, e.String()...)
		text = append(text, '\n')
	}
	return ld.share(text, "", func() *List { return New(entries) })
}

// share returns the list of what source holds, and makes it if there is none.
func (ld *loading) share(data []byte, source string, build func() *List) *List {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q\n", source) // a hash takes everything
	_, _ = h.Write(data)
	key := content(h.Sum(nil))
	for _, lists := range []map[content]*List{ld.next, ld.kept} {
		if list, ok := lists[key]; ok {
			ld.next[key] = list
			return list
		}
	}
	ld.next[key] = build()
	return ld.next[key]
}
