package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func load(t *testing.T, files ...string) (Set, error) {
	t.Helper()
	var paths []string
	for i, text := range files {
		path := filepath.Join(t.TempDir(), string(rune('a'+i))+".yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return Load(paths)
}

func TestDefaults(t *testing.T) {
	set, err := Load(nil)
	w := set.WAF
	if err != nil || w.Mode != Block || w.Paranoia != 1 || w.DetectionParanoia != 1 || w.Thresholds != (Thresholds{5, 4}) ||
		len(w.Methods) != 7 || w.Responses.Inspect != nil || set.RateLimits != nil {
		t.Errorf("%+v, %v", set, err)
	}
}

// A later file changes what it says and leaves the rest.
func TestFilesCombine(t *testing.T) {
	set, err := load(t,
		"waf: {mode: detect, thresholds: {inbound: 10}, exclusions: [{name: one, rules: [attack-sqli]}]}\nrate_limits: [{name: a, key: [client], limit: 60/m}]\n",
		"waf: {paranoia: 3, exclusions: [{name: two, rules: [942200-942299], variables: [json.a.*.b]}]}\nrate_limits: [{name: b, key: [tenant], limit: 1/h, burst: 9}]\n")
	if w := set.WAF; err != nil || w.Mode != Detect || w.Paranoia != 3 || w.DetectionParanoia != 3 || w.Thresholds != (Thresholds{10, 4}) {
		t.Errorf("%+v, %v", w, err)
	}
	if e := set.WAF.Exclusions; len(e) != 2 || e[0].Name != "one" || e[1].Rules[0] != (Selector{942200, 942299, ""}) ||
		e[1].Variables[0] != (Variable{"ARGS", "json.a.*.b"}) {
		t.Errorf("%+v", e)
	}
	if l := set.RateLimits; len(l) != 2 || l[0].Burst != 1 || l[1].Burst != 9 || l[0].Limit.String() != "60/m" || l[0].Limit.PerSecond != 1 || l[1].Limit.String() != "1/h" {
		t.Errorf("%+v", l)
	}
}

// Access rules of all files add up; absent is not empty; files are beside the file
// that names them; where a rule is written does not make it another one.
func TestAccess(t *testing.T) {
	texts := []string{"access: [{name: a, allow: []}]", "access: [{name: b, mode: detect, match: {path: /x}, deny: [\"file:bad.txt\", \"file:/etc/bad.txt\", \"list:us\", 10.0.0.7 until 2027-03-01]}]"}
	set, err := load(t, texts...)
	if err != nil || len(set.Access) != 2 {
		t.Fatalf("%+v, %v", set.Access, err)
	}
	a, b := set.Access[0], set.Access[1]
	if a.Mode != Block || a.Allow == nil || a.Deny != nil || b.Mode != Detect || b.Allow != nil || len(b.Deny) != 4 || b.Deny[2].List != "us" || b.Deny[3].Until.IsZero() {
		t.Errorf("%+v", set.Access)
	}
	if files := set.ListFiles(); len(files) != 2 || !filepath.IsAbs(files[0]) || filepath.Base(files[0]) != "bad.txt" || files[1] != "/etc/bad.txt" {
		t.Errorf("%v", files)
	}
	if err := set.Fault(b, "deny[2]", "no"); !strings.HasSuffix(err.Error(), "b.yaml:1:97: no") {
		t.Error(err)
	}
	again, err := load(t, "access: [{name: a, allow: []}]", "access: [{name: b, allow: []}]")
	moved, err2 := load(t, "waf: {}", "\naccess: [{name: a, allow: []}, {name: b, allow: []}]")
	if err != nil || err2 != nil || !again.Equal(moved) || again.Equal(set) {
		t.Errorf("%+v, %v\n%+v, %v", again, err, moved, err2)
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"waf: {mode: blok}":                                                      `a.yaml:1:13: waf.mode: "blok" is no mode`,
		"waf: {paranoia: 5}":                                                     `a.yaml:1:7: waf.paranoia: 5 is not between 1 and 4`,
		"waf: {paranoia: 2.9}":                                                   `expected a whole number, found "2.9"`,
		"waf: {paranoia: \"2\"}":                                                 `expected a whole number, found "2"`,
		"waf: {paranoia: 010}":                                                   `expected a whole number, found "010"`,
		"rate_limits: [{name: a, match: {method: post}}]":                        `"post" is no method`,
		"rate_limits: [{name: a, match: {path: /a/../b}}]":                       `no path has a segment ".."`,
		"waf: {paranoia: two}":                                                   `a.yaml:1:17: waf.paranoia: expected a whole number, found "two"`,
		"waf: {paranoia: 3, detection_paranoia: 2}":                              `set waf.detection_paranoia to 2, less than waf.paranoia, which is 3`,
		"waf: {thresholds: {inbound: 0}}":                                        `waf.thresholds.inbound: 0 is not between 1 and 10000`,
		"waf: {methods: [get]}":                                                  `1:17: waf.methods: "get" is no method`,
		"waf: {content_types: [json]}":                                           `waf.content_types: "json" is no media type`,
		"waf: {responses: {inspect: [text/html], max: big}}":                     `waf.responses.max: "big" is no size`,
		"waf: {exclusions: [{name: a, rules: [x1], variables: [ARGS:a]}]}":       `put quotes around a value with a colon in it`,
		"waf: {crs_dir: nonesuch}":                                               `1:7: waf.crs_dir: there is no Core Rule Set in`,
		"waf: {exclusions: [{name: a}]}":                                         `1:20: exclusion "a": rules: says which rules`,
		"waf: {exclusions: [{name: a, rules: [5-1x]}]}":                          `"5-1x" selects no rules`,
		"waf: {exclusions: [{name: a, rules: [999-111]}]}":                       `a range from high to low`,
		"waf: {exclusions: [{name: a, rules: [x1], variables: [\"ARGS:a'b\"]}]}": `is no variable`,
		"waf: {exclusions: [{name: a, rules: [x1], variables: [\"TX:a\"]}]}":     `"TX:a" is no variable`,
		"rate_limits: [{name: a, key: [client]}]":                                `1:15: rate limit "a": limit: is missing`,
		"rate_limits: [{name: a, limit: 5/d, key: [client]}]":                    `"5/d" is no rate`,
		"rate_limits: [{name: a, limit: 5/s}]":                                   `key: says what has a bucket`,
		"rate_limits: [{name: a, limit: 5/s, key: [ip]}]":                        `"ip" is no key; write tenant or client`,
		"rate_limits: [{name: a, match: {path: api}}]":                           `"api" is no path pattern`,
		"rate_limits: [{name: a, match: {path: /a**/b}}]":                        `** stands for whole segments`,
		"rate_limits: [{name: a, limit: 5/s, key: [], burst: -1}]":               `burst: must be positive`,
		"access: [{name: a}]":                                                    `1:10: access rule "a": allow: or deny: says which addresses`,
		"access: [{allow: []}]":                                                  `name: "" is no name`,
		"access: [{name: a, allow: []}, {name: a, deny: []}]":                    `name: there is another access rule "a"`,
		"access: [{name: a, deny: [10.0.0.7/8]}]":                                `access[0].deny[0]: "10.0.0.7/8" has bits set behind its length; did you mean 10.0.0.0/8?`,
		"access: [{name: a, deny: [127.1]}]":                                     `"127.1" is no address or range`,
		"access: [{name: a, deny: [], mode: on}]":                                `"on" is no mode; write block, detect or off`,
		"access: [{name: a, alow: []}]":                                          `unknown key "alow" in access[0]; did you mean "allow"?`,
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
	twice := "rate_limits: [{name: a, limit: 5/s, key: [client]}]"
	if _, err := load(t, twice, twice); err == nil || !strings.Contains(err.Error(), "b.yaml:1:16: name: there is another rate limit \"a\"") {
		t.Errorf("one name in two files: %v", err)
	}
	if _, err := Load([]string{"nonesuch"}); err == nil {
		t.Error("a missing file passes")
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/", "/", true}, {"/", "/a", false},
		{"/a", "/a", true}, {"/a", "/A/", true}, {"/a", "/ab", false}, {"/a", "/a/b", false},
		{"/a/*", "/a/b", true}, {"/a/*", "/a", false}, {"/a/*", "/a/b/c", false},
		{"/a/**", "/a", true}, {"/a/**", "/a/b/c", true}, {"/a/**", "/ab", false},
		{"/**/c", "/c", true}, {"/**/c", "/a/b/c", true}, {"/**/c", "/a/b/d", false},
		{"/a/**/x/**/z", "/a/x/y/x/z", true}, {"/a/**/x/**/z", "/a/y/z", false},
		{"/v*/r-*.pdf", "/v2/r-1.PDF", true}, {"/v*/r-*.pdf", "/v2/x-1.pdf", false},
	} {
		var m Match
		if err := m.Path.UnmarshalText([]byte(c.pattern)); err != nil {
			t.Fatal(err)
		}
		if got := m.Matches(Request{Method: "GET", Path: c.path}); got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.path, got)
		}
	}
	put := Request{Method: "PUT", Tenant: "acme", Path: "/x"}
	if !(Match{}).Matches(put) || (Match{Method: "GET"}).Matches(put) || (Match{Tenant: "globex"}).Matches(put) || !(Match{Tenant: "acme"}).Matches(put) {
		t.Error("method or tenant")
	}
}

// A pattern matches what it matches at any letter case and with any slashes at the
// end, and hostile ones take no longer than their length.
func FuzzMatch(f *testing.F) {
	f.Add("/a/**/b*c", "/a/x/bc")
	f.Add("/"+strings.Repeat("**/a/", 20), "/"+strings.Repeat("a/", 200)+"b")
	f.Add("/"+strings.Repeat("*a", 30), "/"+strings.Repeat("a", 500)+"b")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		var p Pattern
		if p.UnmarshalText([]byte(pattern)) != nil {
			return
		}
		if p.Matches(path) != p.Matches(strings.ToLower(path)) {
			t.Errorf("%q on %q depends on letter case", pattern, path)
		}
		upper := strings.Map(func(r rune) rune {
			if 'a' <= r && r <= 'z' {
				r -= 'a' - 'A'
			}
			return r
		}, path)
		for _, variant := range []string{upper, path + "/", path + "//", "/" + path} {
			if p.Matches(path) != p.Matches(variant) {
				t.Errorf("%q on %q and %q differs", pattern, path, variant)
			}
		}
	})
}

// What has a key of its own is not set in another place, and nobody takes nothing.
func TestWAFFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	for text, want := range map[string]string{
		"waf: {settings: {blocking_paranoia_level: 0}}":             "1:18: waf.settings: blocking_paranoia_level is set by waf.paranoia",
		"waf: {settings: {inbound_anomaly_score_threshold: 99999}}": "1:18: waf.settings: inbound_anomaly_score_threshold is set by waf.thresholds.inbound",
		"waf: {methods: []}":       "waf: methods and content_types must not be empty",
		"waf: {content_types: []}": "waf: methods and content_types must not be empty",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load([]string{path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
