package form

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"edge/blocklog"
)

// What a target may hold.
const (
	maxTarget = 8 << 10 // bytes
	maxParams = 1000    // parameters of a query, and of a form
)

// Target is a request target in the origin form (RFC 9112, 3.2.1), or "*".
type Target struct {
	Raw   string // what is inspected and forwarded: as received, with runs of "/" in the path merged, but for that of a URL in it
	Path  string // the path decoded, which is what rules match
	Plain string // the path decoded once and not resolved; another than Path only where that was not strict
	Query string // what follows the "?", as received
}

// URL returns a URL whose request target is Raw, byte for byte, for a scheme and a
// host to be put in.
func (t Target) URL() *url.URL {
	path, _, query := strings.Cut(t.Raw, "?")
	return &url.URL{Opaque: path, RawQuery: t.Query, ForceQuery: query}
}

// ParseTarget reads a request target as it was received. What could not be
// forwarded as it stands is always refused: another form than the origin form
// ("*" passes, and is the caller's to allow for OPTIONS alone), "#", blanks and
// control characters, more than 8 KiB.
//
// If strict, so is what applications are known to read in different ways: raw
// bytes beyond ASCII, escapes that are none, what is not UTF-8 when decoded;
// and in the path: encoded controls and slashes, backslashes, double encoding,
// dot segments, parameters (";"), segments with blanks at either end or a dot at
// the last; NUL in the query, and more than 1,000 parameters. Otherwise all this
// passes, and Path is then the most far-reaching reading: decoded as often as
// possible, parameters cut, dot segments resolved.
func ParseTarget(raw string, strict bool) (Target, *Fault) {
	if f := onWire(raw, strict); f != nil {
		return Target{}, f
	}
	path, query, _ := strings.Cut(raw, "?")
	merged := mergeSlashes(path)
	if len(merged) < len(path) {
		raw = merged + raw[len(path):]
	}
	decoded, f := onePath(merged)
	plain := decoded
	if f != nil && !strict {
		decoded, plain, f = worstPath(merged), decodeLoosely(merged), nil
	}
	if f == nil && strict {
		f = oneQuery(query)
	}
	if f != nil {
		return Target{}, f
	}
	return Target{Raw: raw, Path: decoded, Plain: plain, Query: query}, nil
}

// onWire refuses what no target holds.
func onWire(raw string, strict bool) *Fault {
	if len(raw) > maxTarget {
		return fault(blocklog.ReasonHeadTooLarge, http.StatusRequestURITooLong, "the target has %d bytes, more than %d", len(raw), maxTarget)
	}
	if raw != "*" && !strings.HasPrefix(raw, "/") {
		return badTarget("the target %s does not begin with a slash", quoted(raw))
	}
	for i := range len(raw) {
		switch c := raw[i]; {
		case c <= ' ' || c == 0x7f || c == '#':
			return badTarget("the target holds %q at byte %d", c, i)
		case c >= utf8.RuneSelf && strict:
			return badTarget("the target holds the raw byte 0x%02x at byte %d", c, i)
		}
	}
	return nil
}

// mergeSlashes leaves the two of a URL within a path ("/to/https://…"), which is what
// the rules against including one look for.
func mergeSlashes(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	merged := make([]byte, 0, len(path))
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' || i > 1 && path[i-2] == ':' {
			merged = append(merged, path[i])
		}
	}
	return string(merged)
}

// decode resolves escapes. check is told the bytes that were escaped.
func decode(s, what string, check func(byte) *Fault) (string, *Fault) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	decoded := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			var ok bool
			if c, ok = hexByte(s[i+1:]); !ok {
				return "", badTarget("%s holds %s, which is no escape", what, quoted(s[i:min(i+3, len(s))]))
			}
			if f := check(c); f != nil {
				return "", f
			}
			i += 2
		}
		decoded = append(decoded, c)
	}
	if !utf8.Valid(decoded) {
		return "", badTarget("%s is not UTF-8 when decoded", what)
	}
	return string(decoded), nil
}

