package waf

import (
	"maps"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

// maxArguments is how many fields a query, a form or a JSON body may have;
// base.conf says the same to the engine.
const maxArguments = 1000

// registerActions makes edgeDistinct known to the rules language. The registry is
// the engine's and belongs to the process; a name of our own changes nothing
// for any other rule set in it.
var registerActions = sync.OnceFunc(func() {
	plugins.RegisterAction("edgeDistinct", func() plugintypes.Action { return distinct{} })
})

// distinct is the action that base.conf runs before any other rule of a phase.
// It guarantees that every value a client sent is inspected as itself: that
// values under one name, be it a header's, a cookie's, a parameter's or a part's,
// are told apart, and that fields of a form whose names differ only in letter
// case are all there.
type distinct struct{}

// Init implements plugintypes.Action.
func (distinct) Init(plugintypes.RuleMetadata, string) error { return nil }

// Type implements plugintypes.Action.
func (distinct) Type() plugintypes.ActionType { return plugintypes.ActionTypeNondisruptive }

// Evaluate implements plugintypes.Action.
func (distinct) Evaluate(_ plugintypes.RuleMetadata, tx plugintypes.TransactionState) {
	v := tx.Variables()
	if v.RequestBodyProcessor().Get() == "URLENCODED" {
		restoreForm(v.ArgsPost(), v.RequestBody().Get())
	}
	addAttributes(v.RequestXML())
	for _, m := range []collection.Map{
		v.ArgsGet(), v.ArgsPost(), v.ArgsPath(), v.RequestHeaders(), v.RequestCookies(), v.MultipartPartHeaders(),
		v.ResponseHeaders(), v.ResponseArgs(),
	} {
		separate(m)
	}
	join(v.ArgsGet())
	join(v.ArgsPost())
}

// join adds, for every name of a query or a form that has several values, all of them
// in one, with commas: so some frameworks hand them to the application, and an
// attack can be spread over them.
func join(m collection.Map) {
	for _, fields := range repeated(m) {
		var values []string
		for _, f := range fields {
			values = append(values, f.value)
		}
		n := len(values) - 1
		if n > 1 && values[n] == strings.Join(values[:n], ",") { // done in an earlier phase
			continue
		}
		m.Add(own(fields[0].name), strings.Join(values, ","))
	}
}

// separate gives every value of a name that has several a key of its own in
// memory. The engine remembers what it made of a value by where its key is, and
// by a position that changes from rule to rule.
func separate(m collection.Map) {
	for name, fields := range repeated(m) {
		m.Remove(name)
		for _, f := range fields {
			m.Add(own(f.name), f.value)
		}
	}
}

// repeated are the fields of each name, in small letters, that has several.
func repeated(m collection.Map) map[string][]field {
	if c, ok := m.(interface {
		Len() int
		TotalValues() int
	}); ok && c.Len() == c.TotalValues() {
		return nil
	}
	byName := map[string][]field{}
	for _, d := range m.FindAll() {
		name := strings.ToLower(d.Key())
		byName[name] = append(byName[name], field{d.Key(), d.Value()})
	}
	maps.DeleteFunc(byName, func(_ string, fields []field) bool { return len(fields) < 2 })
	return byName
}

// own copies a key to a place of its own, even an empty one.
func own(key string) string { return strings.Clone(key + " ")[:len(key)] }

// addAttributes adds the values of a document's attributes to its text, which is
// all of it that the rule set's 4.25.0 looks at (GHSA-6jp8).
func addAttributes(xml collection.Map) {
	const attributes, text = "//@*", "/*"
	values := xml.Get(attributes)
	if len(values) == 0 || len(xml.Get(text)) > 1 { // none, or done
		return
	}
	xml.Set(text, append(xml.Get(text), values...))
}

// restoreForm puts back the fields that are missing from a parsed form.
func restoreForm(m collection.Map, body string) {
	fields := parseForm(body)
	if len(fields) == len(m.FindAll()) {
		return
	}
	for _, f := range fields {
		m.Remove(f.name)
	}
	for _, f := range fields {
		m.Add(own(f.name), f.value)
	}
}

type field struct{ name, value string }

// parseForm reads application/x-www-form-urlencoded as the engine does: pairs
// between "&", empty ones skipped, broken escapes taken literally.
func parseForm(body string) []field {
	var fields []field
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		if len(fields) == maxArguments {
			break
		}
		name, value, _ := strings.Cut(pair, "=")
		fields = append(fields, field{unescape(name), unescape(value)})
	}
	return fields
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			out = append(out, ' ')
		case s[i] == '%' && i+2 < len(s) && hex(s[i+1]) >= 0 && hex(s[i+2]) >= 0:
			out = append(out, byte(hex(s[i+1])<<4|hex(s[i+2])))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out)
}

// hex is the value of a hexadecimal digit, or -1.
func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
