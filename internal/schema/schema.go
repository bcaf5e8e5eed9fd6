// Package schema makes JSON Schemas (draft 2020-12) of the configuration files
// from the Go types that read them, so that editors complete and check what an
// operator writes. Descriptions are the comments of the types' fields, read from
// their source; the result is kept in the tree and a test keeps it current.
package schema

import (
	"encoding"
	"encoding/json"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// Enum lists the words that a type of text accepts, by the type's name.
var Enum = map[string][]string{
	"rules.Mode":          {"block", "detect", "off"},
	"rules.Key":           {"tenant", "client"},
	"config.Protocol":     {"http1", "h2c"},
	"config.LoadMode":     {"block", "detect"},
	"config.Strictness":   {"strict", "relaxed"},
	"config.TenantSource": {"subdomain", "path", "header", "fixed"},
}

// Of returns the schema of the files that are decoded into v, a struct. Comments
// are read from the Go files in dirs.
func Of(v any, title string, dirs ...string) ([]byte, error) {
	g := generator{comments: map[string]string{}}
	for _, dir := range dirs {
		if err := g.read(dir); err != nil {
			return nil, err
		}
	}
	s := g.of(reflect.TypeOf(v))
	s["$schema"], s["title"] = "https://json-schema.org/draft/2020-12/schema", title
	out, err := json.MarshalIndent(s, "", "  ")
	return append(out, '\n'), err
}

type generator struct {
	comments map[string]string // by package.Type.Field
}

type object = map[string]any

// of is the schema of a type, as the strict decoder reads it.
func (g *generator) of(t reflect.Type) object {
	_, text := reflect.New(t).Interface().(encoding.TextUnmarshaler)
	switch {
	case text && Enum[t.String()] != nil:
		return object{"type": "string", "enum": Enum[t.String()]}
	case text && t.Kind() == reflect.Struct && len(g.properties(t)) > 0: // it has a short form
		return object{"oneOf": []object{{"type": "string"}, g.fields(t)}}
	case text:
		return object{"type": []string{"string", "integer"}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return g.fields(t)
	case reflect.Slice:
		return object{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() != reflect.String {
			return object{"type": "object", "additionalProperties": g.of(t.Elem())}
		}
		return object{"type": "object", "additionalProperties": object{"type": []string{"string", "number", "boolean"}}}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": []string{"string", "number"}}
	}
	return object{"type": "integer"}
}

func (g *generator) fields(t reflect.Type) object {
	return object{"type": "object", "additionalProperties": false, "properties": g.properties(t)}
}

func (g *generator) properties(t reflect.Type) object {
	all := object{}
	for _, f := range reflect.VisibleFields(t) {
		name := f.Tag.Get("yaml")
		if name == "" {
			continue
		}
		s := g.of(f.Type)
		owner := t
		if len(f.Index) > 1 { // of an embedded struct
			owner = t.FieldByIndex(f.Index[:len(f.Index)-1]).Type
		}
		if text := g.comments[owner.String()+"."+f.Name]; text != "" {
			s["description"] = text
		}
		all[name] = s
	}
	return all
}

// read collects the comments of the fields of all types in dir.
func (g *generator) read(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	for _, path := range files {
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if st, ok := spec.Type.(*ast.StructType); ok {
				g.collect(file.Name.Name+"."+spec.Name.Name, st)
			}
			return true
		})
	}
	return nil
}

func (g *generator) collect(name string, st *ast.StructType) {
	for _, f := range st.Fields.List {
		text := plain(f.Doc.Text())
		for _, id := range f.Names {
			g.comments[name+"."+id.Name] = text
		}
	}
}

// plain is a doc comment as one line of text.
func plain(doc string) string {
	var p comment.Parser
	pr := comment.Printer{TextWidth: -1}
	return strings.TrimSpace(strings.ReplaceAll(string(pr.Text(p.Parse(doc))), "\n", " "))
}
