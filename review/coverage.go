package review

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"edge/blocklog"
)

// maxRoutes is how many routes of an app are told apart.
const maxRoutes = 500

// Coverage sums up how much of its requests the WAF saw, by app and route.
type Coverage struct {
	rows   map[[2]string]*Seen
	routes map[string]int // by app
	Silent int            // records that do not say, being older than the field
}

// Seen is how much of the requests of one route the WAF saw. The counts but
// Requests add up to Requests.
type Seen struct {
	App      string `json:"app"`
	Route    string `json:"route"`
	Requests int    `json:"requests"`
	Full     int    `json:"full"`
	Partial  int    `json:"partial"`
	Headers  int    `json:"headers"`
	None     int    `json:"none"`    // went on without being looked at, or could not be
	Refused  int    `json:"refused"` // refused for something else, before the WAF was asked
}

// NewCoverage returns an empty Coverage.
func NewCoverage() *Coverage { return &Coverage{rows: map[[2]string]*Seen{}, routes: map[string]int{}} }

// Add counts an event of the access log. What was asked of no app is not counted.
func (c *Coverage) Add(e *blocklog.Event) {
	switch {
	case e.Edge.App == "":
		return
	case e.Edge.Inspection == "":
		c.Silent++
		return
	}
	s := c.row(e.Edge.App, Route(e.HTTP.Request.Method, e.URL.Path))
	s.Requests++
	switch e.Edge.Inspection {
	case blocklog.InspectedFull:
		s.Full++
	case blocklog.InspectedPartial:
		s.Partial++
	case blocklog.InspectedHeaders:
		s.Headers++
	default:
		if e.Edge.Action == blocklog.Deny {
			s.Refused++
		} else {
			s.None++
		}
	}
}

func (c *Coverage) row(app, route string) *Seen {
	if s := c.rows[[2]string{app, route}]; s != nil {
		return s
	}
	if c.routes[app] >= maxRoutes {
		route = other
	}
	key := [2]string{app, route}
	if c.rows[key] == nil {
		c.routes[app]++
		c.rows[key] = &Seen{App: app, Route: route}
	}
	return c.rows[key]
}

// unseen is which part of the requests went on without the WAF having seen all.
func (s *Seen) unseen() float64 { return float64(s.Partial+s.Headers+s.None) / float64(s.Requests) }

// Rows returns the routes, those of which the WAF saw least first, and of these
// the busiest.
func (c *Coverage) Rows() []Seen {
	rows := make([]Seen, 0, len(c.rows))
	for _, s := range c.rows {
		rows = append(rows, *s)
	}
	slices.SortFunc(rows, func(a, b Seen) int {
		return cmp.Or(cmp.Compare(b.unseen(), a.unseen()), cmp.Compare(b.Requests, a.Requests),
			strings.Compare(a.App, b.App), strings.Compare(a.Route, b.Route))
	})
	return rows
}

// Apps returns the sums, in the same order; their Route is "".
func (c *Coverage) Apps() []Seen {
	sums := Coverage{rows: map[[2]string]*Seen{}, routes: map[string]int{}}
	for _, s := range c.rows {
		sum := sums.row(s.App, "")
		sum.Requests += s.Requests
		sum.Full += s.Full
		sum.Partial += s.Partial
		sum.Headers += s.Headers
		sum.None += s.None
		sum.Refused += s.Refused
	}
	return sums.Rows()
}

// Print writes the sums and the n worst routes for people.
func (c *Coverage) Print(w io.Writer, n int) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(s Seen) {
		share := func(n int) string {
			if n == 0 {
				return "-"
			}
			return fmt.Sprintf("%d (%.3g%%)", n, 100*float64(n)/float64(s.Requests))
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", s.App, s.Requests, share(s.Full), share(s.Partial), // Flush has the error
			share(s.Headers), share(s.None), share(s.Refused), blocklog.Printable(cmp.Or(s.Route, "all")))
	}
	_, _ = fmt.Fprintln(table, "app\trequests\tfull\tpartial\theaders\tnone\trefused\troute")
	for _, s := range c.Apps() {
		line(s)
	}
	rows := c.Rows()
	for _, s := range rows[:min(n, len(rows))] {
		line(s)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, note := range []Count{{"%d more routes; see --number\n", len(rows) - n}, {"%d older records do not say\n", c.Silent}} {
		if note.Count > 0 {
			if _, err := fmt.Fprintf(w, note.Name, note.Count); err != nil {
				return err
			}
		}
	}
	return nil
}
