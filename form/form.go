// Package form says what has exactly one meaning.
//
// A filter and an application that read the same bytes differently are a hole:
// the one sees nothing where the other sees an order. So every part of a request
// that parsers are known to disagree about is read here once, strictly, and what
// comes back is either its one canonical meaning or a [Fault] that names the
// ambiguity: the target ([ParseTarget]), the fields of the head ([Headers],
// [Cookies], [ContentType], [Coding]), and bodies as they flow by ([Body], and
// [Decoded] where they are compressed).
//
// Bodies are read as a stream, in memory that does not grow with them. Nothing
// here does any input or output but through the readers handed in; what a refusal
// looks like to the client is decided elsewhere.
package form

import (
	"fmt"
	"net/http"
	"strconv"

	"edge/blocklog"
)

// Fault is why a request is refused.
type Fault struct {
	Reason blocklog.Reason
	Status int
	// Detail is one clause for a reviewer. It quotes at most 40 bytes of what was
	// wrong, and of cookies and bodies only names and positions: values may be
	// secrets.
	Detail string
}

// Error is the detail, after the reason.
func (f *Fault) Error() string { return string(f.Reason) + ": " + f.Detail }

func fault(reason blocklog.Reason, status int, format string, args ...any) *Fault {
	return &Fault{reason, status, fmt.Sprintf(format, args...)}
}

func badTarget(format string, args ...any) *Fault {
	return fault(blocklog.ReasonBadTarget, http.StatusBadRequest, format, args...)
}

func badHeader(format string, args ...any) *Fault {
	return fault(blocklog.ReasonBadHeader, http.StatusBadRequest, format, args...)
}

func badBody(format string, args ...any) *Fault {
	return fault(blocklog.ReasonBodyForm, http.StatusBadRequest, format, args...)
}

// quoted is s as it may stand in a detail: its first 40 bytes, printable.
func quoted(s string) string {
	const most = 40
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}

// isToken says that s is a token (RFC 9110, 5.6.2), as names of fields, cookies
// and parameters are.
func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func tokenByte(c byte) bool {
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return wordByte(c)
}

func wordByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func control(c byte) bool { return c < ' ' || c == 0x7f }

// hexByte is the byte that the two digits at the start of s stand for.
func hexByte(s string) (b byte, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	hi, lo := hexDigit(s[0]), hexDigit(s[1])
	return hi<<4 | lo&15, hi < 16 && lo < 16
}

func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
