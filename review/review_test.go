package review

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edge/blocklog"
)

var nine = time.Date(2027, 3, 1, 9, 0, 0, 0, time.UTC)

func event(i int) blocklog.Event {
	e := blocklog.Event{
		Time: nine.Add(time.Duration(i) * time.Minute), Event: blocklog.Meta{ID: fmt.Sprintf("id%06d", i)},
		Client: blocklog.Client{IP: fmt.Sprintf("203.0.113.%d", i%7)},
		HTTP:   blocklog.HTTP{Request: blocklog.Request{Method: "POST"}, Response: blocklog.Response{Status: 403}},
		URL:    blocklog.URL{Domain: "hr.test", Path: "/api/notes"},
		Edge:   blocklog.Edge{App: "hr", Tenant: "acme", Rules: []int{920330, 942100}},
	}
	e.Apply(blocklog.Decision{
		Action: blocklog.Deny, Stage: blocklog.StageWAF, Reason: blocklog.ReasonWAFScore, Score: 5, Threshold: 5,
		Rule:    blocklog.Rule{ID: "942100", Name: "SQL Injection", Category: "attack-sqli"},
		Matches: []blocklog.Match{{Rule: blocklog.Rule{ID: "942100"}, Field: "ARGS:note", Value: "=cmd|' /C calc'!A0 <b>&\""}},
	})
	return e
}

// write puts events in files, one file for each slice.
func write(t testing.TB, files ...[]blocklog.Event) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for i, events := range files {
		var b bytes.Buffer
		for _, e := range events {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
		b.WriteString(`{"@timestamp":"2027-03-01T09:00:00Z","event":{"id":"cut sh` + "\n")
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%d.jsonl", i)))
		if err := os.WriteFile(paths[i], b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func events(n int) (all []blocklog.Event) {
	for i := range n {
		all = append(all, event(i))
	}
	return all
}

func TestScan(t *testing.T) {
	detect := event(20)
	detect.Edge.App, detect.Edge.Tenant, detect.Edge.Action, detect.URL.Path, detect.Rule.ID = "time", "globex", blocklog.Detect, "/x", "941100"
	files := write(t, events(10), append(events(20)[10:], detect))
	pattern := func(f *Filter) *Filter { _ = f.Path.UnmarshalText([]byte("/api/**")); return f }
	for name, c := range map[string]struct {
		f    *Filter
		want int
	}{
		"all":       {&Filter{}, 21},
		"since":     {&Filter{Since: nine.Add(15 * time.Minute)}, 6},
		"until":     {&Filter{Until: nine.Add(15 * time.Minute)}, 15},
		"app":       {&Filter{App: "time"}, 1},
		"tenant":    {&Filter{Tenant: "globex"}, 1},
		"client":    {&Filter{Client: netip.MustParsePrefix("203.0.113.3/32")}, 3},
		"range":     {&Filter{Client: netip.MustParsePrefix("203.0.113.0/30")}, 12},
		"rule":      {&Filter{Rule: "941100"}, 1},
		"matched":   {&Filter{Rule: "942100"}, 21},
		"no_rule":   {&Filter{Rule: "94210"}, 0},
		"path":      {pattern(&Filter{}), 20},
		"action":    {&Filter{Action: blocklog.Detect}, 1},
		"reason":    {&Filter{Reason: blocklog.ReasonWAFRule}, 0},
		"text":      {&Filter{Text: "CALC"}, 21},
		"escaped":   {&Filter{Text: "<B>&\""}, 21},
		"in_rules":  {&Filter{Rule: "920330"}, 21},
		"both":      {&Filter{App: "hr", Until: nine.Add(time.Minute)}, 1},
		"elsewhere": {&Filter{App: "acme"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := 0
			if err := Scan(files, *c.f, func([]byte, *blocklog.Event) bool { got++; return true }); err != nil || got != c.want {
				t.Errorf("%d events, want %d, %v", got, c.want, err)
			}
		})
	}
	got := 0
	if err := Scan(files, Filter{}, func([]byte, *blocklog.Event) bool { got++; return got < 3 }); err != nil || got != 3 {
		t.Errorf("it goes on when told to stop: %d, %v", got, err)
	}
}

// No cell of a CSV is a formula to a spreadsheet.
func TestCSV(t *testing.T) {
	var out bytes.Buffer
	w := NewCSV(&out)
	e := event(0)
	e.URL.Path, e.Edge.App, e.HTTP.Request.Method = "=1+1", "@app", "-x,\"y\"\n"
	if err := w.Write(&e); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 2 || len(rows[0]) != len(rows[1]) {
		t.Fatalf("%q, %v", rows, err)
	}
	for _, cell := range rows[1] {
		if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
			t.Errorf("%q is a formula", cell)
		}
	}
}

func TestTop(t *testing.T) {
	top := NewTop()
	for _, e := range events(10) {
		top.Add(&e)
	}
	groups := top.Groups(3)
	if c := groups[1].Counts; len(c) != 3 || c[0] != (Count{"203.0.113.0", 2}) || groups[2].Counts[0] != (Count{"hr POST /api/notes", 10}) {
		t.Errorf("%+v", groups)
	}
	many := Tally{}
	for i := range maxNames + 10 {
		many.Add(fmt.Sprint(i))
	}
	if len(many) > maxNames+1 || many[other] != 10 {
		t.Errorf("%d names, %d others", len(many), many[other])
	}
}

func TestReport(t *testing.T) {
	r := NewReport(nine, nine.Add(time.Hour))
	for _, e := range events(10) {
		r.Add(&e)
	}
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10 refused, 0 would have been", "10  sqli", "10  942100 in the field note at hr /api/notes, 7 clients", "2  203.0.113.0 at hr/acme: waf_score"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// Follow sees what is written from now on, also when the file is put aside.
func TestFollow(t *testing.T) {
	path := write(t, events(3))[0]
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		done <- Follow(ctx, path, Filter{}, func(_ []byte, e *blocklog.Event) { got <- e.Event.ID })
	}()
	appendTo := func(i int, halves bool) {
		t.Helper()
		line, err := json.Marshal(event(i))
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if halves {
			_, _ = f.Write(line[:50])
			time.Sleep(150 * time.Millisecond)
			line = line[50:]
		}
		if _, err := f.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
	}
	for i := 100; ; i++ { // until it has begun to look
		appendTo(i, false)
		select {
		case <-got:
		case <-time.After(200 * time.Millisecond):
			continue
		}
		break
	}
	for len(got) > 0 {
		<-got
	}
	appendTo(500, true)
	if id := <-got; id != "id000500" {
		t.Errorf("got %s", id)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	appendTo(501, false)
	if id := <-got; id != "id000501" {
		t.Errorf("after the file was put aside: %s", id)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// BenchmarkSearch looks for one client in a log in which others are. The baseline
// reads the same file and splits it into lines.
func BenchmarkSearch(b *testing.B) {
	path := write(b, events(20_000))[0]
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	none, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]Filter{
		"hit_1_in_7": {Client: netip.MustParsePrefix("203.0.113.3/32")},
		"miss":       {App: "nonesuch"},
		"text":       {Text: "nonesuch"},
		"range":      {Client: netip.MustParsePrefix("198.51.100.0/24")},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(info.Size())
			b.ReportAllocs()
			for b.Loop() {
				if err := Scan([]string{path}, f, func([]byte, *blocklog.Event) bool { return true }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("baseline_lines", func(b *testing.B) {
		b.SetBytes(info.Size())
		for b.Loop() {
			for range bytes.Lines(none) {
			}
		}
	})
}
