// Package house holds the rules of the house as tests: which room may import
// which, which room owns which dependency, and that every room says what it is
// for.
package house

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tiers are the floors of the house, the lowest first. A room imports from lower
// floors only, and never from its own. The tls room is on the floor of those it
// serves beside.
var tiers = [][]string{
	{"internal/strictyaml", "internal/schema", "internal/ranges", "blocklog", "internal/bare"},
	{"rules"},
	{"config"},
	{"access", "answer", "form", "overload", "ratelimit", "waf", "internal/demo"},
	{"admin", "listen", "proxy", "tls", "review"},
	{"cmd/edge"},
}

// owners says which room alone may import a module.
var owners = map[string]string{
	"github.com/corazawaf/coraza/v3":             "waf",
	"github.com/corazawaf/coraza-coreruleset/v4": "waf",
	"github.com/goccy/go-yaml":                   "internal/strictyaml",
	"golang.org/x/time":                          "ratelimit",
	"github.com/go-json-experiment/json":         "form",
	"github.com/yl2chen/cidranger":               "access",
	"github.com/gaissmai/bart":                   "access",
	"github.com/spf13/cobra":                     "cmd/edge",
	"github.com/coder/websocket":                 "internal/demo",
	"gopkg.in/natefinch/lumberjack.v2":           "blocklog",
	"github.com/prometheus/client_golang":        "admin",
	"github.com/fsnotify/fsnotify":               "cmd/edge",
	"github.com/pires/go-proxyproto":             "listen",
}

// room is one package.
type room struct {
	imports []string
	doc     string
}

func rooms(t *testing.T) map[string]room {
	t.Helper()
	found := map[string]room{}
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		name, err := filepath.Rel("../..", filepath.Dir(path))
		r := found[name]
		for _, spec := range file.Imports {
			r.imports = append(r.imports, strings.Trim(spec.Path.Value, `"`))
		}
		r.doc += file.Doc.Text()
		found[name] = r
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func floor(name string) int {
	return slices.IndexFunc(tiers, func(tier []string) bool { return slices.Contains(tier, name) })
}

func TestImportsPointDown(t *testing.T) {
	for name, r := range rooms(t) {
		if floor(name) < 0 {
			t.Errorf("%s is on no floor of the house", name)
		}
		for _, path := range r.imports {
			if below, ok := strings.CutPrefix(path, "edge/"); ok && floor(below) >= floor(name) {
				t.Errorf("%s imports %s", name, below)
			}
		}
	}
}

func TestOneOwnerEach(t *testing.T) {
	for name, r := range rooms(t) {
		for _, path := range r.imports {
			for module, owner := range owners {
				if (path == module || strings.HasPrefix(path, module+"/")) && name != owner {
					t.Errorf("%s imports %s, which is the business of %s", name, path, owner)
				}
			}
		}
	}
}

func TestEveryRoomHasADoor(t *testing.T) {
	for name, r := range rooms(t) {
		if len(r.doc) < 100 {
			t.Errorf("%s does not say what it is for", name)
		}
		base := filepath.Base(name)
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "misc"}, base) {
			t.Errorf("%s says nothing by its name", name)
		}
	}
}
