package waf

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"edge/rules"
)

// doubt is a request that a rule of base.conf has to refuse, because a parser
// could not be sure of it.
type doubt struct {
	name         string
	rule         int
	target, kind string
	body         string
}

// doubts has one request, or more, for each of those rules.
func doubts() []doubt {
	many := strings.Repeat("a=1&", maxArguments+1)
	return []doubt{
		{"target", 200009, "/\x01", "", ""},
		{"arguments_in_query", 200004, "/?" + many, "", ""},
		{"arguments_in_form", 200005, "/", "application/x-www-form-urlencoded", many},
		{"arguments_in_json", 200005, "/", "application/json", `{"a":[` + strings.Repeat("1,", maxArguments+1) + `1]}`},
		{"json", 200002, "/", "application/json", `{"a":`},
		{"json_dialect", 200002, "/", "application/merge-patch+json", `{"a":`},
		{"json_depth", 200002, "/", "application/json", strings.Repeat("[", 70) + strings.Repeat("]", 70)},
		{"multipart", 200003, "/", "multipart/form-data; boundary=x",
			"--x\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n1\r\n--x--\r\n"},
	}
}

// selfTest sends every doubt through a new engine. A rule set or an engine in which
// one of them is let through would let attacks through behind it.
func (e *Engine) selfTest() error {
	for _, d := range doubts() {
		it, err := e.doubt(d)
		if err != nil {
			return fmt.Errorf("self-test %s: %w", d.name, err)
		}
		if it == nil || it.RuleID != d.rule {
			return fmt.Errorf("self-test %s: rule %d does not act, but %+v", d.name, d.rule, it)
		}
	}
	return nil
}

func (e *Engine) doubt(d doubt) (*Interruption, error) {
	r := Request{
		ID: "self-test", Client: netip.AddrPortFrom(netip.IPv4Unspecified(), 0), ServerName: "self.test", Host: "self.test",
		Request: rules.Request{Method: http.MethodGet, Path: "/"}, Target: d.target, Proto: "HTTP/1.1",
		Header: http.Header{"User-Agent": {"edge"}, "Accept": {"*/*"}},
	}
	if d.kind != "" {
		r.Method = http.MethodPost
		r.Header.Set("Content-Type", d.kind)
		r.Header.Set("Content-Length", fmt.Sprint(len(d.body)))
	}
	t := e.Begin(r)
	defer t.Close() //nolint:errcheck // it only gives back memory
	if it := t.RequestHeaders(); it != nil {
		return it, nil
	}
	return t.RequestBody(strings.NewReader(d.body), int64(len(d.body)))
}
