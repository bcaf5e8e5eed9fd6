// Package review reads the records back: it searches, follows, counts and sums
// up what blocklog has written, for the people who have to judge it.
//
// It works on the files alone, so that it needs no running edge, in constant
// memory, and looks at the bytes of a line before it decodes it, because most
// lines are not what anybody is looking for.
package review

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"edge/blocklog"
	"edge/rules"
)

// Filter says which events are wanted. Every part that is given must hold.
type Filter struct {
	Since, Until time.Time // from, inclusive, and to, exclusive
	App, Tenant  string
	Client       netip.Prefix
	Rule         string // the number or name of a rule that decided or matched
	Path         rules.Pattern
	Action       blocklog.Action
	Reason       blocklog.Reason
	Text         string // anywhere in the record, letter case aside
}

// hints are byte strings that a line must hold to be worth decoding.
func (f Filter) hints() [][]byte {
	var hints [][]byte
	for key, value := range map[string]string{
		"app": f.App, "tenant": f.Tenant, "action": string(f.Action), "reason": string(f.Reason),
	} {
		if value != "" {
			hints = append(hints, fmt.Appendf(nil, `"%s":%s`, key, quote(value)))
		}
	}
	if f.Client.IsValid() && f.Client.IsSingleIP() {
		hints = append(hints, []byte(`"`+f.Client.Addr().String()+`"`))
	}
	if f.Rule != "" {
		hints = append(hints, []byte(f.Rule))
	}
	return hints
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string can always be encoded
	return b
}

// unquoted is s as it stands inside the strings of a record.
func unquoted(s string) []byte {
	b := quote(s)
	return b[1 : len(b)-1]
}

// matches judges a decoded event.
func (f Filter) matches(e *blocklog.Event) bool {
	if f.App != "" && e.Edge.App != f.App || f.Tenant != "" && e.Edge.Tenant != f.Tenant ||
		f.Action != "" && e.Edge.Action != f.Action || f.Reason != "" && e.Edge.Reason != f.Reason || !f.Path.Matches(e.URL.Path) {
		return false
	}
	if f.Client.IsValid() {
		addr, err := netip.ParseAddr(e.Client.IP)
		if err != nil || !f.Client.Contains(addr) {
			return false
		}
	}
	return f.Rule == "" || hasRule(e, f.Rule)
}

func hasRule(e *blocklog.Event, id string) bool {
	if e.Rule.ID == id {
		return true
	}
	for _, m := range e.Edge.Matches {
		if m.ID == id {
			return true
		}
	}
	return slices.ContainsFunc(e.Edge.Rules, func(n int) bool { return strconv.Itoa(n) == id })
}

// when reads the time a line begins with, in the form that sorts as text.
func when(line []byte) []byte {
	const prefix = `{"@timestamp":"`
	if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
		if end := bytes.IndexByte(rest, '"'); end > 0 {
			return bytes.TrimSuffix(rest[:end], []byte("Z"))
		}
	}
	return nil
}

// stamp is t in the form that when returns.
func stamp(t time.Time) []byte {
	if t.IsZero() {
		return nil
	}
	return []byte(t.UTC().Format("2006-01-02T15:04:05.999999999"))
}

// Scan calls yield for every event in the files that f wants, the oldest first,
// with the line it came from, until yield returns false. Lines that are no
// events, such as one cut short by a crash, are skipped.
func Scan(files []string, f Filter, yield func(line []byte, e *blocklog.Event) bool) error {
	m := newMatcher(f)
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		more, err := m.scan(bufio.NewScanner(file), yield)
		if cerr := file.Close(); err == nil {
			err = cerr
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// matcher is a filter, prepared.
type matcher struct {
	Filter
	since, until []byte
	need         [][]byte
	text         []byte
}

func newMatcher(f Filter) *matcher {
	return &matcher{Filter: f, since: stamp(f.Since), until: stamp(f.Until), need: f.hints(), text: bytes.ToLower(unquoted(f.Text))}
}

func (m *matcher) scan(lines *bufio.Scanner, yield func([]byte, *blocklog.Event) bool) (more bool, err error) {
	lines.Buffer(make([]byte, 0, 64<<10), 16*blocklog.MaxLine)
	for lines.Scan() {
		if e := m.event(lines.Bytes()); e != nil && !yield(lines.Bytes(), e) {
			return false, nil
		}
	}
	return true, lines.Err()
}

// event decodes a line if it is wanted.
func (m *matcher) event(line []byte) *blocklog.Event {
	at := when(line)
	if at == nil || m.since != nil && bytes.Compare(at, m.since) < 0 || m.until != nil && bytes.Compare(at, m.until) >= 0 {
		return nil
	}
	for _, h := range m.need {
		if !bytes.Contains(line, h) {
			return nil
		}
	}
	if len(m.text) > 0 && !bytes.Contains(bytes.ToLower(line), m.text) {
		return nil
	}
	var e blocklog.Event
	if json.Unmarshal(line, &e) != nil || !m.matches(&e) {
		return nil
	}
	return &e
}
