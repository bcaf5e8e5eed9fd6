package listen

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/net/http/httpguts"

	"edge/blocklog"
)

// Limits on the head of a request.
const (
	maxHead     = 32 << 10 // bytes, request line and fields
	maxTarget   = 8 << 10  // bytes of the request target
	maxFields   = 100      // lines
	maxMethod   = 32       // bytes; the longest in use has 17
	maxChunkExt = 4 << 10  // bytes of chunk extensions in one body
	maxTrailer  = 8 << 10  // bytes of the trailer section
)

// head is what the connection must know of a request to find its end.
type head struct {
	method, target []byte
	minor          byte  // of the HTTP/1 version
	length         int64 // of the body; 0 for none
	chunked        bool
	upgrade        bool // to a WebSocket: what follows is no HTTP
}

// fault is a refusal that names what is ambiguous or not HTTP. It is an error
// where it is found in the middle of a body.
type fault struct{ blocklog.Decision }

func (f *fault) Error() string { return string(f.Reason) + ": " + f.Detail }

// Refusal returns what becomes of the request.
func (f *fault) Refusal() blocklog.Decision { return f.Decision }

func refuse(reason blocklog.Reason, status int, format string, args ...any) *fault {
	return &fault{blocklog.Decision{
		Action: blocklog.Deny, Stage: blocklog.StageHTTP, Reason: reason, Status: status, Detail: fmt.Sprintf(format, args...),
	}}
}

// parseHead reads a whole head, its empty line included, as RFC 9112 writes it and
// in no other way. What net/http would repair, ignore or resolve is refused.
func parseHead(b []byte) (h head, f *fault) {
	line, rest, _ := bytes.Cut(b, crlf)
	if f := h.requestLine(line); f != nil {
		return h, f
	}
	seen := fields{length: -1}
	for n := 0; ; n++ {
		line, rest, _ = bytes.Cut(rest, crlf)
		if len(line) == 0 {
			break
		}
		if n == maxFields {
			return h, refuse(blocklog.ReasonHeadTooLarge, http.StatusRequestHeaderFieldsTooLarge, "there are more than %d header lines", maxFields)
		}
		name, value, f := field(line)
		if f == nil {
			f = seen.note(name, value)
		}
		if f != nil {
			return h, f
		}
	}
	return h, h.frame(seen)
}

var crlf = []byte("\r\n")

// requestLine reads "method SP target SP HTTP/1.x" (RFC 9112 §3).
func (h *head) requestLine(line []byte) *fault {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	switch {
	case !token(method) || len(method) > maxMethod: // it may be anything, so it is not repeated
		return refuse(blocklog.ReasonBadMethod, http.StatusBadRequest, "the request does not begin with a method")
	case !ok || !ok2:
		return refuse(blocklog.ReasonBadVersion, http.StatusBadRequest, "the request line has no version")
	case len(target) > maxTarget:
		return refuse(blocklog.ReasonHeadTooLarge, http.StatusRequestURITooLong, "the request target has %d bytes, more than %d", len(target), maxTarget)
	}
	h.method, h.target = method, target
	if f := checkTarget(method, target); f != nil {
		return f
	}
	switch string(version) {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
	default:
		if len(version) == 8 && bytes.HasPrefix(version, []byte("HTTP/")) {
			return refuse(blocklog.ReasonBadVersion, http.StatusHTTPVersionNotSupported, "the version is %s; this is HTTP/1.1", quote(version))
		}
		return refuse(blocklog.ReasonBadVersion, http.StatusBadRequest, "the request line does not end with a version")
	}
	return nil
}

// checkTarget lets through a path with a query, and * for OPTIONS. The forms that
// name a host of their own are for forward proxies (RFC 9112 §3.2).
func checkTarget(method, target []byte) *fault {
	switch {
	case string(target) == "*" && string(method) == http.MethodOptions:
		return nil
	case string(method) == http.MethodConnect:
		return refuse(blocklog.ReasonBadTarget, http.StatusBadRequest, "CONNECT asks for a tunnel, and the edge digs none")
	case len(target) == 0 || target[0] != '/':
		return refuse(blocklog.ReasonBadTarget, http.StatusBadRequest, "the request target is not a path")
	}
	path, _, _ := bytes.Cut(target, []byte("?"))
	for i, c := range target {
		switch {
		case c <= ' ' || c == 0x7f:
			return refuse(blocklog.ReasonBadTarget, http.StatusBadRequest, "the request target has a byte 0x%02x in it", c)
		case c == '#':
			return refuse(blocklog.ReasonBadTarget, http.StatusBadRequest, "the request target has a fragment, which is for clients to keep")
		case c == '%' && i < len(path) && (i+2 >= len(path) || !hex(path[i+1]) || !hex(path[i+2])):
			return refuse(blocklog.ReasonBadTarget, http.StatusBadRequest, "the path has a %% that escapes nothing")
		}
	}
	return nil
}

