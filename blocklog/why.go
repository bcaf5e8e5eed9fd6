package blocklog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Sentence says in one sentence who did what and what came of it.
func (e Event) Sentence() string {
	return fmt.Sprintf("On %s %s sent %s %s%s to %s and %s.",
		e.Time.Format("2 January 2006 at 15:04:05 MST"), or(e.Client.IP, "an unknown client"),
		Printable(e.HTTP.Request.Method), Printable(e.URL.Domain), Printable(e.URL.Path), e.target(), e.outcome())
}

func (e Event) target() string {
	switch {
	case e.Edge.App == "":
		return "no known app"
	case e.Edge.Tenant == "":
		return e.Edge.App
	}
	return fmt.Sprintf("%s (tenant %s)", e.Edge.App, e.Edge.Tenant)
}

func (e Event) outcome() string {
	status := e.HTTP.Response.Status
	switch e.Edge.Action {
	case Deny:
		return fmt.Sprintf("was refused with %d, because %s", status, e.because())
	case Detect:
		return fmt.Sprintf("got %d from the application, but would have been refused, because %s", status, e.because())
	case Fail:
		return fmt.Sprintf("got %d, because %s", status, e.because())
	}
	return fmt.Sprintf("got %d from the application; nothing was held against it", status)
}

// because is the reason as a clause, with the evidence that carries it.
func (e Event) because() string {
	switch e.Edge.Reason {
	case ReasonWAFScore:
		return fmt.Sprintf("%s%s, and the anomaly score of %d reached the threshold of %d", e.finding(), e.others(), e.Edge.Score, e.Edge.Threshold)
	case ReasonWAFRule:
		return fmt.Sprintf("%s, and this rule alone refuses", e.finding())
	case ReasonRateLimited:
		return fmt.Sprintf("it was one too many for the rate limit %q: %s", e.Rule.ID, e.Edge.Detail)
	case ReasonDenied:
		return fmt.Sprintf("the access rule %q denies it: %s", e.Rule.ID, e.Edge.Detail)
	case ReasonNotAllowed:
		return fmt.Sprintf("the access rule %q lets in only those it allows: %s", e.Rule.ID, e.Edge.Detail)
	case ReasonWAFResponse:
		return fmt.Sprintf("of what the application answered: %s", e.finding())
	case ReasonPanic:
		return "the edge ran into a fault of its own"
	}
	return or(e.Edge.Detail, string(e.Edge.Reason))
}

// finding is what the deciding rule found, and where.
func (e Event) finding() string {
	rule := fmt.Sprintf("rule %s (%s)", e.Rule.ID, Printable(e.Rule.Name))
	i := slices.IndexFunc(e.Edge.Matches, func(m Match) bool { return m.ID == e.Rule.ID })
	if i < 0 || e.Edge.Matches[i].Field == "" {
		return rule + " matched the request"
	}
	m := e.Edge.Matches[i]
	if m.Value == "" {
		return fmt.Sprintf("%s matched %s", rule, Where(m.Field))
	}
	return fmt.Sprintf("%s matched %s, which held %q", rule, Where(m.Field), m.Value)
}

// others counts the further rules behind a score.
func (e Event) others() string {
	ids := map[string]bool{}
	for _, m := range e.Edge.Matches {
		if m.Score > 0 {
			ids[m.ID] = true
		}
	}
	switch n := len(ids) - 1; {
	case e.Edge.Omitted > 0:
		return fmt.Sprintf(", at least %d more rules matched", max(n, 1))
	case n <= 0:
		return ""
	case n == 1:
		return ", one more rule matched"
	default:
		return fmt.Sprintf(", %d more rules matched", n)
	}
}

