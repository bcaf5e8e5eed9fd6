package house

import (
	"encoding/json"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"edge/config"
	"edge/rules"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	reason = regexp.MustCompile(`Reason = "(\w+)"`)
	metric = regexp.MustCompile(`"(edge_[a-z0-9_]+)"`)
)

// Every reason the edge gives has one row in which it is explained, and there is no row
// for any other.
func TestReasonsAreExplained(t *testing.T) {
	docs := read(t, "docs/records.md")
	_, table, _ := strings.Cut(docs, "| reason |")
	var words []string
	for _, m := range reason.FindAllStringSubmatch(read(t, "blocklog/decision.go"), -1) {
		words = append(words, m[1])
		if n := strings.Count(table, "\n| `"+m[1]+"` |"); n != 1 {
			t.Errorf("docs/records.md has %d rows for %s", n, m[1])
		}
	}
	for _, m := range regexp.MustCompile("\n\\| `(\\w+)` \\|").FindAllStringSubmatch(table, -1) {
		if !slices.Contains(words, m[1]) {
			t.Errorf("docs/records.md explains %s, which is no reason", m[1])
		}
	}
}

// Every metric is in the documentation, and every one that is there is one.
func TestMetricsAreExplained(t *testing.T) {
	docs := read(t, "docs/configuration.md")
	var names []string
	for _, m := range metric.FindAllStringSubmatch(read(t, "cmd/edge/run.go")+read(t, "admin/admin.go"), -1) {
		names = append(names, m[1])
		if !strings.Contains(docs, "\n| `"+m[1]+"` |") {
			t.Errorf("docs/configuration.md has no row for %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`(edge_\\w+)`").FindAllStringSubmatch(docs, -1) {
		if !slices.Contains(names, m[1]) {
			t.Errorf("docs/configuration.md speaks of %s, which is no metric", m[1])
		}
	}
}

// Every key of both kinds of files is in docs/configuration.md: in an example, or by name.
func TestKeysAreExplained(t *testing.T) {
	docs := read(t, "docs/configuration.md")
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		props, _ := s["properties"].(map[string]any)
		for key, p := range props {
			if !regexp.MustCompile(`(?:^|[\s{(` + "`" + `.*])` + regexp.QuoteMeta(key) + `(?::|\.|\*\*|` + "`" + `)`).MatchString(docs) {
				t.Errorf("docs/configuration.md says nothing of %s.%s", path, key)
			}
			walk(path+"."+key, p.(map[string]any))
		}
		if items, ok := s["items"].(map[string]any); ok {
			walk(path, items)
		}
		alternatives, _ := s["oneOf"].([]any)
		for _, a := range alternatives {
			walk(path, a.(map[string]any))
		}
	}
	for _, name := range []string{"edge", "rules"} {
		var s map[string]any
		if err := json.Unmarshal([]byte(read(t, "cmd/edge/schema/"+name+".json")), &s); err != nil {
			t.Fatal(err)
		}
		walk(name, s)
	}
}

// limit is a row of the threat model that ends in where its number is from: a name in
// a file, or a key of the configuration.
var limit = regexp.MustCompile("(?m)^\\| [^|]+ \\| ([^|]+) \\|(?: [^|]* \\|)? `(?:([a-z/]+/\\w+\\.go) (\\w+)|([a-z_.]+))` \\|$")

// The numbers of the threat model are those of the code and of the defaults.
func TestThreatModelIsTrue(t *testing.T) {
	rows := limit.FindAllStringSubmatch(read(t, "docs/threat-model.md"), -1)
	if len(rows) < 50 {
		t.Errorf("only %d limits found", len(rows))
	}
	for _, row := range rows {
		said, file, name, key := strings.TrimSpace(row[1]), row[2], row[3], row[4]
		want, ok := amount(said)
		if !ok {
			t.Errorf("%q is no amount", said)
			continue
		}
		got, ok := int64(0), false
		if file != "" {
			got, ok = constant(t, file, name)
		} else {
			got, ok = byDefault(t, key)
		}
		if !ok || got != want {
			t.Errorf("%s%s%s: the threat model says %s (%d), the code %d", file, name, key, said, want, got)
		}
	}
}

var units = map[string]int64{
	"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	"ms": int64(time.Millisecond), "s": int64(time.Second), "min": int64(time.Minute), "h": int64(time.Hour), "d": 24 * int64(time.Hour),
}

// amount reads "1,000", "32 KiB" or "10 s".
func amount(text string) (int64, bool) {
	number, unit, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
	return n * units[unit], err == nil && units[unit] != 0
}

// constant is what file says that name is: as a constant, or as what holds where a
// field of that name is not set.
func constant(t *testing.T, file, name string) (int64, bool) {
	m := regexp.MustCompile(`(?m)^\s*(?:const )?` + name + `\s+= (.*?)(?:\s*//.*)?$|\.` + name + `, ([^),]+)\)$`).FindStringSubmatch(read(t, file))
	if m == nil {
		return 0, false
	}
	text := strings.NewReplacer("time.Millisecond", "1000000", "time.Second", "1000000000", "time.Minute", "60000000000").Replace(m[1] + m[2])
	v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, text)
	if err != nil || v.Value == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(v.Value.ExactString(), 10, 64)
	return n, err == nil
}

// byDefault is the value of a key of the smallest edge.yaml, or of no rules files.
func byDefault(t *testing.T, key string) (int64, bool) {
	path := filepath.Join(t.TempDir(), "edge.yaml")
	text := "tls: {files: [{cert: a, key: b}]}\napps: [{name: a, hosts: [a.test], upstream: http://127.0.0.1:1}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{*c, rules.File{WAF: set.WAF}} {
		if found := find(reflect.ValueOf(v), strings.Split(key, ".")); found.IsValid() && found.CanInt() {
			return found.Int(), true
		}
	}
	return 0, false
}

// find is the value of a key within v, of a list the first.
func find(v reflect.Value, path []string) reflect.Value {
	if v.Kind() == reflect.Slice && v.Len() > 0 {
		v = v.Index(0)
	}
	if len(path) == 0 || v.Kind() != reflect.Struct {
		return v
	}
	for i := range v.NumField() {
		switch f := v.Type().Field(i); {
		case f.Anonymous:
			if in := find(v.Field(i), path); in.IsValid() {
				return in
			}
		case f.Tag.Get("yaml") == path[0]:
			return find(v.Field(i), path[1:])
		}
	}
	return reflect.Value{}
}