// field reads "name: value" (RFC 9112 §5). Folded lines, blanks around the name and
// control characters are how requests are smuggled past one reader to another.
func field(line []byte) (name, value []byte, f *fault) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, refuse(blocklog.ReasonBadHeader, http.StatusBadRequest, "a header line is folded")
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !token(name) { // it may be a value, so it is not repeated
		return nil, nil, refuse(blocklog.ReasonBadHeader, http.StatusBadRequest, "a header line does not begin with a name and a colon")
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, refuse(blocklog.ReasonBadHeader, http.StatusBadRequest, "the header %s has a byte 0x%02x in it", quote(name), c)
		}
	}
	return name, bytes.Trim(value, " \t"), nil
}

// fields is what those fields say that decide how a message is read.
type fields struct {
	hosts     int
	length    int64 // -1 where there is none
	coding    []byte
	expect    []byte
	websocket bool
}

func (s *fields) note(name, value []byte) *fault {
	switch {
	case is(name, "host"):
		if s.hosts++; s.hosts > 1 {
			return refuse(blocklog.ReasonBadHost, http.StatusBadRequest, "there is more than one Host")
		}
		if !httpguts.ValidHostHeader(string(value)) {
			return refuse(blocklog.ReasonBadHost, http.StatusBadRequest, "the Host is none")
		}
	case is(name, "content-length"):
		if s.length >= 0 {
			return refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "there is more than one Content-Length")
		}
		if s.length = digits(value); s.length < 0 {
			return refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "the Content-Length is no number of bytes")
		}
	case is(name, "transfer-encoding"):
		if s.coding != nil {
			return refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "there is more than one Transfer-Encoding")
		}
		s.coding = append([]byte{}, value...) // never nil from now on
	case is(name, "expect"):
		if !is(value, "100-continue") || s.expect != nil {
			return refuse(blocklog.ReasonBadExpect, http.StatusExpectationFailed, "Expect is %s, and 100-continue is all there is", quote(value))
		}
		s.expect = value
	case is(name, "upgrade"):
		s.websocket = s.websocket || is(value, "websocket")
	}
	return nil
}

// frame says where the body ends (RFC 9112 §6). Two ways to say it are one too many,
// and so is any in HTTP/1.0, whose applications disagree about it.
func (h *head) frame(s fields) *fault {
	switch {
	case h.minor == 1 && s.hosts == 0:
		return refuse(blocklog.ReasonBadHost, http.StatusBadRequest, "there is no Host")
	case s.coding != nil && s.length >= 0:
		return refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "there are both Transfer-Encoding and Content-Length")
	case h.minor == 0 && (s.coding != nil || s.length > 0):
		return refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "a request of HTTP/1.0 has a body")
	case s.coding != nil && !is(s.coding, "chunked"):
		return refuse(blocklog.ReasonBadFraming, http.StatusNotImplemented, "Transfer-Encoding is %s, and chunked is all there is", quote(s.coding))
	}
	h.length, h.chunked = max(0, s.length), s.coding != nil
	h.upgrade = s.websocket
	return nil
}

// chunkLine reads "size[;extension]" (RFC 9112 §7.1), and returns the size as it is
// written, too. It is -1 for what is none.
func chunkLine(line []byte) (size int64, written []byte) {
	written, _, _ = bytes.Cut(line, []byte(";"))
	if len(written) == 0 || len(written) > 15 {
		return -1, nil
	}
	for _, c := range written {
		if !hex(c) {
			return -1, nil
		}
	}
	for _, c := range line[len(written):] {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return -1, nil
		}
	}
	size, _ = strconv.ParseInt(string(written), 16, 64) // at most 15 digits
	return size, written
}

// digits is a decimal number of at most 18 digits, or -1.
func digits(b []byte) int64 {
	if len(b) == 0 || len(b) > 18 {
		return -1
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
	}
	n, _ := strconv.ParseInt(string(b), 10, 64) // digits, few enough
	return n
}

// token is RFC 9110 §5.6.2.
func token(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return len(b) > 0
}

func hex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// is compares without regard to ASCII case; word is in small letters.
func is(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// quote is a part of a request for the reviewer, not too long.
func quote(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%q…", b[:40])
	}
	return fmt.Sprintf("%q", b)
}
