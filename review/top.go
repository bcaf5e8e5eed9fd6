package review

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"edge/blocklog"
)

// maxNames bounds a tally: paths and addresses are the clients' choice.
const maxNames = 100_000

// other is what names are counted under when there are too many.
const other = "(others)"

// Tally counts events by name.
type Tally map[string]int

// Add counts one more of name.
func (t Tally) Add(name string) {
	if _, known := t[name]; !known && len(t) >= maxNames {
		name = other
	}
	t[name]++
}

// Count is one line of a tally.
type Count struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// Top returns the n most frequent names.
func (t Tally) Top(n int) []Count {
	all := make([]Count, 0, len(t))
	for _, name := range slices.Sorted(maps.Keys(t)) {
		all = append(all, Count{name, t[name]})
	}
	slices.SortStableFunc(all, func(a, b Count) int { return cmp.Compare(b.Count, a.Count) })
	return all[:min(n, len(all))]
}

// Top is who and what decisions were about.
type Top struct {
	Rules, Clients, Routes, Tenants Tally
}

// NewTop returns an empty Top.
func NewTop() *Top { return &Top{Tally{}, Tally{}, Tally{}, Tally{}} }

// Add counts an event.
func (t *Top) Add(e *blocklog.Event) {
	if e.Rule.ID != "" {
		t.Rules.Add(strings.TrimSpace(e.Rule.ID + " " + e.Rule.Name))
	} else if e.Edge.Reason != "" {
		t.Rules.Add(string(e.Edge.Reason))
	}
	t.Clients.Add(e.Client.IP)
	t.Routes.Add(fmt.Sprintf("%s %s %s", e.Edge.App, e.HTTP.Request.Method, e.URL.Path))
	t.Tenants.Add(app(e))
}

// Groups are the tallies under their titles, the n most frequent of each.
func (t *Top) Groups(n int) []Group {
	return []Group{
		{"rules", t.Rules.Top(n)}, {"clients", t.Clients.Top(n)}, {"routes", t.Routes.Top(n)}, {"tenants", t.Tenants.Top(n)},
	}
}

// Group is a titled tally.
type Group struct {
	Title  string  `json:"title"`
	Counts []Count `json:"counts"`
}

// Print writes groups for people.
func Print(w io.Writer, groups []Group) error {
	for _, g := range groups {
		if len(g.Counts) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s\n", g.Title); err != nil {
			return err
		}
		table := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
		for _, c := range g.Counts {
			if _, err := fmt.Fprintf(table, "%d\t  %s\n", c.Count, blocklog.Printable(blocklog.Clip(c.Name, 66))); err != nil {
				return err
			}
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}
