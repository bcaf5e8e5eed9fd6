package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Decode fills the struct v points to. Keys match `yaml:"name"` tags exactly; a
// map from strings takes any.
// A type with UnmarshalText takes any scalar, and may be a struct too, for
// values that have a short form. A key that is left out leaves its field as it
// was, an empty list gives an empty slice that is not nil, and a key with
// nothing behind it is a fault, because its author meant something.
func (d *Document) Decode(v any) {
	if d.root != nil {
		d.value(d.root, "", reflect.ValueOf(v).Elem())
	}
}

func (d *Document) value(n ast.Node, path string, v reflect.Value) {
	at := start(n)
	if _, known := d.places[path]; !known {
		d.places[path] = at
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		d.mapping(at, n.Values, path, v)
	case *ast.MappingValueNode: // a mapping of one key
		d.mapping(at, []*ast.MappingValueNode{n}, path, v)
	case *ast.SequenceNode:
		d.sequence(n, path, v)
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.add(at, "%s: %s is not supported here; write the value out", label(path), strings.ToLower(n.Type().String()))
	case ast.ScalarNode:
		d.scalar(n, path, v)
	default:
		d.add(at, "%s: expected %s", label(path), expected(v.Type()))
	}
}

// start is where a node begins. The token of a block mapping is its first colon.
func start(n ast.Node) *token.Position {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return start(n.Values[0])
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken().Position
	}
	return n.GetToken().Position
}

func (d *Document) mapping(at *token.Position, pairs []*ast.MappingValueNode, path string, v reflect.Value) {
	if v.Kind() == reflect.Map {
		d.entries(pairs, path, v)
		return
	}
	if v.Kind() != reflect.Struct {
		d.add(at, "%s: expected %s, found a mapping", label(path), expected(v.Type()))
		return
	}
	names, fields := keys(v.Type())
	if len(names) == 0 {
		d.add(at, "%s: expected text, found a mapping; put quotes around a value with a colon in it", label(path))
		return
	}
	for _, pair := range pairs {
		tok := pair.Key.GetToken()
		i := slices.Index(names, tok.Value)
		if i < 0 {
			d.add(tok.Position, "unknown key %q%s%s", tok.Value, in(path), DidYouMean(tok.Value, names))
			continue
		}
		child := join(path, tok.Value)
		d.places[child] = tok.Position
		d.value(pair.Value, child, v.FieldByIndex(fields[i]))
	}
}

// entries decodes a mapping whose keys are the author's. What is there stays,
// unless a key is written again.
func (d *Document) entries(pairs []*ast.MappingValueNode, path string, v reflect.Value) {
	m := reflect.MakeMap(v.Type())
	for key, value := range v.Seq2() {
		m.SetMapIndex(key, value)
	}
	for _, pair := range pairs {
		tok := pair.Key.GetToken()
		child := join(path, tok.Value)
		d.places[child] = tok.Position
		value := reflect.New(v.Type().Elem()).Elem()
		d.value(pair.Value, child, value)
		m.SetMapIndex(reflect.ValueOf(tok.Value), value)
	}
	v.Set(m)
}

func (d *Document) sequence(n *ast.SequenceNode, path string, v reflect.Value) {
	if v.Kind() != reflect.Slice {
		d.add(n.GetToken().Position, "%s: expected %s, found a list", label(path), expected(v.Type()))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Values), len(n.Values)))
	for i, item := range n.Values {
		d.value(item, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
	}
}

func (d *Document) scalar(n ast.ScalarNode, path string, v reflect.Value) {
	at := n.GetToken().Position
	fail := func(why string) { d.add(at, "%s: %s", label(path), why) }
	if n.Type() == ast.NullType {
		fail("has no value; remove the key, or write [] where an empty list is meant")
		return
	}
	text := scalarText(n)
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			fail(err.Error())
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct, reflect.Map, reflect.Slice:
		fail(fmt.Sprintf("expected %s, found %q", expected(v.Type()), text))
	default:
		_, isText := n.(*ast.StringNode)
		if v.CanInt() && (isText || !plainInteger.MatchString(text)) { // 2.9 is not 2, nor is "2"
			fail(fmt.Sprintf("expected %s, found %q", expected(v.Type()), text))
			return
		}
		if err := yaml.NodeToValue(n, v.Addr().Interface()); err != nil {
			fail(fmt.Sprintf("expected %s, found %q", expected(v.Type()), text))
		}
	}
}

var plainInteger = regexp.MustCompile(`^(?:0|-?[1-9][0-9]*)$`)

// scalarText is a scalar as the author wrote it: a number keeps its digits, so
// that `name: 007` is a name.
func scalarText(n ast.ScalarNode) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	return n.GetToken().Value
}

// keys lists the YAML names of a struct's fields, those of embedded structs
// included, beside their indexes.
func keys(t reflect.Type) (names []string, fields [][]int) {
	for _, f := range reflect.VisibleFields(t) {
		if name := f.Tag.Get("yaml"); name != "" {
			names, fields = append(names, name), append(fields, f.Index)
		}
	}
	return names, fields
}

// DidYouMean is how a fault about a word that is not known ends: with the known one
// it is nearest to, or, if it is near to none, with all of them.
func DidYouMean(got string, known []string) string {
	best, distance := "", 3 // two slips of the finger are a typo; more is another word
	for _, k := range known {
		if n := levenshtein.ComputeDistance(strings.ToLower(got), k); n < distance {
			best, distance = k, n
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; known here: " + strings.Join(known, ", ")
}

func expected(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a whole number"
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func label(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}
