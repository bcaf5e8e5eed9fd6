package blocklog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxLine is the longest line a log holds, in bytes, its newline included.
const MaxLine = 8 << 10

// Event is one request and what was decided about it, in the field names of the
// Elastic Common Schema; what ECS has no name for is under edge.
type Event struct {
	Time      time.Time `json:"@timestamp"`
	Event     Meta      `json:"event"`
	Client    Client    `json:"client"`
	HTTP      HTTP      `json:"http"`
	URL       URL       `json:"url"`
	UserAgent Agent     `json:"user_agent,omitzero"`
	Rule      Rule      `json:"rule,omitzero"`
	TLS       TLS       `json:"tls,omitzero"`
	Edge      Edge      `json:"edge"`
	Error     Fault     `json:"error,omitzero"`
}

// The groups of an Event.
type (
	// Meta is ECS event.*.
	Meta struct {
		ID       string        `json:"id"`                 // the request's id, the same everywhere
		Outcome  string        `json:"outcome"`            // success: forwarded; failure: refused
		Duration time.Duration `json:"duration,omitempty"` // nanoseconds, from first byte to last
	}
	// Client is ECS client.*.
	Client struct {
		IP   string `json:"ip,omitempty"`
		Port uint16 `json:"port,omitempty"`
	}
	// HTTP is ECS http.*.
	HTTP struct {
		Version  string   `json:"version,omitempty"`
		Request  Request  `json:"request"`
		Response Response `json:"response,omitzero"`
	}
	// Request is ECS http.request.*.
	Request struct {
		Method string `json:"method"`
		Bytes  int64  `json:"bytes,omitempty"` // of the body
	}
	// Response is ECS http.response.*.
	Response struct {
		Status int `json:"status_code,omitempty"`
	}
	// URL is ECS url.*. The values of the query are masked.
	URL struct {
		Domain string `json:"domain,omitempty"`
		Path   string `json:"path,omitempty"`
		Query  string `json:"query,omitempty"`
	}
	// Agent is ECS user_agent.*.
	Agent struct {
		Original string `json:"original,omitempty"`
	}
	// TLS is ECS tls.*.
	TLS struct {
		Version    string `json:"version,omitempty"`
		Cipher     string `json:"cipher,omitempty"`
		ServerName string `json:"server_name,omitempty"`
		JA4        string `json:"ja4,omitempty"` // fingerprint of the ClientHello
	}
	// Edge is what is ours.
	Edge struct {
		App        string  `json:"app,omitempty"`
		Tenant     string  `json:"tenant,omitempty"`
		Generation uint64  `json:"generation,omitempty"` // of the policy that judged
		Action     Action  `json:"action,omitempty"`
		Stage      Stage   `json:"stage,omitempty"`
		Reason     Reason  `json:"reason,omitempty"`
		Detail     string  `json:"detail,omitempty"`
		Score      int     `json:"score,omitempty"`
		Threshold  int     `json:"threshold,omitempty"`
		Inspection string  `json:"inspection,omitempty"` // how much the WAF saw: full, partial, headers, none
		Timings    Timings `json:"timings,omitempty"`
		Rules      []int   `json:"rules,omitempty"` // all that matched, bookkeeping included
		Matches    []Match `json:"matches,omitempty"`
		Omitted    int     `json:"omitted,omitempty"` // matches left out to keep the line short
	}
	// Fault is ECS error.*: what failed inside the edge, never shown to a client.
	Fault struct {
		Message string `json:"message,omitempty"`
		Stack   string `json:"stack_trace,omitempty"`
	}
)

// Timings is how long each stage took, in nanoseconds. That of the upstream ends
// with the head of its answer.
type Timings map[Stage]time.Duration

// Apply writes what d decided into the event.
func (e *Event) Apply(d Decision) {
	e.Rule = d.Rule
	e.Edge.Action, e.Edge.Stage, e.Edge.Reason = d.Action, d.Stage, d.Reason
	e.Edge.Detail = d.Detail
	if d.Threshold > 0 {
		e.Edge.Score, e.Edge.Threshold = d.Score, d.Threshold
	}
	e.Edge.Matches, e.Edge.Omitted = d.Matches, d.Omitted
}

// write encodes e into b, which is empty, as one JSON line of at most MaxLine bytes: every text is cut to
// a sane length, then matches are dropped from the end, and last the texts are
// cut to the bone. It is valid UTF-8 whatever the client sent.
func (e *Event) write(b *bytes.Buffer) {
	enc := json.NewEncoder(b)
	for n := 1024; n >= 16; n /= 2 {
		e.clip(n)
		for keep := len(e.Edge.Matches); ; keep-- {
			b.Reset()
			err := enc.Encode(e)
			if err == nil && b.Len() <= MaxLine {
				return
			}
			if keep <= 1 || err != nil {
				break
			}
			e.Edge.Matches, e.Edge.Omitted = e.Edge.Matches[:keep-1], e.Edge.Omitted+1
		}
	}
	b.Reset()
	_, _ = fmt.Fprintf(b, `{"event":{"id":%q,"outcome":"unknown"}}`+"\n", Clip(e.Event.ID, 64)) // nothing can be this long
}

// clip cuts every text to n bytes, the parts of a match to a quarter of that, and
// leaves a stack trace four times as much.
func (e *Event) clip(n int) {
	for _, s := range []*string{
		&e.URL.Domain, &e.URL.Path, &e.URL.Query, &e.UserAgent.Original, &e.HTTP.Request.Method, &e.HTTP.Version,
		&e.TLS.ServerName, &e.Edge.App, &e.Edge.Tenant, &e.Edge.Detail, &e.Error.Message,
	} {
		*s = Clip(*s, n)
	}
	e.Error.Stack = Clip(e.Error.Stack, 4*n)
	e.Rule = e.Rule.clip(n / 4)
	e.Edge.Rules = e.Edge.Rules[:min(len(e.Edge.Rules), n/4)]
	matches := make([]Match, len(e.Edge.Matches))
	for i, m := range e.Edge.Matches {
		m.Rule = m.clip(n / 4)
		m.Field, m.Value, m.Matched = Clip(m.Field, n/4), Clip(m.Value, n/4), Clip(m.Matched, n/4)
		matches[i] = m
	}
	e.Edge.Matches = matches
}

func (r Rule) clip(n int) Rule { return Rule{Clip(r.ID, n), Clip(r.Name, n), Clip(r.Category, n)} }

// Clip returns s as valid UTF-8 in at most n bytes, with an ellipsis where it
// was cut; n is at least 3.
func Clip(s string, n int) string {
	if s = strings.ToValidUTF8(s, "\uFFFD"); len(s) <= n {
		return s
	}
	cut := n - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
