package form

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"edge/blocklog"
)

// What a head may hold.
const (
	maxLines   = 100      // of a header
	maxHead    = 32 << 10 // bytes of them, each counted with ": " and its end
	maxCookies = 200
)

// Headers refuses fields of a head that cannot be taken in one way alone,
// whichever version of HTTP (1 or 2) they came by: names that are no tokens,
// control characters in values, and two lines of a field of which there can be
// one. In HTTP/2, fields of a connection are refused, and a TE other than
// trailers. A head of more than 100 lines or 32 KiB is too large (431).
//
// A Host among the fields is left to the caller, who knows the authority, unless
// there are two.
func Headers(h http.Header, major int) *Fault {
	lines, size := 0, 0
	for name, values := range h {
		lines += len(values)
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	if lines > maxLines || size > maxHead {
		return fault(blocklog.ReasonHeadTooLarge, http.StatusRequestHeaderFieldsTooLarge,
			"the head has %d lines and %d bytes, which is more than %d or %d", lines, size, maxLines, maxHead)
	}
	for name, values := range h {
		if !isToken(name) {
			return badHeader("%s is no name of a header", quoted(name))
		}
		if len(values) > 1 && singular(name) {
			return badHeader("there are %d lines of %s", len(values), quoted(name))
		}
		if slices.ContainsFunc(values, hasControl) {
			return badHeader("the header %s holds a control character", quoted(name))
		}
	}
	if major < 2 {
		return nil
	}
	return headers2(h)
}

// headers2 refuses what HTTP/2 has no use for (RFC 9113, 8.2.2).
func headers2(h http.Header) *Fault {
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		if _, ok := h[name]; ok {
			return badHeader("the header %s is not one of HTTP/2", name)
		}
	}
	if te, ok := h["Te"]; ok && (len(te) != 1 || te[0] != "trailers") {
		return badHeader("TE is something else than trailers")
	}
	return nil
}

// singular says of which fields there can be one line. With the others, several
// lines are a list.
func singular(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Authorization", "Content-Encoding", "Content-Length", "Content-Location", "Content-Range", "Content-Type",
		"Content-Disposition", "Date", "Expect", "From", "Host", "If-Modified-Since", "If-Range", "If-Unmodified-Since",
		"Max-Forwards", "Origin", "Proxy-Authorization", "Range", "Referer", "Te", "Transfer-Encoding", "User-Agent",
		"Upgrade-Insecure-Requests", "Sec-Websocket-Key", "Sec-Websocket-Version":
		return true
	}
	return false
}

// hasControl says that s holds what no field does; tabs are allowed.
func hasControl(s string) bool {
	for i := range len(s) {
		if control(s[i]) && s[i] != '\t' {
			return true
		}
	}
	return false
}

// Cookies joins the lines of a Cookie header into one. It refuses what servers
// take apart in different ways: pairs without "=" or with a name that is no
// token or begins with "$", control characters, what is not UTF-8, values that
// begin with a quote and do not end at the next one, and more than 200 cookies.
// Blanks, commas, quotes within a value and the same name twice are honest.
func Cookies(lines []string) (string, *Fault) {
	var joined string
	if len(lines) == 1 {
		joined = strings.TrimRight(lines[0], "; ")
	} else {
		all := make([]string, 0, len(lines))
		for _, line := range lines {
			if line = strings.TrimRight(line, "; "); line != "" {
				all = append(all, line)
			}
		}
		joined = strings.Join(all, "; ")
	}
	if joined == "" {
		return "", nil
	}
	for i, rest, more := 1, joined, true; more; i++ {
		var pair string
		if i > maxCookies {
			return "", badCookie("there are more than %d cookies", maxCookies)
		}
		pair, rest, more = strings.Cut(rest, ";")
		if f := oneCookie(pair, i); f != nil {
			return "", f
		}
	}
	return joined, nil
}

func oneCookie(pair string, i int) *Fault {
	name, value, ok := strings.Cut(strings.Trim(pair, " "), "=")
	value = strings.TrimLeft(value, " ")
	switch inside, isQuoted := strings.CutPrefix(value, `"`); {
	case !ok:
		return badCookie("cookie %d has no =", i)
	case !isToken(name):
		return badCookie("cookie %d has no proper name", i)
	case name[0] == '$':
		return badCookie("cookie %d is named %s", i, quoted(name))
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return badCookie("the cookie %s holds a control character", quoted(name))
	case !utf8.ValidString(value):
		return badCookie("the cookie %s is not UTF-8", quoted(name))
	case isQuoted && (inside == "" || strings.IndexAny(inside, `"\`) != len(inside)-1 || inside[len(inside)-1] != '"'):
		return badCookie("the cookie %s is quoted in part", quoted(name))
	}
	return nil
}

func badCookie(format string, args ...any) *Fault {
	return fault(blocklog.ReasonBadCookie, http.StatusBadRequest, format, args...)
}

// Coding reads the lines of a Content-Encoding header: "", "gzip" or "deflate".
// Others, and several on top of one another, are refused.
func Coding(values []string) (string, *Fault) {
	if len(values) == 0 {
		return "", nil
	}
	switch coding := strings.ToLower(values[0]); {
	case len(values) > 1:
	case coding == "identity":
		return "", nil
	case coding == "gzip", coding == "x-gzip":
		return "gzip", nil
	case coding == "deflate":
		return coding, nil
	}
	return "", fault(blocklog.ReasonBodyEncoding, http.StatusUnsupportedMediaType,
		"the Content-Encoding %s is not accepted", quoted(strings.Join(values, ", ")))
}
