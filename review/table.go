package review

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"

	"edge/blocklog"
)

// row is what a table says of an event.
func row(e *blocklog.Event) []string {
	return []string{
		e.Time.UTC().Format("2006-01-02 15:04:05"), e.Event.ID, e.Client.IP, app(e), e.HTTP.Request.Method, e.URL.Path,
		fmt.Sprint(e.HTTP.Response.Status), string(e.Edge.Action), string(e.Edge.Reason), e.Rule.ID, field(e),
	}
}

var header = []string{"time", "id", "client", "app", "method", "path", "status", "action", "reason", "rule", "field"}

func app(e *blocklog.Event) string {
	if e.Edge.Tenant == "" {
		return e.Edge.App
	}
	return e.Edge.App + "/" + e.Edge.Tenant
}

// field is where the deciding rule found something.
func field(e *blocklog.Event) string {
	for _, m := range e.Edge.Matches {
		if m.ID == e.Rule.ID {
			return m.Field
		}
	}
	return ""
}

// Line is an event in one line of a terminal.
func Line(e *blocklog.Event) string {
	what := e.Edge.Action
	if what == blocklog.Pass {
		what = "pass"
	}
	rule := strings.TrimSpace(e.Rule.ID + " " + blocklog.Printable(field(e)))
	return strings.TrimRight(fmt.Sprintf("%s  %s  %-6s %3d  %s  %s %s  %s %s", e.Time.UTC().Format("01-02 15:04:05"), e.Event.ID, what,
		e.HTTP.Response.Status, e.Client.IP, app(e), blocklog.Printable(e.HTTP.Request.Method+" "+blocklog.Clip(e.URL.Path, 60)), e.Edge.Reason, rule), " ")
}

// CSV writes events as RFC 4180, one row each under a header. What a spreadsheet
// would take for a formula is written with an apostrophe in front.
type CSV struct {
	w     *csv.Writer
	begun bool
}

// NewCSV returns a CSV that writes to w.
func NewCSV(w io.Writer) *CSV { return &CSV{w: csv.NewWriter(w)} }

// Write adds a row.
func (c *CSV) Write(e *blocklog.Event) error {
	if !c.begun {
		c.begun = true
		if err := c.w.Write(header); err != nil {
			return err
		}
	}
	cells := row(e)
	for i, cell := range cells {
		if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
			cells[i] = "'" + cell
		}
	}
	return c.w.Write(cells)
}

// Close writes what is left.
func (c *CSV) Close() error {
	c.w.Flush()
	return c.w.Error()
}
