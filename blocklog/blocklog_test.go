package blocklog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
)

func TestRedactor(t *testing.T) {
	r := NewRedactor([]string{"bank_account", "--"})
	for name, secret := range map[string]bool{
		"password": true, "user[Password]": true, "json.user.new_passwd": true, "access-token": true, "apiKey": true, "API_KEY": true,
		"Authorization": true, "Proxy-Authorization": true, "Cookie": true, "X-CSRF-Token": true, "X-Auth": true, "otp": true, "user.otp": true,
		"pin": true, "userPin": true, "user_PIN": true, "pass": true, "PHPSESSID": true, "JSESSIONID": true, "jsessionid": true,
		"bankAccountNumber": true, "BANK-ACCOUNT": true,
		"footprint": false, "opinion": false, "compass": false, "author": false, "spinner": false, "note": false, "email": false, "q": false, "": false,
	} {
		if r.Field(name) != secret {
			t.Errorf("%q: secret %v", name, !secret)
		}
	}
	for text, want := range map[string]string{
		"a note":                                        "a note",
		"x=1&password=hush b&y=2":                       "x=1&password=" + Redacted,
		`{"user":"ann","password" : "hush"}`:            `{"user":"ann","password" :` + Redacted,
		`{"password":"hush"}`:                           `{"password":` + Redacted,
		"http://x/?access_token%3Dhush":                 "http://x/?access_token%3D" + Redacted,
		"%22password%22%3A%22hush":                      "%22password%22%3A" + Redacted,
		"<password>hush</password>":                     "<password>" + Redacted,
		"form-data; name=\"password\"\r\n\r\nhush":      "form-data; name=\"password\"\r\n\r\n" + Redacted,
		"Bearer hush":                                   "Bearer " + Redacted,
		"https://ann:hush@hr/":                          "https://" + Redacted + "@hr/",
		"/a;jsessionid=hush":                            "/a;jsessionid=" + Redacted,
		"/reset/token=hush":                             "/reset/token=" + Redacted,
		"x eyJhbGciOi.hush":                             "x eyJhbGci" + Redacted,
		"bank_account: 12":                              "bank_account:" + Redacted,
		"pin=1234":                                      "pin=" + Redacted,
		"user_pwd=hush":                                 "user_pwd=" + Redacted,
		`{"user_pin":"1234"}`:                           `{"user_pin":` + Redacted,
		`{"userPin":"1234"}`:                            `{"userPin":` + Redacted,
		`<password type="a">hush</password>`:            `<password type="a">` + Redacted,
		"password%5B%5D=hush":                           "password%5B%5D=" + Redacted,
		"password[]=hush":                               "password[]=" + Redacted,
		`\u0022password\u0022:\u0022hush`:               `\u0022password\u0022:` + Redacted,
		"password%253Dhush":                             "password%253D" + Redacted,
		"Bearer%20hush":                                 "Bearer%20" + Redacted,
		`https:\/\/ann:hush@hr`:                         `https:\/\/` + Redacted + "@hr",
		"https://ann:hu@sh@hr/":                         "https://" + Redacted + "@hr/",
		"remember the password for tuesday":             "remember the password for tuesday",
		"https://hr.example.com:8443/spinner?compass=1": "https://hr.example.com:8443/spinner?compass=1",
	} {
		if got := r.Text(text); got != want {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
	}
	if got := r.Value("token", ""); got != "" {
		t.Errorf("an empty value became %q", got)
	}
	for raw, want := range map[string]string{
		"": "", "a=1&b=2": "a=…&b=…", "hush&a=": "…&a=…", "a=b=c": "a=…", `{"password":"hush"}`: "…", "password%3Dhush": "…",
		"password%3Dhush=1": "password%3D" + Redacted + "=…",
	} {
		if got := r.Query(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

// A line is one line of valid JSON and at most 8 KiB, whatever a client sends.
func FuzzLine(f *testing.F) {
	f.Add("/a", "curl", "\xff\x00\u2028\x1b[2J", 3)
	f.Add(strings.Repeat("\x00", 5000), strings.Repeat("é", 3000), strings.Repeat("\"", 9000), 40)
	f.Fuzz(func(t *testing.T, path, agent, value string, n int) {
		e := Event{Rule: Rule{agent, path, value}, URL: URL{Path: path, Query: value, Domain: path}, UserAgent: Agent{agent}, TLS: TLS{ServerName: agent}, Error: Fault{value, value}}
		for range n % 50 {
			e.Edge.Matches = append(e.Edge.Matches, Match{Rule: Rule{ID: "1", Name: agent}, Field: path, Value: value, Matched: value})
		}
		var b bytes.Buffer
		written := e
		written.write(&b)
		line := b.Bytes()
		if len(line) > MaxLine || !json.Valid(line) || !utf8.Valid(line) || strings.Count(string(line), "\n") != 1 {
			t.Fatalf("%d bytes: %q", len(line), line)
		}
		var back Event
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatal(err)
		}
		if len(back.Edge.Matches)+back.Edge.Omitted != len(e.Edge.Matches) {
			t.Errorf("%d matches kept, %d omitted, of %d", len(back.Edge.Matches), back.Edge.Omitted, len(e.Edge.Matches))
		}
		if strings.ContainsFunc(back.Explain(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
			t.Errorf("the explanation speaks to the terminal: %q", back.Explain())
		}
	})
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "…"}, {"abcdef", 5, "ab…"}, {"aéé", 4, "a…"}, {"\xff", 5, "\uFFFD"}} {
		if got := Clip(c.s, c.n); got != c.want {
			t.Errorf("%q at %d: %q", c.s, c.n, got)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, keep, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	served := Event{Event: Meta{ID: "served01"}}
	refused := Event{Event: Meta{ID: "refused1"}}
	refused.Apply(Decision{Action: Deny, Matches: []Match{{Value: "x"}}})
	l.Access(served)
	l.Block(refused)
	l.Access(refused)
	l.Access(Event{Event: Meta{ID: "served02"}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, BlockFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"event\":{\"id\":\"refused1\",\"outc"); err != nil { // a crash in mid-line
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for ask, want := range map[string]string{"refused1": "refused1", "ref": "refused1", "last": "refused1", "served01": "served01"} {
		if e, err := Find(dir, ask); err != nil || e.Event.ID != want || (want == "refused1") != (len(e.Edge.Matches) == 1) {
			t.Errorf("%s: %+v, %v", ask, e, err)
		}
	}
	for _, ask := range []string{"nonesuch", "outc"} {
		if _, err := Find(dir, ask); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", ask, err)
		}
	}
	if _, err := Find(dir, "served"); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("two at once: %v", err)
	}
	if l, err = Open(dir, keep, zap.NewNop()); err != nil { // the half line must not swallow the next
		t.Fatal(err)
	}
	l.Block(Event{Event: Meta{ID: "next0001"}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err := Find(dir, "last"); err != nil || e.Event.ID != "next0001" {
		t.Errorf("after a crash: %+v, %v", e, err)
	}
	info, err := os.Stat(filepath.Join(dir, BlockFile))
	if err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A disk that does not take a line costs the line and nothing else.
func TestLostLines(t *testing.T) {
	l, err := Open(t.TempDir(), keep, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(l.block.Filename)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Dir(l.block.Filename), nil, 0o600); err != nil { // no directory, no file
		t.Fatal(err)
	}
	l.Block(Event{})
	l.Access(Event{})
	if l.Lost() != 2 {
		t.Errorf("%d lost", l.Lost())
	}
}

var keep = Keep{MaxSize: 1 << 20, MaxTotal: 3 << 20, MaxAge: 24 * time.Hour}

// Files are put aside when they are full, and the oldest go.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, keep, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	e := Event{UserAgent: Agent{strings.Repeat("x", 1000)}}
	for i := range 6000 {
		e.Event.ID = fmt.Sprintf("n%06d", i)
		l.Access(e)
		if i%1000 == 999 {
			time.Sleep(5 * time.Millisecond) // names have milliseconds
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	for range 1000 { // the oldest are deleted in the background
		if files, err = Files(dir, AccessFile); err != nil {
			t.Fatal(err)
		}
		if len(files) <= 3 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	var total int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
		total += info.Size()
	}
	if len(files) != 3 || total > 3<<20 {
		t.Errorf("%d files with %d bytes", len(files), total)
	}
	if e, err := Find(dir, "n005999"); err != nil || e.Event.ID != "n005999" {
		t.Errorf("the newest: %v", err)
	}
	if e, err := Find(dir, "n004500"); err != nil || e.Event.ID != "n004500" {
		t.Errorf("one put aside: %v", err)
	}
}

func TestSentence(t *testing.T) {
	base := Event{
		Time: time.Date(2027, 3, 1, 9, 0, 0, 0, time.UTC), Client: Client{IP: "203.0.113.7"},
		HTTP: HTTP{Request: Request{Method: "GET"}, Response: Response{403}},
		URL:  URL{Domain: "hr.example.com", Path: "/search"}, Edge: Edge{App: "hr", Tenant: "acme"},
	}
	score := Decision{
		Action: Deny, Reason: ReasonWAFScore, Score: 10, Threshold: 5, Rule: Rule{ID: "942100", Name: "SQL Injection"},
		Matches: []Match{{Rule: Rule{ID: "942130"}, Field: "ARGS:q", Score: 5}, {Rule: Rule{ID: "942100"}, Field: "ARGS:q", Value: "1' OR '1'='1", Score: 5}},
	}
	const who = "On 1 March 2027 at 09:00:00 UTC 203.0.113.7 sent GET hr.example.com/search to hr (tenant acme) and "
	for _, c := range []struct {
		d    Decision
		want string
	}{
		{Decision{}, "got 403 from the application; nothing was held against it."},
		{score, `was refused with 403, because rule 942100 (SQL Injection) matched the field q, which held "1' OR '1'='1", one more rule matched, and the anomaly score of 10 reached the threshold of 5.`},
		{Decision{Action: Deny, Reason: ReasonWAFRule, Rule: Rule{ID: "200002", Name: "Bad body"}}, "was refused with 403, because rule 200002 (Bad body) matched the request, and this rule alone refuses."},
		{Decision{Action: Deny, Reason: ReasonRateLimited, Rule: Rule{ID: "api"}, Detail: "more than 6/m"}, `was refused with 403, because it was one too many for the rate limit "api": more than 6/m.`},
		{Decision{Action: Deny, Reason: ReasonDenied, Rule: Rule{ID: "no-bad-hosts"}, Detail: "203.0.113.7 is in bad-hosts: 203.0.113.0/24 # scanner seen in May"},
			`was refused with 403, because the access rule "no-bad-hosts" denies it: 203.0.113.7 is in bad-hosts: 203.0.113.0/24 # scanner seen in May.`},
		{Decision{Action: Detect, Reason: ReasonNotAllowed, Rule: Rule{ID: "office"}, Detail: "203.0.113.7 is not in offices.txt"},
			`got 403 from the application, but would have been refused, because the access rule "office" lets in only those it allows: 203.0.113.7 is not in offices.txt.`},
		{Decision{Action: Fail, Reason: ReasonUpstream, Detail: "the application could not be reached"}, "got 403, because the application could not be reached."},
	} {
		e := base
		e.Apply(c.d)
		if got := e.Sentence(); got != who+c.want {
			t.Errorf("got  %s\nwant %s", got, who+c.want)
		}
	}
}

// Who is refused all the time does not push the others out of the log, and the
// others are recorded whatever he does.
func TestSample(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, Keep{MaxPerClient: 3}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	record := func(ip string, at time.Duration, decisions ...Decision) {
		e := Event{Time: now.Add(at), Event: Meta{ID: ip + at.String()}, Client: Client{IP: ip}}
		if l.Record(&e, ip, decisions); len(decisions) > 0 && e.Edge.Reason != ReasonWAFScore {
			t.Errorf("%s: the decision is not in the event", at)
		}
	}
	deny := Decision{Action: Deny, Reason: ReasonWAFScore}
	for i := range 10 {
		record("192.0.2.1", time.Duration(i), deny)
		record("192.0.2.2", time.Duration(i))
	}
	record("192.0.2.3", 20, deny)
	record("192.0.2.1", time.Minute, deny)
	if n := l.LeftOut(); n != 7 {
		t.Errorf("%d left out", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{BlockFile: 5, AccessFile: 15} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.Count(string(text), "\n") != want {
			t.Errorf("%s: %v, %d lines, want %d", name, err, strings.Count(string(text), "\n"), want)
		}
	}
}
