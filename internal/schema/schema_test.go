package schema

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/kaptinlin/jsonschema"

	"edge/config"
	"edge/rules"
)

var update = flag.Bool("update", false, "write the schemas")

func of(t *testing.T, name string) []byte {
	t.Helper()
	var v any = config.Config{}
	if name == "rules" {
		v = rules.File{}
	}
	s, err := Of(v, name+".yaml", "../../config", "../../rules")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The schemas that "edge schema" prints are those of the types.
func TestCurrent(t *testing.T) {
	for _, name := range []string{"edge", "rules"} {
		path := filepath.Join("../../cmd/edge/schema", name+".json")
		want := of(t, name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not current (%v); run: go test ./internal/schema -update", path, err)
		}
	}
}

// Every key says what it is for.
func TestEveryKeyIsDescribed(t *testing.T) {
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		props, _ := s["properties"].(map[string]any)
		for name, p := range props {
			p := p.(map[string]any)
			if _, nested := p["properties"]; !nested && p["description"] == nil && p["items"] == nil {
				t.Errorf("%s.%s has no description", path, name)
			}
			walk(path+"."+name, p)
		}
		if items, ok := s["items"].(map[string]any); ok {
			walk(path+"[]", items)
		}
		alternatives, _ := s["oneOf"].([]any)
		for _, a := range alternatives {
			walk(path, a.(map[string]any))
		}
	}
	for _, name := range []string{"edge", "rules"} {
		var s map[string]any
		if err := json.Unmarshal(of(t, name), &s); err != nil {
			t.Fatal(err)
		}
		walk(name, s)
	}
}

var example = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// The schemas accept every example in the documentation, and not its opposite.
func TestExamples(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	compiled := map[string]*jsonschema.Schema{}
	for _, name := range []string{"edge", "rules"} {
		s, err := compiler.Compile(of(t, name))
		if err != nil {
			t.Fatal(err)
		}
		compiled[name] = s
	}
	for _, doc := range []string{"../../README.md", "../../docs/configuration.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range example.FindAllStringSubmatch(string(text), -1) {
			name := "edge"
			if strings.HasPrefix(m[1], "# rules") {
				name = "rules"
			}
			for suffix, valid := range map[string]bool{"": true, "\nunknown_key: 1\n": false} {
				asJSON, err := yaml.YAMLToJSON([]byte(m[1] + suffix))
				if err != nil {
					t.Fatal(err)
				}
				if res := compiled[name].ValidateJSON(asJSON); res.IsValid() != valid {
					t.Errorf("%s: valid %v, want %v: %v\n%s", doc, res.IsValid(), valid, res.Errors, m[1])
				}
			}
		}
	}
}
