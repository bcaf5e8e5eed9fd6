package house

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"edge/config"
	"edge/rules"
)

var example = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// Every example in the documentation is a good configuration: what starts with
// "# rules" a rules file, anything else an edge.yaml.
func TestExamplesLoad(t *testing.T) {
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"hr.pem", "hr.key", "common.yaml", "hr.yaml"} { // what the examples refer to
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	for _, doc := range append(docs, "../../README.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range example.FindAllStringSubmatch(string(text), -1) {
			found++
			path := filepath.Join(dir, fmt.Sprintf("%s-%d.yaml", filepath.Base(doc), i+1))
			if err := os.WriteFile(path, []byte(m[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(m[1], "# rules") {
				_, err = rules.Load([]string{path})
			} else {
				_, err = config.Load(path)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d examples found", found)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)\)`)

// Every link in the documentation to a file of ours leads somewhere.
func TestLinksLead(t *testing.T) {
	docs, err := filepath.Glob("../../*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range append(docs, more...) {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
}
