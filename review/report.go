package review

import (
	"fmt"
	"io"
	"strings"
	"time"

	"edge/blocklog"
)

// Report sums up a time: attacks, probable false positives, who was refused
// what, and what detect would have denied.
type Report struct {
	Since, Until time.Time

	Denied, Detected, Failed int

	attacks  Tally // refused: class of attack
	refused  Tally // refused: client, app and reason
	detected Tally // would have been refused: app, and rule or reason
	failed   Tally // could not be served: app and reason
	suspects map[suspect]map[string]bool
	counts   map[suspect]int
}

// suspect is a rule that finds something in one field of one route.
type suspect struct{ rule, field, route string }

// manyClients is from how many clients on a suspect is more likely a rule that is
// wrong about a field than an attack: attackers try many fields from few
// addresses, honest people fill in one field from many.
const manyClients = 3

// NewReport returns an empty report on a time.
func NewReport(since, until time.Time) *Report {
	return &Report{
		Since: since, Until: until, attacks: Tally{}, refused: Tally{}, detected: Tally{}, failed: Tally{},
		suspects: map[suspect]map[string]bool{}, counts: map[suspect]int{},
	}
}

// Add counts an event of the block log.
func (r *Report) Add(e *blocklog.Event) {
	cause := strings.TrimSpace(string(e.Edge.Reason) + " " + e.Rule.ID)
	switch e.Edge.Action {
	case blocklog.Deny:
		r.Denied++
		if c := e.Rule.Category; strings.HasPrefix(c, "attack-") {
			r.attacks.Add(strings.TrimPrefix(c, "attack-"))
		}
		r.refused.Add(fmt.Sprintf("%s at %s: %s", e.Client.IP, app(e), e.Edge.Reason))
	case blocklog.Detect:
		r.Detected++
		r.detected.Add(fmt.Sprintf("%s: %s", app(e), cause))
	case blocklog.Fail:
		r.Failed++
		r.failed.Add(fmt.Sprintf("%s: %s", app(e), cause))
	}
	if e.Edge.Reason == blocklog.ReasonWAFScore && len(r.suspects) < maxNames {
		s := suspect{e.Rule.ID, field(e), e.Edge.App + " " + e.URL.Path}
		if r.suspects[s] == nil {
			r.suspects[s] = map[string]bool{}
		}
		if len(r.suspects[s]) < 100 { // more clients change nothing
			r.suspects[s][e.Client.IP] = true
		}
		r.counts[s]++
	}
}

// falsePositives are the suspects that many clients ran into.
func (r *Report) falsePositives() Tally {
	t := Tally{}
	for s, clients := range r.suspects {
		if len(clients) >= manyClients {
			t[fmt.Sprintf("%s in %s at %s, %d clients", s.rule, blocklog.Where(s.field), s.route, len(clients))] = r.counts[s]
		}
	}
	return t
}

// Groups are the parts of the report, at most n lines each.
func (r *Report) Groups(n int) []Group {
	return []Group{
		{"attacks", r.attacks.Top(n)},
		{"probable false positives (one rule, one field, several clients)", r.falsePositives().Top(n)},
		{"refused", r.refused.Top(n)},
		{"would have been refused (detect)", r.detected.Top(n)},
		{"could not be served", r.failed.Top(n)},
	}
}

// Print writes the report for people, on about a page.
func (r *Report) Print(w io.Writer) error {
	const form = "2006-01-02 15:04 MST"
	if _, err := fmt.Fprintf(w, "%s to %s\n%d refused, %d would have been refused, %d could not be served\n\n",
		r.Since.Format(form), r.Until.Format(form), r.Denied, r.Detected, r.Failed); err != nil {
		return err
	}
	return Print(w, r.Groups(8))
}
