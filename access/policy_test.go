package access

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edge/config"
	"edge/rules"
)

const machine = `
tls: {files: [{cert: a.pem, key: a.key}]}
apps: [{name: hr, hosts: [hr.test], upstream: "http://127.0.0.1:1", rules: [rules.yaml], trust: ["file:office.txt"]}]
`

// load writes files and loads the policy of the app hr.
func load(t *testing.T, l *Lists, dir string, files map[string]string) (*Policy, error) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(filepath.Join(dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(c.Apps[0].Rules)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := l.Load(c, map[string]rules.Set{"hr": set})
	return policies["hr"], err
}

func TestJudge(t *testing.T) {
	const denied, others = "denied", "others"
	for name, c := range map[string]struct {
		global, rules, client string
		want                  string // the rule, and why
		noted                 bool
		detail                string
	}{
		"none":               {"", "", "10.1.0.1", "", false, ""},
		"elsewhere":          {"", "{name: a, match: {path: /b}, allow: []}", "10.1.0.1", "", false, ""},
		"absent":             {"", "{name: a, deny: [10.2.0.0/16]}", "10.1.0.1", "", false, ""},
		"empty":              {"", "{name: a, allow: []}", "10.1.0.1", "a others", false, "the allow list is empty, so nobody may"},
		"empty deny":         {"", "{name: a, deny: []}", "10.1.0.1", "", false, ""},
		"denied":             {"", "{name: a, deny: [10.1.0.0/16 until 2027-03-01]}", "10.1.0.1", "a denied", false, "10.1.0.1 is in the deny list: 10.1.0.0/16 until 2027-03-01"},
		"expired":            {"", "{name: a, deny: [10.1.0.0/16 until 2027-02-28]}", "10.1.0.1", "", false, ""},
		"allow expired":      {"", "{name: a, allow: [10.1.0.0/16 until 2027-02-28]}", "10.1.0.1", "a others", false, "10.1.0.1 is no longer in the allow list: 10.1.0.0/16 until 2027-02-28"},
		"allowed":            {"", "{name: a, allow: [10.1.0.0/16]}", "10.1.0.1", "", false, ""},
		"mapped":             {"", "{name: a, deny: [10.1.0.0/16]}", "::ffff:10.1.0.1", "a denied", false, "10.1.0.1 is in the deny list: 10.1.0.0/16"},
		"deny over allow":    {"", "{name: a, allow: [10.1.0.1]}, {name: b, deny: [10.1.0.0/16]}", "10.1.0.1", "b denied", false, ""},
		"deny over no allow": {"", "{name: a, allow: []}, {name: b, deny: [10.1.0.0/16]}", "10.1.0.1", "b denied", false, ""},
		"both in one":        {"", "{name: a, allow: [10.1.0.0/16], deny: [10.1.0.1]}", "10.1.0.1", "a denied", false, ""},
		"two allows":         {"", "{name: a, allow: [10.1.0.0/16]}, {name: b, allow: [10.2.0.0/16]}", "10.1.0.1", "b others", false, ""},
		"global":             {"{name: g, deny: [10.1.0.1]}", "{name: a, allow: [10.1.0.1]}", "10.1.0.1", "g denied", false, ""},
		"global allow":       {"{name: g, allow: [10.2.0.0/16]}", "{name: a, allow: [10.1.0.0/16]}", "10.1.0.1", "g others", false, ""},
		"noted":              {"", "{name: a, mode: detect, deny: [10.1.0.1]}", "10.1.0.1", "a denied", true, ""},
		"refused, not noted": {"", "{name: a, mode: detect, deny: [10.1.0.1]}, {name: b, allow: []}", "10.1.0.1", "b others", false, ""},
		"off":                {"", "{name: a, mode: \"off\", deny: [10.1.0.1]}", "10.1.0.1", "", false, ""},
		"of a list":          {"", "{name: a, deny: [\"list:bad\"]}", "10.6.6.6", "a denied", false, "10.6.6.6 is in bad: 10.6.6.6 # the one"},
		"of its file":        {"", "{name: a, deny: [\"list:bad\"]}", "10.1.0.1", "a denied", false, "10.1.0.1 is in bad: 10.1.0.0/16 # Berlin"},
		"of a file":          {"", "{name: a, deny: [\"file:office.txt\"]}", "10.1.0.1", "a denied", false, "10.1.0.1 is in office.txt: 10.1.0.0/16 # Berlin"},
		"of three":           {"", "{name: a, allow: [\"list:bad\", \"file:office.txt\", 10.9.9.9]}", "10.2.0.1", "a others", false, "10.2.0.1 is not in the allow list, bad or office.txt"},
		"no address denied":  {"", "{name: a, deny: [0.0.0.0/0, \"::/0\"]}", "", "", false, ""},
		"no address allowed": {"", "{name: a, allow: [0.0.0.0/0, \"::/0\"]}", "", "a others", false, "the client's address is not known"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			p, err := load(t, &Lists{}, t.TempDir(), map[string]string{
				"edge.yaml":  machine + "lists: {bad: [\"10.6.6.6 # the one\", \"file:office.txt\"]}\naccess: [" + c.global + "]\n",
				"rules.yaml": "access: [" + c.rules + "]\n", "office.txt": "10.1.0.0/16 # Berlin\n",
			})
			if err != nil {
				t.Fatal(err)
			}
			client, _ := netip.ParseAddr(c.client)
			v := p.Judge(rules.Request{Method: "GET", Path: "/a"}, client, noon)
			got := v.Rule
			if v.Rule != "" {
				got += " " + map[bool]string{true: denied, false: others}[v.Denied]
			}
			if got != c.want || v.Rule != "" && v.Enforce == c.noted || c.detail != "" && v.Detail != c.detail {
				t.Errorf("%+v", v)
			}
			if trusted := strings.HasSuffix(c.client, "10.1.0.1"); p.Trusts(client, noon) != trusted {
				t.Errorf("trusted: %v", !trusted)
			}
		})
	}
	var none *Policy
	if none.Judge(rules.Request{}, netip.Addr{}, noon).Rule != "" || none.Trusts(netip.IPv6Loopback(), noon) {
		t.Error("no policy has an opinion")
	}
}

