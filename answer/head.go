package answer

import (
	"bytes"
	"fmt"
	"strings"
)

// Limits on an answer's head, and on the heads before it.
const (
	MaxHead    = 64 << 10 // bytes, the blank line included
	MaxLines   = 200
	MaxInterim = 32 // 1xx answers before the final one
)

// Malformed says what is wrong with what an application answered.
type Malformed struct{ What string }

// Error implements error.
func (m *Malformed) Error() string { return "malformed answer: " + m.What }

func malformed(format string, args ...any) *Malformed {
	return &Malformed{fmt.Sprintf(format, args...)}
}

// Head is what the head of an answer says about what follows it.
type Head struct {
	Status  int
	Length  int64 // of the body as announced, -1 where nothing is
	Chunked bool
}

// ParseHead reads a whole head, the blank line at its end included, by the letter
// of RFC 9112: lines end in CRLF, names are tokens with the colon right behind
// them, nothing is folded, no value holds a control character, there is at most
// one Content-Length, and the only Transfer-Encoding is chunked, alone.
func ParseHead(b []byte) (Head, error) {
	h := Head{Length: -1}
	line, rest, ok := cutLine(b)
	if !ok {
		return h, malformed("the head has no end")
	}
	minor, err := h.statusLine(line)
	if err != nil {
		return h, err
	}
	for n := 1; ; n++ {
		if line, rest, ok = cutLine(rest); !ok {
			return h, malformed("the head has no end")
		}
		if len(line) == 0 {
			break
		}
		if n > MaxLines {
			return h, malformed("more than %d header lines", MaxLines)
		}
		name, value, err := parseField(line)
		if err != nil {
			return h, err
		}
		if err := h.framing(name, value); err != nil {
			return h, err
		}
	}
	switch {
	case len(rest) > 0:
		return h, malformed("bytes behind the head")
	case h.Chunked && h.Length >= 0:
		return h, malformed("both Content-Length and Transfer-Encoding")
	case h.Chunked && minor == 0:
		return h, malformed("Transfer-Encoding in HTTP/1.0")
	}
	return h, nil
}

// cutLine cuts at a CRLF. A CR or LF that is no part of one stays in the line,
// where nothing allows it.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i <= 0 || b[i-1] != '\r' {
		return nil, nil, false
	}
	return b[:i-1], b[i+1:], true
}

// statusLine reads HTTP/1.1 200 OK; the reason, and the space before it, may be missing.
func (h *Head) statusLine(line []byte) (minor byte, err error) {
	const form = "HTTP/1.x NNN"
	if len(line) < len(form) || string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' {
		return 0, malformed("%q is no status line of HTTP/1", clip(line))
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, malformed("%q has no status of three digits", clip(line))
		}
		h.Status = 10*h.Status + int(c-'0')
	}
	if h.Status < 100 || h.Status > 599 {
		return 0, malformed("there is no status %d", h.Status)
	}
	if reason := line[len(form):]; len(reason) > 0 && (reason[0] != ' ' || !isText(reason)) {
		return 0, malformed("%q is no status line of HTTP/1", clip(line))
	}
	return line[7] - '0', nil
}

// parseField cuts a header line in two, and looks at every byte of it.
func parseField(line []byte) (name, value []byte, err error) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, malformed("a header is folded over two lines")
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return nil, nil, malformed("a header line without a colon")
	}
	name, value = line[:colon], line[colon+1:]
	if len(name) == 0 {
		return nil, nil, malformed("a header without a name")
	}
	for _, c := range name {
		if class[c]&token == 0 {
			return nil, nil, malformed("%q is no name of a header", clip(name))
		}
	}
	if !isText(value) {
		return nil, nil, malformed("a control character in the header %s", clip(name))
	}
	return name, value, nil
}

// framing takes down what a header says about where the answer ends.
func (h *Head) framing(name, value []byte) error {
	switch {
	case is(name, "content-length"):
		if h.Length >= 0 {
			return malformed("several Content-Lengths")
		}
		return h.contentLength(bytes.Trim(value, " \t"))
	case is(name, "transfer-encoding"):
		if h.Chunked {
			return malformed("several Transfer-Encodings")
		}
		if h.Chunked = is(bytes.Trim(value, " \t"), "chunked"); !h.Chunked {
			return malformed("Transfer-Encoding is %q and not chunked", clip(value))
		}
	}
	return nil
}

func (h *Head) contentLength(value []byte) error {
	if len(value) == 0 || len(value) > 18 {
		return malformed("Content-Length is %q", clip(value))
	}
	h.Length = 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return malformed("Content-Length is %q", clip(value))
		}
		h.Length = 10*h.Length + int64(c-'0')
	}
	return nil
}

// is compares with a lower case name.
func is(b []byte, name string) bool { return len(b) == len(name) && strings.EqualFold(string(b), name) }

// clip shortens what is repeated to reviewers.
func clip(b []byte) []byte { return b[:min(len(b), 40)] }

// What a byte may be part of.
const (
	token = 1 << iota // RFC 9110 §5.6.2
	text              // field-content, a tab included
	hex
)

// class says it of every byte.
var class = func() (t [256]uint8) {
	for c := range t {
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= text
		}
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0 {
			t[c] |= token
		}
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			t[c] |= hex
		}
	}
	return t
}()

func isText(b []byte) bool {
	for _, c := range b {
		if class[c]&text == 0 {
			return false
		}
	}
	return true
}
