package blocklog

import (
	"regexp"
	"strings"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secretWords mark a field's value as secret wherever they occur in its name;
// shortWords only where they stand alone, since a footprint is not an otp.
var (
	secretWords = []string{
		"passw", "passphrase", "kennwort", "motdepasse", "contrasen", "secret", "token", "apikey", "accesskey",
		"privatekey", "authorization", "cookie", "credential", "session", "sessid", "bearer", "signature",
	}
	shortWords = regexp.MustCompile(`(?i)(?:^|[^a-z])(?:pwd|otp|pin|jwt|cvv|cvc|sid|csrf|xsrf)(?:[^a-z]|$)`)
)

// Redactor keeps secrets out of records. It is made once per policy and safe
// for concurrent use; the zero value knows the usual names only.
type Redactor struct{ extra []string }

// NewRedactor returns a Redactor that also treats fields whose name contains one
// of names as secret. Case and separators do not count: "bankAccount",
// "bank_account" and "bank-account" are one.
func NewRedactor(names []string) Redactor {
	var r Redactor
	for _, n := range names {
		r.extra = append(r.extra, bare(n))
	}
	return r
}

// Field reports whether the value of a field of this name must not be recorded.
// Cookies are credentials, all of them.
func (r Redactor) Field(name string) bool {
	if shortWords.MatchString(name) {
		return true
	}
	n := bare(name)
	for _, words := range [][]string{secretWords, r.extra} {
		for _, w := range words {
			if strings.Contains(n, w) {
				return true
			}
		}
	}
	return false
}

// key finds `name=`, `name:` and `"name":` inside free text.
var key = regexp.MustCompile(`([\w.\-\[\]]+)["']?\s*(?:%3[aAdD]|[:=])\s*`)

// Text masks secrets in a value that may hold names of its own, such as a body
// sent as one field or a URL in a parameter: from the first secret name on,
// nothing is kept, because where a value ends depends on who parses it.
func (r Redactor) Text(s string) string {
	for _, m := range key.FindAllStringSubmatchIndex(s, -1) {
		if r.Field(s[m[2]:m[3]]) {
			return s[:m[1]] + Redacted
		}
	}
	return s
}

// Value is what may be recorded of a field: nothing of a secret one, and
// otherwise its text with secrets inside it masked.
func (r Redactor) Value(name, value string) string {
	if value != "" && r.Field(name) {
		return Redacted
	}
	return r.Text(value)
}

// Query masks the values of a URL's query and keeps the names, in order:
// "q=…&page=…". Values that matter to a decision are in its matches.
func Query(raw string) string {
	if raw == "" {
		return ""
	}
	parts := strings.Split(raw, "&")
	for i, p := range parts {
		if name, _, ok := strings.Cut(p, "="); ok {
			parts[i] = name + "=…"
		}
	}
	return strings.Join(parts, "&")
}

// bare lowers s and drops everything but letters and digits.
func bare(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + ('a' - 'A')
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r >= 0x80:
			return r
		}
		return -1
	}, s)
}
