package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"edge/blocklog"
	"edge/config"
	"edge/rules"
)

// canned is an application that answers with the bytes it has for a path, and
// keeps its connections open, whatever they are. "/good" says how often it was
// asked, so that answers can be told apart.
func canned(t testing.TB, answers map[string]string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	serve := func(c net.Conn) {
		t.Cleanup(func() { c.Close() })
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if text, ok := answers[r.URL.Path]; ok {
				text, hangup := strings.CutSuffix(text, "HANGUP")
				if _, _ = io.WriteString(c, text); hangup {
					c.Close()
					return
				}
				continue
			}
			body := "mine " + r.URL.RawQuery
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return "http://" + l.Addr().String()
}

// expectOwn asks for something and expects the answer to that.
func (e *edge) expectOwn(name string) {
	e.t.Helper()
	res := e.do("GET", "/good?"+name, nil)
	if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != "mine "+name || err != nil {
		e.t.Errorf("after %s: status %d, %q, %v", name, res.StatusCode, body, err)
	}
}

// What is malformed in the head of an answer is a 502 that tells the client
// nothing and the reviewer what; the next client gets its own answer.
func TestMalformedHeads(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	cases := map[string]struct{ answer, detail string }{
		"length_and_te":    {ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both Content-Length"},
		"two_lengths":      {ok + "Content-Length: 2\r\nContent-Length: 4\r\n\r\nokok", "several Content-Lengths"},
		"same_length":      {ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", "several Content-Lengths"},
		"te_gzip":          {ok + "Transfer-Encoding: gzip\r\n\r\n", "not chunked"},
		"fold":             {ok + "X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "folded"},
		"bare_lf":          {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "CRLF"},
		"bare_lf_at_end":   {ok + "Content-Length: 2\r\n\nok", "CRLF"},
		"blank_colon":      {ok + "Content-Length : 2\r\n\r\nok", "no name"},
		"nul":              {ok + "X: a\x00b\r\nContent-Length: 2\r\n\r\nok", "control character in the header X"},
		"bare_cr":          {ok + "X: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok", "control"},
		"http09":           {"<html>hello</html>", "no status line"},
		"ssh":              {"SSH-2.0-OpenSSH_9.6\r\n", "no status line"},
		"http2":            {"HTTP/2.0 200 OK\r\n\r\n", "no status line"},
		"status_999":       {"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", "no status 999"},
		"huge_head":        {ok + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 10<<10) + "\r\n", "a head of more than"},
		"long_line":        {ok + "X: " + strings.Repeat("y", 70<<10) + "\r\nContent-Length: 2\r\n\r\nok", "a head of more than"},
		"many_lines":       {ok + strings.Repeat("X: y\r\n", 300) + "Content-Length: 2\r\n\r\nok", "more than 200"},
		"flood_of_hints":   {strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 40) + ok + "Content-Length: 2\r\n\r\nok", "more than 32 answers"},
		"half_a_head":      {ok + "Content-LeHANGUP", "ended within a head"},
		"hint_then_junk":   {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\nX: y\n\n", "CRLF"},
		"tunnel_unasked":   {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ""},
		"nothing_at_all":   {"HANGUP", ""},
		"te_in_http10":     {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.0"},
		"length_is_signed": {ok + "Content-Length: +2\r\n\r\nok", "Content-Length is"},
	}
	answers := map[string]string{}
	for name, c := range cases {
		answers["/"+name] = c.answer
	}
	url := canned(t, answers)
	for _, mode := range []rules.Mode{rules.Block, rules.Off} {
		e := startAt(t, url, mode)
		for name, c := range cases {
			t.Run(name+"_"+string(mode), func(t *testing.T) {
				e.t = t
				e.expectOwn("before") // there is a connection to be used again
				res := e.do("GET", "/"+name, nil)
				body, _ := io.ReadAll(res.Body)
				if res.StatusCode != 502 || res.Header.Get("Cache-Control") != "no-store" || strings.Contains(fmt.Sprint(res.Header, string(body)), "127.0.0.1") {
					t.Errorf("status %d, %v\n%s", res.StatusCode, res.Header, body)
				}
				e.expectOwn(name)
				d := last(t, e, res.Header.Get("X-Request-Id"))
				if c.detail != "" && (d.Edge.Reason != blocklog.ReasonUpstreamMalformed || !strings.Contains(d.Edge.Detail, c.detail) || d.Edge.Stage != blocklog.StageUpstream) {
					t.Errorf("%+v", d.Edge)
				}
			})
		}
	}
}

// last returns the event about the request of that id.
func last(t testing.TB, e *edge, id string) (found blocklog.Event) {
	t.Helper()
	for _, ev := range e.events(id) {
		if ev.Event.ID == id {
			found = ev
		}
	}
	return found
}

// What goes wrong in the middle of a body breaks off, also where the answer is
// inspected, and is recorded; the next client gets its own answer.
func TestMalformedBodies(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
	cases := map[string]struct {
		answer string
		reason blocklog.Reason
	}{
		"size":        {chunked + "5\r\nhello\r\nzz\r\n", blocklog.ReasonUpstreamMalformed},
		"bare_lf":     {chunked + "5\r\nhello\n0\r\n\r\n", blocklog.ReasonUpstreamMalformed},
		"long_chunk":  {chunked + "5\r\nhello world\r\n0\r\n\r\n", blocklog.ReasonUpstreamMalformed},
		"trailer":     {chunked + "5\r\nhello\r\n0\r\nTransfer-Encoding: x\r\n\r\n", blocklog.ReasonUpstreamMalformed},
		"half_chunk":  {chunked + "5\r\nhelHANGUP", blocklog.ReasonUpstream},
		"no_last":     {chunked + "5\r\nhello\r\nHANGUP", blocklog.ReasonUpstream},
		"half_length": {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nhalfHANGUP", blocklog.ReasonUpstream},
	}
	answers := map[string]string{}
	for name, c := range cases {
		answers["/"+name] = c.answer
	}
	url := canned(t, answers)
	for kind, inspect := range map[string][]string{"flows": nil, "inspected": {"text/html"}} {
		e := startAt(t, url, rules.Block, func(_ *config.App, s *rules.Set) { s.WAF.Responses.Inspect = inspect; s.WAF.Responses.Max = 1 << 10 })
		for name, c := range cases {
			t.Run(name+"_"+kind, func(t *testing.T) {
				e.t = t
				res, err := e.ask("GET", "/"+name)
				if err == nil && res.StatusCode == 200 {
					if body, err := io.ReadAll(res.Body); err == nil {
						t.Errorf("%q looks whole", body)
					}
				} else if err == nil && res.StatusCode != 502 {
					t.Errorf("status %d", res.StatusCode)
				}
				e.expectOwn(name)
				if err != nil {
					return // it broke off before anything of it was sent
				}
				if d := last(t, e, res.Header.Get("X-Request-Id")); d.Edge.Reason != c.reason || d.Edge.Action != blocklog.Fail {
					t.Errorf("%+v", d.Edge)
				}
			})
		}
	}
}

// ask is do for answers that may break off.
func (e *edge) ask(method, target string) (*http.Response, error) {
	req, err := http.NewRequest(method, e.url+target, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Host = "hr.test"
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		e.t.Cleanup(func() { res.Body.Close() })
	}
	return res, err
}

// A second answer that nobody asked for is nobody's, however often one tries, and
// neither is a body where none belongs.
func TestNobodyGetsAnotherOnesAnswer(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	url := canned(t, map[string]string{
		"/two":         "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none" + evil,
		"/two_chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n" + evil,
		"/head":        "HTTP/1.1 200 OK\r\nContent-Length: 49\r\n\r\n" + evil + "more",
		"/204":         "HTTP/1.1 204 No Content\r\n\r\n" + evil,
		"/304":         "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n" + evil,
		"/empty":       "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + evil,
	})
	e := startAt(t, url, rules.Off)
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	for n := range rounds {
		for path, want := range map[string]string{"/two": "one", "/two_chunked": "one", "/head": "", "/204": "", "/304": "", "/empty": ""} {
			method := "GET"
			if path == "/head" {
				method = "HEAD"
			}
			res := e.do(method, path, nil)
			if body, err := io.ReadAll(res.Body); string(body) != want || err != nil {
				t.Errorf("%s: %q, %v", path, body, err)
			}
			res = e.do("POST", fmt.Sprintf("/good?%d", n), nil) // which is not sent twice
			if body, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != fmt.Sprintf("mine %d", n) {
				t.Fatalf("after %s: status %d, %q", path, res.StatusCode, body)
			}
		}
	}
}

// What is odd but clear passes unchanged.
func TestOddAnswersPass(t *testing.T) {
	url := canned(t, map[string]string{
		"/hints":    strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 20) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"/old":      "HTTP/1.0 200 OK\r\n\r\nokHANGUP",
		"/latin1":   "HTTP/1.1 200 OK\r\nX-Name: Jos\xe9\r\nContent-Length: 2\r\n\r\nok",
		"/noreason": "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
		"/big":      "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 30<<10) + "\r\nContent-Length: 2\r\n\r\nok",
		"/chunked":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
	})
	e := startAt(t, url, rules.Block)
	for _, path := range []string{"/hints", "/old", "/latin1", "/noreason", "/big", "/chunked"} {
		res := e.do("GET", path, nil)
		if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != "ok" || err != nil {
			t.Errorf("%s: status %d, %q, %v", path, res.StatusCode, body, err)
		}
	}
}

// An application that cannot be reached, hangs up, says nothing, or dribbles its
// head is answered for in time, on a page that does not say where it is.
func TestSilentApplications(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0") // connects, and that is all
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	half := canned(t, map[string]string{"/": "HTTP/1.1 200 OK\r\nContent-"})
	for name, c := range map[string]struct {
		url    string
		status int
		reason blocklog.Reason
	}{
		"refused":   {"http://127.0.0.1:1", 502, blocklog.ReasonUpstream},
		"reset":     {canned(t, map[string]string{"/": "HANGUP"}), 502, blocklog.ReasonUpstream},
		"hangs":     {"http://" + mute.Addr().String(), 504, blocklog.ReasonUpstreamSlow},
		"half_head": {half, 504, blocklog.ReasonUpstreamSlow},
	} {
		t.Run(name, func(t *testing.T) {
			e := startAt(t, c.url+"#100ms", rules.Block)
			asked := time.Now()
			res := e.do("GET", "/", nil)
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != c.status || res.Header.Get("Cache-Control") != "no-store" || strings.Contains(fmt.Sprint(res.Header, string(body)), "127.0.0.1") {
				t.Errorf("status %d, %v\n%s", res.StatusCode, res.Header, body)
			}
			if took := time.Since(asked); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			if d := last(t, e, res.Header.Get("X-Request-Id")); d.Edge.Reason != c.reason {
				t.Errorf("%+v", d.Edge)
			}
		})
	}
}