// What is wrong is all said at once, each fault where it was written.
func TestLoadFaults(t *testing.T) {
	dir := t.TempDir()
	_, err := load(t, &Lists{}, dir, map[string]string{
		"edge.yaml":  machine + "lists:\n  bad: [\"file:office.txt\", \"file:none\"]\naccess:\n  - {name: a, deny: [\"list:bad\"]}\n",
		"rules.yaml": "access:\n  - {name: a, allow: [10.0.0.1, \"list:bed\"]}\n  - {name: b, mode: \"off\", deny: [\"file:.\"]}\n",
		"office.txt": "10.1.0.1/16\n127.1\n",
	})
	want := []string{
		"office.txt:1:1: \"10.1.0.1/16\" has bits set", "office.txt:2:1: \"127.1\" is no address",
		"edge.yaml:5:28: stat none: no such file or directory",
		"rules.yaml:2:6: name: there is another access rule \"a\" in edge.yaml",
		"rules.yaml:2:33: there is no list \"bed\"; did you mean \"bad\"?",
		"rules.yaml:3:35: : is no file",
	}
	if err == nil {
		t.Fatal("it loads")
	}
	got := strings.Split(strings.ReplaceAll(strings.ReplaceAll(err.Error(), dir+"/", ""), dir, ""), "\n")
	for i, w := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], w) {
			t.Errorf("want %s", w)
		}
	}
	if len(got) != len(want) || t.Failed() {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
}

// A file that holds what it held is not read into a list again, and only while
// somebody uses it.
func TestListsAreKept(t *testing.T) {
	var l Lists
	dir := t.TempDir()
	files := map[string]string{
		"edge.yaml":  machine + "lists: {bad: [\"file:bad.txt\"]}\n",
		"rules.yaml": "access:\n  - {name: a, deny: [\"list:bad\", \"file:bad.txt\"]}\n", "bad.txt": "10.0.0.1\n", "office.txt": "",
	}
	one, err := load(t, &l, dir, files)
	if err != nil {
		t.Fatal(err)
	}
	if one.rules[0].deny[0].list != one.rules[0].deny[1].list {
		t.Error("one file, two lists")
	}
	two, err := load(t, &l, dir, map[string]string{"office.txt": "10.0.0.9\n"})
	if err != nil || two.SameFiles(one) || two.rules[0].deny[0].list != one.rules[0].deny[0].list || len(l.kept) != 2 {
		t.Errorf("not kept: %v", err)
	}
	if _, err := load(t, &l, dir, map[string]string{"bad.txt": "10\n"}); err == nil || len(l.kept) != 2 {
		t.Errorf("after a fault: %v", err)
	}
	again, err := load(t, &l, dir, map[string]string{"bad.txt": "10.0.0.1\n", "rules.yaml": "access: [{name: a, deny: [10.0.0.8]}, {name: b, deny: [10.0.0.8]}]"})
	if err != nil || again.rules[0].deny[0].list != again.rules[1].deny[0].list {
		t.Errorf("one list, written twice: %v", err)
	}
	three, err := load(t, &l, dir, map[string]string{"rules.yaml": files["rules.yaml"]})
	if err != nil || !three.SameFiles(two) {
		t.Errorf("back as it was: %v", err)
	}
	if _, err := load(t, &l, dir, map[string]string{"edge.yaml": machine, "rules.yaml": "access: []\n"}); err != nil || len(l.kept) != 1 {
		t.Errorf("%d kept, %v", len(l.kept), err)
	}
}