// onePath decodes a path that has one reading.
func onePath(path string) (string, *Fault) {
	decoded, f := decode(path, "the path", func(c byte) *Fault {
		if control(c) || c == '/' {
			return badTarget("the path holds the escape %%%02X", c)
		}
		return nil
	})
	if f != nil {
		return "", f
	}
	if !utf8.ValidString(decoded) {
		return "", badTarget("the path is not UTF-8")
	}
	if i := strings.IndexAny(decoded, `\;`); i >= 0 {
		return "", badTarget("the path holds %q", decoded[i])
	}
	if i := escape(decoded); i >= 0 {
		return "", badTarget("the path is encoded twice: %s", quoted(decoded[i:min(i+3, len(decoded))]))
	}
	for segment := range strings.SplitSeq(decoded, "/") {
		if f := oneSegment(segment); f != nil {
			return "", f
		}
	}
	return decoded, nil
}

// escape is where s holds an escape, of the standard or of the kind %u0041; -1 if nowhere.
func escape(s string) int {
	for i := strings.IndexByte(s, '%'); i >= 0 && i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if _, ok := hexByte(s[i+1:]); ok {
			return i
		}
		if _, ok := longEscape(s[i:]); ok {
			return i
		}
	}
	return -1
}

// longEscape is the character of an escape such as %u0041, at the start of s.
func longEscape(s string) (rune, bool) {
	if len(s) < 6 || s[1] != 'u' && s[1] != 'U' {
		return 0, false
	}
	hi, ok := hexByte(s[2:])
	lo, fine := hexByte(s[4:])
	return rune(hi)<<8 | rune(lo), ok && fine
}

func oneSegment(s string) *Fault {
	if s == "" {
		return nil
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	switch {
	case s == "." || s == "..":
		return badTarget("the path holds the dot segment %q", s)
	case unicode.IsSpace(first) || unicode.IsSpace(last):
		return badTarget("the segment %s of the path begins or ends with a blank", quoted(s))
	case last == '.':
		return badTarget("the segment %s of the path ends with a dot", quoted(s))
	}
	return nil
}

func oneQuery(query string) *Fault {
	if n := strings.Count(query, "&") + 1; n > maxParams {
		return badTarget("the query has %d parameters, more than %d", n, maxParams)
	}
	_, f := decode(query, "the query", func(c byte) *Fault {
		if c == 0 {
			return badTarget("the query holds NUL")
		}
		return nil
	})
	return f
}

// worstPath is the most far-reaching reading of a path that has several.
func worstPath(path string) string {
	for range 5 { // so many times nobody decodes
		once := decodeLoosely(path)
		if once == path {
			break
		}
		path = once
	}
	path = strings.ReplaceAll(path, `\`, "/")
	var clean []string
	dir := true
	for segment := range strings.SplitSeq(path, "/") {
		if i := strings.IndexAny(segment, ";\x00"); i >= 0 {
			segment = segment[:i]
		}
		segment = strings.TrimSpace(strings.Map(visible, segment))
		dir = true
		switch trimmed := strings.TrimRight(segment, ". "); {
		case segment == "..":
			clean = clean[:max(len(clean)-1, 0)]
		case trimmed != "":
			clean, dir = append(clean, trimmed), false
		}
	}
	path = "/" + strings.Join(clean, "/")
	if dir && path != "/" {
		path += "/"
	}
	return path
}

// visible drops control characters.
func visible(r rune) rune {
	if unicode.IsControl(r) {
		return -1
	}
	return r
}

// decodeLoosely resolves what somebody takes for an escape: also %u0041, and
// ASCII in two bytes, as %c0%af.
func decodeLoosely(s string) string {
	decoded := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if b, ok := hexByte(s[i+1:]); ok {
				c, i = b, i+2
			} else if r, ok := longEscape(s[i:]); ok {
				decoded, i = utf8.AppendRune(decoded, r), i+5
				continue
			}
		}
		if n := len(decoded); n > 0 && decoded[n-1]&^1 == 0xc0 && c&0xc0 == 0x80 {
			decoded[n-1] = decoded[n-1]<<6 | c&0x3f
			continue
		}
		decoded = append(decoded, c)
	}
	return string(decoded)
}
