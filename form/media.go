package form

import (
	"net/http"
	"slices"
	"strings"

	"edge/blocklog"
)

// Kind is how a body is read.
type Kind int

// The kinds. None is a request without a Content-Type.
const (
	None Kind = iota
	Form
	Multipart
	JSON
	NDJSON
	XML
	Text
	Other
)

// Type is what a Content-Type says.
type Type struct {
	Media    string // in lower case: application/json
	Kind     Kind
	Boundary string // of Multipart
	Charset  string // in lower case, "" where none is given; utf-8 is never spelled utf8
}

// ContentType reads the lines of a Content-Type header. There may be one, and
// it must be a media type with parameters as RFC 9110 (8.3.1) has them; refused
// are lists, tabs, parameters given twice or in the extended form of RFC 2231,
// and escapes in quoted strings. A charset must be one of charsets.
//
// A boundary is 1 to 70 characters of RFC 2046, but for commas and blanks. It may
// be quoted, as some clients do even where there is no need to.
func ContentType(values []string, charsets []string) (Type, *Fault) {
	switch len(values) {
	case 0:
		return Type{}, nil
	case 1:
	default:
		return Type{}, badHeader("there are %d lines of Content-Type", len(values))
	}
	media, rest, more := strings.Cut(values[0], ";")
	if more {
		media = strings.TrimSuffix(media, " ")
	}
	kind, sub, _ := strings.Cut(media, "/")
	if !isToken(kind) || !isToken(sub) || strings.HasSuffix(rest, " ") {
		return Type{}, badHeader("the Content-Type %s is no media type", quoted(values[0]))
	}
	params, f := parameters(rest)
	if f != nil {
		return Type{}, badHeader("the Content-Type %s: %s", quoted(values[0]), f.Detail)
	}
	t := Type{Media: strings.ToLower(media)}
	t.Kind = kindOf(t.Media)
	if f := t.complete(params, charsets); f != nil {
		return Type{}, f
	}
	return t, nil
}

// complete takes the parameters that change how a body is read.
func (t *Type) complete(params []parameter, charsets []string) *Fault {
	if charset, ok := find(params, "charset"); ok {
		if t.Charset = strings.ToLower(charset); t.Charset == "utf8" {
			t.Charset = "utf-8"
		}
		if !slices.ContainsFunc(charsets, func(c string) bool {
			return strings.EqualFold(c, t.Charset) || t.Charset == "utf-8" && strings.EqualFold(c, "utf8")
		}) {
			return fault(blocklog.ReasonBodyType, http.StatusUnsupportedMediaType, "the charset %s is not accepted", quoted(charset))
		}
	}
	if t.Kind == Multipart {
		t.Boundary, _ = find(params, "boundary")
		if !isBoundary(t.Boundary) {
			return badHeader("the multipart boundary %s is none", quoted(t.Boundary))
		}
	}
	return nil
}

func isBoundary(s string) bool {
	for i := range len(s) {
		if !wordByte(s[i]) && strings.IndexByte("'()+_-./:=?", s[i]) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 70
}

// kindOf sorts media types by the parser that applications give them to.
func kindOf(media string) Kind {
	top, sub, _ := strings.Cut(media, "/")
	ends := func(suffixes ...string) bool {
		return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(sub, s) })
	}
	switch {
	case media == "application/x-www-form-urlencoded":
		return Form
	case media == "multipart/form-data":
		return Multipart
	case ends("ndjson", "jsonl", "jsonlines", "json-lines", "json-seq", "json-stream"):
		return NDJSON
	case strings.Contains(sub, "json"), media == "application/csp-report":
		return JSON
	case sub == "xml", ends("+xml", "-xml", ".xml"), strings.HasPrefix(sub, "xml-"):
		return XML
	case top == "text":
		return Text
	}
	return Other
}

// parameter is one of a header's value; its name is in lower case.
type parameter struct{ name, value string }

func find(params []parameter, name string) (string, bool) {
	i := slices.IndexFunc(params, func(p parameter) bool { return p.name == name })
	if i < 0 {
		return "", false
	}
	return params[i].value, true
}

// extendedFilename is the one parameter of the form of RFC 2231 that is read on: the
// library of .NET sends it with every file. It has a meaning in multipart alone, and
// in a Content-Type none.
const extendedFilename = "filename*"

// parameters reads what follows the first semicolon of a header's value. A
// semicolon at the very end is forgiven. The detail of the fault names no value.
func parameters(s string) (params []parameter, f *Fault) {
	for s = strings.TrimLeft(s, " "); s != ""; {
		name, rest, ok := strings.Cut(s, "=")
		if name = strings.ToLower(name); !ok || !isToken(name) {
			return nil, badHeader("parameter %d is malformed", len(params)+1)
		}
		if strings.Contains(name, "*") && name != extendedFilename {
			return nil, badHeader("the parameter %s is of the extended form", quoted(name))
		}
		if _, twice := find(params, name); twice {
			return nil, badHeader("the parameter %s is given twice", quoted(name))
		}
		value, rest, ok := parameterValue(rest)
		if !ok || len(params) == 20 {
			return nil, badHeader("the value of the parameter %s is malformed", quoted(name))
		}
		params = append(params, parameter{name, value})
		if rest = strings.TrimLeft(rest, " "); rest == "" {
			break
		}
		if rest[0] != ';' {
			return nil, badHeader("something follows the parameter %s", quoted(name))
		}
		s = strings.TrimLeft(rest[1:], " ")
	}
	return params, nil
}

// parameterValue takes a token or a quoted string without escapes from the start of s.
func parameterValue(s string) (value, rest string, ok bool) {
	if inside, isQuoted := strings.CutPrefix(s, `"`); isQuoted {
		value, rest, ok = strings.Cut(inside, `"`)
		return value, rest, ok && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' })
	}
	n := 0
	for n < len(s) && tokenByte(s[n]) {
		n++
	}
	return s[:n], s[n:], n > 0
}
