package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"edge/config"
	"edge/rules"
)

func TestHeaders(t *testing.T) {
	const sts, sniff = "Strict-Transport-Security", "X-Content-Type-Options"
	for name, c := range map[string]struct {
		http   config.HTTP
		answer http.Header
		want   http.Header
	}{
		"defaults":      {config.HTTP{}, http.Header{}, http.Header{sts: {"max-age=31536000"}, sniff: {"nosniff"}}},
		"its_own_wins":  {config.HTTP{}, http.Header{sts: {"max-age=1"}}, http.Header{sts: {"max-age=1"}, sniff: {"nosniff"}}},
		"empty_is_none": {config.HTTP{Headers: map[string]string{"strict-transport-security": ""}}, http.Header{}, http.Header{sniff: {"nosniff"}}},
		"empty_takes_nothing": {config.HTTP{Headers: map[string]string{sts: "", "x-a": ""}}, http.Header{sts: {"max-age=1"}, "X-A": {"1"}},
			http.Header{sts: {"max-age=1"}, sniff: {"nosniff"}, "X-A": {"1"}}},
		"configured_wins": {config.HTTP{Headers: map[string]string{"strict-transport-SECURITY": "max-age=5", "x-a": "b"}},
			http.Header{sts: {"max-age=1", "max-age=2"}, "X-A": {"1"}}, http.Header{sts: {"max-age=5"}, sniff: {"nosniff"}, "X-A": {"b"}}},
		"hidden": {config.HTTP{Hide: []string{"server", "X-POWERED-BY", sts}}, http.Header{"Server": {"x", "y"}, "X-Powered-By": {"z"}, sts: {"max-age=1"}},
			http.Header{sts: {"max-age=31536000"}, sniff: {"nosniff"}}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeaders(c.http)
			h.apply(c.answer)
			if len(c.answer) != len(c.want) {
				t.Errorf("%v, want %v", c.answer, c.want)
			}
			for key, values := range c.want {
				if strings.Join(c.answer[key], "|") != strings.Join(values, "|") {
					t.Errorf("%s: %v, want %v", key, c.answer[key], values)
				}
			}
		})
	}
}

// Every answer has them once, whoever gives it: the application, the edge in its
// own name, or the edge for a host nobody answers to. A handshake is left alone.
func TestHeadersOnEveryAnswer(t *testing.T) {
	e := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Sec-Websocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
			w.WriteHeader(http.StatusSwitchingProtocols)
			return
		}
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Server", "secret/1.2")
		ok(w, r)
	}, rules.Block)
	e.current.Load().exact["hr.test"].headers = newHeaders(config.HTTP{Headers: map[string]string{"X-Frame-Options": "DENY"}, Hide: []string{"Server"}})
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: hr.test\r\n":                             "200 OK",
		"GET /?q=<script>alert(1)</script> HTTP/1.1\r\nHost: hr.test\r\n": "403 Forbidden",
		"GET / HTTP/1.1\r\nHost: other.test\r\n":                          "421 Misdirected Request",
		"GET / HTTP/1.1\r\nHost: hr.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n": "101 Switching Protocols",
		"GET / HTTP/1.1\r\nHost: hr.test\r\nConnection: cookie\r\nCookie: a=b\r\nAccept: */*\r\n":                                                                      "400 Bad Request",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, request+"User-Agent: test\r\n\r\n")
		br := bufio.NewReader(c)
		res, err := http.ReadResponse(br, nil)
		if err == nil && res.StatusCode == http.StatusEarlyHints {
			if len(res.Header) != 1 {
				t.Errorf("103: %v", res.Header)
			}
			res, err = http.ReadResponse(br, nil)
		}
		if err != nil || res.Status != want {
			t.Fatalf("%q: %+v, %v", request, res, err)
		}
		for name, value := range map[string]string{"Strict-Transport-Security": "max-age=31536000", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
			wanted := 1
			if res.StatusCode == 101 || res.StatusCode == 421 && name == "X-Frame-Options" {
				wanted = 0
			}
			if got := res.Header[name]; len(got) != wanted || wanted == 1 && got[0] != value {
				t.Errorf("%s: %s: %q", want, name, got)
			}
		}
		if res.Header.Get("Server") != "" {
			t.Errorf("%s: it says what it is: %v", want, res.Header)
		}
		c.Close()
	}
}
