// Package strictyaml turns YAML that a person wrote into Go structs and tells
// that person everything that is wrong with it at once: unknown keys with the
// nearest known one, values of the wrong shape, and, through [Document.Faultf],
// whatever the caller finds wrong with the meaning. Every fault carries file,
// line and column.
//
// Parsing is goccy/go-yaml's. What is ours is walking its tree beside the Go
// types, because a decoder stops at its first error and an operator should not
// have to. Anchors, aliases, merge keys and tags are refused: a policy file
// must read the same to a reviewer as to the machine.
package strictyaml

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxSize is the largest document Parse takes, in bytes. A generated file that
// grows past it is a mistake somewhere else, and is better refused than loaded.
const MaxSize = 1 << 20

// maxDepth is how many brackets may be open at once. The parser's time grows with
// the square of it.
const maxDepth = 100

// Fault is one thing that is wrong with a document.
type Fault struct {
	File         string
	Line, Column int // from 1; 0 when the fault is the file's as a whole
	Message      string
}

func (f Fault) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
}

// Document is one parsed file and the faults found in it so far.
type Document struct {
	file   string
	root   ast.Node
	places map[string]*token.Position // path of every node that was decoded
	faults []Fault
}

// Parse reads data as one YAML document. Syntax errors become faults, so the
// caller may go on and ask for all of them with [Document.Err].
func Parse(file string, data []byte) *Document {
	d := &Document{file: file, places: map[string]*token.Position{}}
	if len(data) > MaxSize {
		d.add(nil, "is larger than %d bytes", MaxSize)
		return d
	}
	if depth(data) > maxDepth {
		d.add(nil, "nests deeper than %d", maxDepth)
		return d
	}
	tree, err := parser.ParseBytes(bytes.TrimPrefix(data, []byte("\uFEFF")), 0)
	if err != nil {
		d.syntax(err)
		return d
	}
	var bodies []ast.Node
	for _, doc := range tree.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		d.add(nil, "is empty")
	case 1:
		d.root = bodies[0]
	default:
		d.add(start(bodies[1]), "a second document starts here; one file holds one document")
	}
	return d
}

// depth counts brackets, in strings and comments too, which is close enough.
func depth(data []byte) (deepest int) {
	open := 0
	for _, c := range data {
		switch c {
		case '[', '{':
			open++
			deepest = max(deepest, open)
		case ']', '}':
			open = max(0, open-1)
		}
	}
	return deepest
}

// syntax records what the parser said, without the source excerpt it adds.
func (d *Document) syntax(err error) {
	var se yaml.Error
	if errors.As(err, &se) && se.GetToken() != nil {
		d.add(se.GetToken().Position, "%s", se.GetMessage())
		return
	}
	d.add(nil, "%v", err)
}

func (d *Document) fault(at *token.Position, format string, args ...any) Fault {
	f := Fault{File: d.file, Message: fmt.Sprintf(format, args...)}
	if at != nil {
		f.Line, f.Column = at.Line, at.Column
	}
	return f
}

func (d *Document) add(at *token.Position, format string, args ...any) {
	d.faults = append(d.faults, d.fault(at, format, args...))
}

// Faultf records a fault of meaning; see [Document.Fault] for path.
func (d *Document) Faultf(path, format string, args ...any) {
	d.faults = append(d.faults, d.Fault(path, format, args...))
}

// Fault returns a fault of meaning at path without recording it. A path is
// written the way the document nests: "apps[0].hosts[1]". Where the path itself
// was not written, the fault is placed at the nearest enclosing key that was.
func (d *Document) Fault(path, format string, args ...any) Fault {
	for {
		if at, ok := d.places[path]; ok || path == "" {
			return d.fault(at, format, args...)
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// OK reports whether nothing has been found wrong so far.
func (d *Document) OK() bool { return len(d.faults) == 0 }

// Err returns all faults in the order of the file, joined, or nil.
func (d *Document) Err() error {
	slices.SortStableFunc(d.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(d.faults))
	for i, f := range d.faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}