// Where names a field of a request as people do: ARGS:q is the field q.
func Where(field string) string {
	kind, name, named := strings.Cut(field, ":")
	words := map[string]string{
		"ARGS": "the field %s", "ARGS_NAMES": "the name of the field %s", "REQUEST_HEADERS": "the header %s",
		"REQUEST_COOKIES": "the cookie %s", "FILES": "the name of the uploaded file %s", "RESPONSE_HEADERS": "the answer's header %s",
	}
	if phrase, ok := words[kind]; ok && named {
		return fmt.Sprintf(phrase, Printable(name))
	}
	whole := map[string]string{
		"REQUEST_URI": "the URL", "REQUEST_URI_RAW": "the URL", "REQUEST_LINE": "the request line", "REQUEST_FILENAME": "the path",
		"REQUEST_BASENAME": "the end of the path", "QUERY_STRING": "the query", "REQUEST_BODY": "the body", "REQUEST_METHOD": "the method",
		"XML": "the XML body", "REQUEST_XML": "the XML body", "REQUEST_COOKIES": "a cookie", "REQUEST_COOKIES_NAMES": "the name of a cookie", "FILES": "the name of an uploaded file", "RESPONSE_STATUS": "the answer's status", "REQBODY_ERROR": "the body", "URI_PARSE_ERROR": "the URL",
		"MULTIPART_STRICT_ERROR": "the multipart body", "ARGUMENTS_LIMIT_REACHED": "the number of fields",
	}
	return or(whole[kind], Printable(field))
}

// Explain is the sentence and, under it, the evidence.
func (e Event) Explain() string {
	var b strings.Builder
	fmt.Fprintln(&b, wrap(e.Sentence(), 80))
	if len(e.Edge.Matches) > 0 {
		fmt.Fprintln(&b, "\nWhat was found:")
		for _, m := range e.Edge.Matches {
			fmt.Fprintf(&b, "  %s %s (%s)\n", m.ID, Printable(m.Name), points(m.Score))
			fmt.Fprintf(&b, "      in %s", or(Printable(m.Field), "the request as a whole"))
			if m.Value != "" {
				fmt.Fprintf(&b, ": %q", m.Value)
			}
			if m.Matched != "" && m.Matched != m.Value {
				fmt.Fprintf(&b, ", recognised as %q", m.Matched)
			}
			fmt.Fprintln(&b)
		}
		if e.Edge.Omitted > 0 {
			fmt.Fprintf(&b, "  … and %d more\n", e.Edge.Omitted)
		}
	}
	fmt.Fprintln(&b)
	e.facts(&b)
	return b.String()
}

// String names the stages that took a millisecond or more: " (waf 2ms, upstream 7ms)".
func (t Timings) String() string {
	var parts []string
	for _, stage := range slices.Sorted(maps.Keys(t)) {
		if t[stage] >= time.Millisecond {
			parts = append(parts, fmt.Sprintf("%s %s", stage, t[stage].Round(100*time.Microsecond)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func points(n int) string {
	if n == 0 {
		return "no points"
	}
	return fmt.Sprintf("%d points", n)
}

func (e Event) facts(b *strings.Builder) {
	table := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	defer table.Flush() //nolint:errcheck // into memory
	for _, row := range [][2]string{
		{"id", e.Event.ID},
		{"stage", string(e.Edge.Stage)},
		{"reason", string(e.Edge.Reason)},
		{"query", e.URL.Query},
		{"user agent", e.UserAgent.Original},
		{"tls", strings.TrimSpace(e.TLS.Version + " " + e.TLS.Cipher)},
		{"took", e.Event.Duration.Round(10*time.Microsecond).String() + e.Edge.Timings.String()},
		{"policy", fmt.Sprintf("generation %d", e.Edge.Generation)},
		{"error", e.Error.Message},
	} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", row[0], Printable(row[1]))
		}
	}
}

// Printable keeps what a client sent from speaking to a terminal: control and
// format characters are escaped.
func Printable(s string) string {
	quoted := fmt.Sprintf("%q", s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// wrap breaks s at spaces into lines of at most width bytes, where it can.
func wrap(s string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(s, " ") {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
