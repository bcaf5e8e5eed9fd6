package blocklog

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secretWords mark a value as secret wherever they occur in its name; "-" stands
// for any separator or none. shortWords do so only as words of their own, be it
// by separators or by capitals: a footprint is no otp.
var (
	secretWords = []string{
		"passw", "passphrase", "kennwort", "mot-de-passe", "contrase", "secret", "token", "api-key", "access-key",
		"private-key", "authoriz", "cookie", "credential", "session", "sessid", "bearer", "signature",
	}
	shortWords = []string{"pass", "pwd", "pw", "pin", "otp", "jwt", "cvv", "cvc", "sid", "csrf", "xsrf", "auth", "sig"}
)

// Redactor keeps secrets out of records. It is made once per policy and safe for
// concurrent use.
type Redactor struct {
	name *regexp.Regexp // the name of a secret
	text *regexp.Regexp // such a name inside a text, with what separates it from its value

	words []string // of which one is in every name of a secret, in small letters
}

// NewRedactor returns a Redactor that also treats fields whose name contains one
// of extra as secret. Case and separators do not count: "bankAccount",
// "bank_account" and "bank-account" are one.
func NewRedactor(extra []string) Redactor {
	var long, capitals []string
	words := slices.Clone(shortWords)
	for _, w := range append(secretWords, extra...) {
		if letters := separators.Split(w, -1); strings.Join(letters, "") != "" {
			words = append(words, strings.ToLower(slices.MaxFunc(letters, func(a, b string) int { return len(a) - len(b) })))
			for i := range letters {
				letters[i] = regexp.QuoteMeta(strings.ToLower(letters[i]))
			}
			long = append(long, strings.Join(letters, `[\W_]{0,3}`))
		}
	}
	for _, w := range shortWords {
		capitals = append(capitals, strings.ToUpper(w[:1])+w[1:], strings.ToUpper(w))
	}
	longer := `(?i:` + strings.Join(long, "|") + `)`
	short := `(?:(?:^|[^A-Za-z])(?i:` + strings.Join(shortWords, "|") + `)|[a-z](?:` + strings.Join(capitals, "|") + `))`
	name := `(?:` + longer + `[\w.\-]*|` + short + `)`
	return Redactor{
		name: regexp.MustCompile(longer + `|` + short + `(?:$|[^A-Za-z]|[A-Z][a-z])`),
		text: regexp.MustCompile(name + separatorForm + `|<[\w:.\-]*` + name + `[^<>]{0,200}>` +
			`|(?i:\b(?:bearer|basic|digest)(?:\s|%20|\+)+)|eyJ[\w-]{5}`),
		words: words,
	}
}

// separators divide a name into words.
var separators = regexp.MustCompile(`[^A-Za-z0-9\x{80}-\x{10FFFF}]+`)

// userinfo is the user and password in a URL.
var userinfo = regexp.MustCompile(`(:\\?/\\?/)[^/\s]+@`)

// separatorForm is what stands between a name and its value: in forms, JSON, XML,
// headers and multipart bodies, escaped once, twice or not.
const separatorForm = `(?i:["'\\\[\]\s]|%(?:25)*(?:22|5b|5d)|&quot;|\\u0022)*(?i:[:=>]|%(?:25)*3[ade]|\\u003[ade]|\r\n)`

// Field reports whether the value of a field of this name must not be recorded.
func (r Redactor) Field(name string) bool { return r.name.MatchString(name) }

// Text masks secrets in a value that may hold names of its own, such as a body
// sent as one field or a URL in a parameter, and credentials known by their form.
// From the first one on nothing is kept, because where a value ends depends on
// who parses it.
func (r Redactor) Text(s string) string {
	if strings.Contains(s, "@") {
		s = userinfo.ReplaceAllString(s, "${1}"+Redacted+"@")
	}
	if !r.suspicious(s) {
		return s
	}
	if m := r.text.FindStringIndex(s); m != nil {
		return s[:m[1]] + Redacted
	}
	return s
}

// suspicious says that there may be a secret in s. Most texts hold none of the words,
// and to look for those costs a fraction of what the expression does. Beyond ASCII
// there are letters that count as others.
func (r Redactor) suspicious(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return true
		}
	}
	in := func(s string) func(string) bool { return func(word string) bool { return strings.Contains(s, word) } }
	lower := strings.ToLower(s)
	return strings.ContainsAny(s, ":=<>%\\\r") && slices.ContainsFunc(r.words, in(lower)) || slices.ContainsFunc(schemes, in(lower))
}

// schemes begin what is a secret without a name.
var schemes = []string{"bearer", "basic", "digest", "eyj"}

// Value is what may be recorded of a field: nothing of a secret one, and
// otherwise its text with secrets inside it masked.
func (r Redactor) Value(name, value string) string {
	if value != "" && r.Field(name) {
		return Redacted
	}
	return r.Text(value)
}

// Query masks a URL's query but for the names in it, in order: "q=…&page=…".
// Values that matter to a decision are in its matches.
func (r Redactor) Query(raw string) string {
	if raw == "" {
		return ""
	}
	parts := strings.Split(raw, "&")
	for i, p := range parts {
		name, _, named := strings.Cut(p, "=")
		if parts[i] = "…"; named {
			parts[i] = r.Text(name) + "=…"
		}
	}
	return strings.Join(parts, "&")
}
