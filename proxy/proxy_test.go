package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"edge/blocklog"
	"edge/config"
	"edge/form"
	"edge/internal/strictyaml"
	"edge/ratelimit"
	"edge/rules"
	"edge/waf"
)

// engines are shared by the tests of this package, as they are in the edge.
var engines waf.Engines

// edge is a Server in front of an upstream, with its records at hand.
type edge struct {
	*Server
	t   testing.TB
	dir string
	url string
}

func start(t testing.TB, upstream http.HandlerFunc, mode rules.Mode, change ...func(*config.App, *rules.Set)) *edge {
	t.Helper()
	back := httptest.NewServer(upstream)
	t.Cleanup(back.Close)
	var u config.Upstream
	if err := u.UnmarshalText([]byte(back.URL)); err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	set.WAF.Mode = mode
	maxBody := strictyaml.Size(1 << 10)
	if _, ok := t.(*testing.B); ok {
		maxBody = 1 << 20
	}
	app := config.App{
		Name: "hr", Hosts: []string{"hr.test", "*.hr.test"}, Upstream: u, MaxBody: maxBody,
		HTTP: config.HTTP{WebSocket: config.WebSocket{Enabled: true, Idle: strictyaml.Duration(time.Minute), Lifetime: strictyaml.Duration(time.Hour), PerClient: 2}},
	}
	for _, f := range change {
		f(&app, &set)
	}
	c := &config.Config{Apps: []config.App{app}}
	snap, err := Compile(c, map[string]rules.Set{"hr": set}, nil, &engines, &Pools{}, 7)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	records, err := blocklog.Open(dir, blocklog.Keep{}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	spool, err := NewSpool(filepath.Join(dir, "spool"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{t: t, dir: dir, Server: New(snap, ratelimit.NewMemory(100), spool, records, func(*blocklog.Event, []blocklog.Decision) {}, zap.NewNop())}
	front := httptest.NewServer(e)
	t.Cleanup(func() {
		front.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = e.Wait(ctx) // WebSockets are not the front's any more
		if err := records.Close(); err != nil {
			t.Error(err)
		}
		snap.Close()
	})
	e.url = front.URL
	return e
}

// relaxed lets through what HTTP leaves open.
func relaxed(a *config.App, _ *rules.Set) {
	if err := a.HTTP.UnmarshalText([]byte("relaxed")); err != nil {
		panic(err)
	}
}

// do sends a request to the edge for host hr.test.
func (e *edge) do(method, target string, body io.Reader) *http.Response {
	e.t.Helper()
	req, err := http.NewRequest(method, e.url+target, body)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Host = "hr.test"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { res.Body.Close() })
	return res
}

// events returns what is in the block log. The access line comes after it, so
// waiting for that one is waiting for both.
func (e *edge) events(id string) []blocklog.Event {
	e.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(e.file(blocklog.AccessFile), id) {
		if time.Now().After(deadline) {
			e.t.Fatalf("no access line for %s", id)
		}
	}
	var events []blocklog.Event
	lines := bufio.NewScanner(strings.NewReader(e.file(blocklog.BlockFile)))
	for lines.Scan() {
		var ev blocklog.Event
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			e.t.Fatal(err)
		}
		events = append(events, ev)
	}
	return events
}

func (e *edge) file(name string) string {
	b, err := os.ReadFile(filepath.Join(e.dir, name))
	if err != nil {
		e.t.Fatal(err)
	}
	return string(b)
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// A panic in any check is a 500 with an event, and the process lives.
func TestPanicInEachCheck(t *testing.T) {
	for i, c := range checks {
		t.Run(string(c.stage), func(t *testing.T) {
			e := start(t, ok, rules.Block)
			whole := e.checks
			e.checks = append([]check{}, whole...)
			e.checks[i].run = func(*Server, *exchange) blocklog.Decision { panic("password=hush") }
			res := e.do("GET", "/", nil)
			if res.StatusCode != http.StatusInternalServerError {
				t.Errorf("status %d", res.StatusCode)
			}
			id := res.Header.Get("X-Request-Id")
			events := e.events(id)
			if len(events) != 1 || events[0].Edge.Reason != blocklog.ReasonPanic || events[0].Event.ID != id ||
				events[0].HTTP.Response.Status != 500 || !strings.Contains(events[0].Error.Stack, "proxy_test.go") {
				t.Errorf("events %+v", events)
			}
			if strings.Contains(e.file(blocklog.BlockFile), "hush") {
				t.Error("the record holds a secret")
			}
			e.checks = whole
			if res := e.do("GET", "/", nil); res.StatusCode != http.StatusOK {
				t.Errorf("afterwards: status %d", res.StatusCode)
			}
		})
	}
}

// An answer that breaks off must look broken to the client, and is recorded.
func TestAnswerBreaksOff(t *testing.T) {
	e := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = io.WriteString(w, strings.Repeat("half", 50000)) // more than anybody on the way buffers
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, rules.Block)
	res := e.do("GET", "/", nil)
	if _, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client saw %v", err)
	}
	events := e.events(res.Header.Get("X-Request-Id"))
	if len(events) != 1 || events[0].Edge.Reason != blocklog.ReasonUpstream || events[0].HTTP.Response.Status != 200 {
		t.Errorf("events %+v", events)
	}
}

// An application that stops in the middle of an answer is given up, and the event
// names the timeout; one that stops in an event stream is waited for.
func TestPauseWithinAnAnswer(t *testing.T) {
	release := make(chan struct{})
	e := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}, rules.Block)
	e.current.Load().exact["hr.test"].idle = 50 * time.Millisecond
	res := e.do("GET", "/", nil)
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the answer looks whole")
	}
	events := e.events(res.Header.Get("X-Request-Id"))
	if len(events) != 1 || events[0].Edge.Reason != blocklog.ReasonUpstreamSlow || !strings.Contains(events[0].Edge.Detail, "idle_timeout") {
		t.Errorf("events %+v", events)
	}
	inspected := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<p>")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, rules.Block, func(_ *config.App, s *rules.Set) { s.WAF.Responses.Inspect = []string{"text/html"} })
	inspected.current.Load().exact["hr.test"].idle = 50 * time.Millisecond
	if res := inspected.do("GET", "/", nil); res.StatusCode != http.StatusBadGateway {
		t.Errorf("an answer that is held: status %d", res.StatusCode)
	}
	stream := e.do("GET", "/stream", nil)
	time.AfterFunc(200*time.Millisecond, func() { close(release) })
	if body, err := io.ReadAll(stream.Body); string(body) != "data: 1\n\n" || err != nil {
		t.Errorf("the stream: %q, %v", body, err)
	}
}

// A body that was held goes on with its length, whatever it came as.
func TestHeldBodyHasALength(t *testing.T) {
	var length int64
	var framing []string
	var trailer http.Header
	var body string
	e := start(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body, length, framing, trailer = string(b), r.ContentLength, r.TransferEncoding, r.Trailer
	}, rules.Block)
	req, _ := http.NewRequest("POST", e.url+"/", io.MultiReader(strings.NewReader("note=hel"), strings.NewReader("lo")))
	req.Host = "hr.test"
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Trailer = http.Header{"X-Late": {"1"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if body != "note=hello" || length != 10 || framing != nil || trailer != nil {
		t.Errorf("the application got %q, length %d, framing %v, trailer %v", body, length, framing, trailer)
	}
}

// A refused request never reaches the application, in part or whole.
func TestRefusedMeansUnseen(t *testing.T) {
	seen := 0
	e := start(t, func(http.ResponseWriter, *http.Request) { seen++ }, rules.Block)
	for _, body := range []string{strings.Repeat("x", 2000), "q=<script>alert(1)</script>"} {
		req, _ := http.NewRequest("POST", e.url+"/", io.MultiReader(strings.NewReader(body)))
		req.Host = "hr.test"
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 413 && res.StatusCode != 403 {
			t.Errorf("status %d", res.StatusCode)
		}
	}
	if seen != 0 {
		t.Errorf("the application saw %d requests", seen)
	}
}

// The application is asked for what was inspected, byte for byte.
func TestQueryIsForwardedAsItIs(t *testing.T) {
	var got string
	e := start(t, func(_ http.ResponseWriter, r *http.Request) { got = r.URL.RawQuery }, rules.Detect, relaxed)
	for _, query := range []string{"q=50%&z=1&n=a;b", "a=%zz", "x=1&&y", "%"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(c, "GET /?%s HTTP/1.1\r\nHost: hr.test\r\nConnection: close\r\n\r\n", query)
		if answer, _ := io.ReadAll(c); !strings.Contains(string(answer), "200 OK") || got != query {
			t.Errorf("%q: the application got %q\n%s", query, got, answer)
		}
		c.Close()
	}
}

// Only a WebSocket may take over a connection: other upgrades do not get through,
// and what asks for a WebSocket in another way than RFC 6455 says is refused.
func TestUpgrades(t *testing.T) {
	var got http.Header
	e := start(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }, rules.Off)
	good := http.Header{
		"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Version": {"13"},
	}
	for _, test := range []struct {
		name, header, value string
		status              int
	}{
		{"good", "", "", 200},
		{"capitals", "Upgrade", "WebSocket", 200},
		{"own_page", "Origin", "https://acme.hr.test", 200},
		{"h2c", "Upgrade", "h2c", 200},
		{"unknown", "Upgrade", "x", 200},
		{"two", "Upgrade", "websocket, h2c", 400},
		{"not_nominated", "Connection", "keep-alive", 400},
		{"old_version", "Sec-Websocket-Version", "8", 400},
		{"no_key", "Sec-Websocket-Key", "", 400},
		{"short_key", "Sec-Websocket-Key", "dGhlIHNhbXBsZQ==", 400},
		{"other_page", "Origin", "https://evil.test", 403},
		{"null_page", "Origin", "null", 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, _ := http.NewRequest("GET", e.url, nil)
			req.Host, req.Header, got = "hr.test", good.Clone(), nil
			if test.header != "" {
				req.Header.Set(test.header, test.value)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != test.status || (got != nil) != (test.status == 200) {
				t.Errorf("status %d, the application got %v", res.StatusCode, got)
			}
			if socket := strings.EqualFold(req.Header.Get("Upgrade"), "websocket"); got != nil && (got.Get("Upgrade") != "") != socket {
				t.Errorf("the application got %v", got)
			}
			if closed := res.Close; strings.Contains(strings.ToLower(req.Header.Get("Upgrade")), "websocket") && !closed {
				t.Error("the connection stays open after a WebSocket was not given")
			}
		})
	}
}

// An application switches protocols when it was asked to, with the right answer, or
// the client does not hear of it.
func TestSwitching(t *testing.T) {
	accept := ""
	e := start(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\nsecret", accept)
	}, rules.Off)
	ask := func(header http.Header) *http.Response {
		req, _ := http.NewRequest("GET", e.url, nil)
		req.Host, req.Header = "hr.test", header
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	handshake := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Version": {"13"},
	}
	if res := ask(handshake); res.StatusCode != 502 {
		t.Errorf("wrong answer to the key: status %d", res.StatusCode)
	}
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	if res := ask(http.Header{}); res.StatusCode != 502 {
		t.Errorf("nobody asked: status %d", res.StatusCode)
	}
	if res := ask(handshake); res.StatusCode != 101 {
		t.Errorf("status %d", res.StatusCode)
	}
}

// A Connection header takes nothing away from the application.
func TestNominations(t *testing.T) {
	e := start(t, ok, rules.Off)
	for line, want := range map[string]int{
		"keep-alive": 200, "Close": 200, "TE, close": 200, "Upgrade": 200, "": 200,
		"close, X-Forwarded-For": 400, "Cookie": 400, "authorization,close": 400, "content-type": 400,
	} {
		req, _ := http.NewRequest("GET", e.url+"/", nil)
		req.Host = "hr.test"
		req.Header["Connection"] = []string{line}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%q: status %d, want %d", line, res.StatusCode, want)
		}
	}
}

// A client that stops in the middle of a body it is refused for is told so at
// once, and loses its connection.
func TestRefusedWithoutItsBody(t *testing.T) {
	e := start(t, ok, rules.Block)
	for name, head := range map[string]string{"413": "Host: hr.test\r\nContent-Type: application/json\r\nContent-Length: 2000", "421": "Host: other.test\r\nContent-Length: 100"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\n%s\r\n\r\nabcd", head)
		if answer, err := io.ReadAll(c); !strings.HasPrefix(string(answer), "HTTP/1.1 "+name) || err != nil {
			t.Errorf("%s: %v, %s", name, err, answer)
		}
		c.Close()
	}
}

// In detect mode nothing is said of a body that the application did not read.
func TestEarlyAnswer(t *testing.T) {
	e := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusUnauthorized)
	}, rules.Detect)
	pr, pw := io.Pipe()
	defer pw.Close()
	go func() { _, _ = io.WriteString(pw, `{"a":"b`) }()
	req, _ := http.NewRequest("POST", e.url+"/", pr)
	req.Host = "hr.test"
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	pw.Close()
	if events := e.events(res.Header.Get("X-Request-Id")); res.StatusCode != 401 || len(events) != 0 {
		t.Errorf("status %d, events %+v", res.StatusCode, events)
	}
}

// One attack is one line, also in detect mode.
func TestDetectSaysItOnce(t *testing.T) {
	e := start(t, ok, rules.Detect)
	res := e.do("GET", "/?q=<script>", nil)
	events := e.events(res.Header.Get("X-Request-Id"))
	if len(events) != 1 || events[0].Edge.Action != blocklog.Detect || events[0].Event.Outcome != "success" {
		t.Errorf("%+v", events)
	}
}

// What cannot be looked into is refused: an encoded body, a body of a thousand parts.
func TestUninspectable(t *testing.T) {
	e := start(t, ok, rules.Block)
	parts := strings.Repeat("--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n", 12)
	for _, c := range []struct {
		kind, coding, body string
		status             int
	}{
		{"application/json", "gzip", "\x1f\x8b", 400},
		{"application/json", "br", "\x1f\x8b", 415},
		{"application/json", "identity", "{}", 200},
		{"multipart/form-data; boundary=x", "", parts + "--x--\r\n", 200},
		{"multipart/form-data; boundary=x", "", strings.Repeat("--x", 210), 400},
	} {
		req, _ := http.NewRequest("POST", e.url+"/", strings.NewReader(c.body))
		req.Host = "hr.test"
		req.Header.Set("Content-Type", c.kind)
		if c.coding != "" {
			req.Header.Set("Content-Encoding", c.coding)
		}
		req.Header.Set("User-Agent", "test")
		req.Header.Set("Accept", "*/*")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s %s: status %d, want %d", c.kind, c.coding, res.StatusCode, c.status)
		}
	}
}

// What may be JSON to somebody is inspected as JSON.
func TestDisguisedJSON(t *testing.T) {
	for body, want := range map[string]bool{
		`{"a":1}`: true, `{"a":1}x`: true, "\uFEFF {\"a\":NaN}": true, "\n\t[1]": true, "a note [1]": false, "": false,
	} {
		if got := disguisedJSON("Text/Plain; charset=utf-8", strings.NewReader(body)); got != want {
			t.Errorf("%q: %v", body, got)
		}
	}
	if disguisedJSON("application/octet-stream", strings.NewReader("{")) {
		t.Error("another type")
	}
}

// An engine that fails refuses in block mode and is only noted in detect mode.
func TestEngineFailure(t *testing.T) {
	failing := map[string]func() (*waf.Interruption, error){
		"error": func() (*waf.Interruption, error) { return nil, errors.New("out of order") },
		"panic": func() (*waf.Interruption, error) { panic("out of order") },
	}
	for name, ask := range failing {
		for mode, want := range map[rules.Mode]blocklog.Action{rules.Block: blocklog.Fail, rules.Detect: blocklog.Detect} {
			t.Run(name+"_"+string(mode), func(t *testing.T) {
				x := &exchange{app: &app{mode: mode}, snap: &Snapshot{redact: blocklog.NewRedactor(nil)}}
				d := x.verdict(blocklog.ReasonWAFRule, ask)
				if d.Action != want || d.Status != 503 || d.Reason != blocklog.ReasonWAFError || !strings.Contains(x.fault.Message, "out of order") {
					t.Errorf("%+v, fault %+v", d, x.fault)
				}
			})
		}
	}
}

// An application that does not answer in time is a 504 that says so.
func TestUpstreamTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &exchange{r: httptest.NewRequest("GET", "/", nil), w: httptest.NewRecorder(), snap: &Snapshot{redact: blocklog.NewRedactor(nil)}}
		s := &Server{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		<-ctx.Done()
		s.failed(x, ctx.Err())
		if d := x.decisions[0]; d.Status != 504 || d.Reason != blocklog.ReasonUpstreamSlow {
			t.Errorf("%+v", d)
		}
	})
}

func TestFindApp(t *testing.T) {
	hr, all, deep := &app{name: "hr"}, &app{name: "all"}, &app{name: "deep"}
	s := &Snapshot{
		exact: map[string]*app{"hr.example.com": all},
		wild:  map[string]*app{"hr.example.com": hr, "example.com": all, "x.hr.example.com": deep},
	}
	for host, want := range map[string]string{
		"hr.example.com":        "all/",
		"acme.hr.example.com":   "hr/acme",
		"a.acme.hr.example.com": "hr/acme",
		"a.x.hr.example.com":    "deep/a",
		"www.example.com":       "all/www",
		"example.com":           "",
		"com":                   "",
		"":                      "",
	} {
		a, label := s.find(host)
		got := ""
		if a != nil {
			got = a.name + "/" + label
		}
		if got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func TestTenant(t *testing.T) {
	var pattern config.Regexp
	if err := pattern.UnmarshalText([]byte("c[0-9]{3}")); err != nil {
		t.Fatal(err)
	}
	known := config.Tenant{Known: []string{"acme"}, Pattern: pattern, Header: "X-Tenant", Name: "solo"}
	for _, c := range []struct {
		from            config.TenantSource
		subdomain, path string
		header          string
		viaProxy        bool
		want            string
	}{
		{"", "acme", "/", "", false, "acme"}, {"", "ACME", "/", "", false, "acme"}, {"", "evil", "/", "", false, "other"},
		{"", "", "/", "", false, ""}, {"", "c123", "/", "", false, "c123"}, {"", "xc123", "/", "", false, "other"},
		{config.Path, "", "/acme/notes", "", false, "acme"}, {config.Path, "acme", "/evil", "", false, "other"}, {config.Path, "acme", "/", "", false, ""},
		{config.Header, "", "/", "acme", true, "acme"}, {config.Header, "", "/", "acme", false, ""}, {config.Header, "", "/", "evil", true, "other"},
		{config.Fixed, "acme", "/acme", "acme", true, "solo"},
	} {
		known.From = c.from
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Tenant", c.header)
		x := &exchange{app: &app{tenant: known}, r: r, target: form.Target{Path: c.path}}
		if got := x.findTenant(c.subdomain, c.viaProxy); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// A server that is down is passed over, and a request that was sent is never sent again.
func TestBalancer(t *testing.T) {
	var hits [2]atomic.Int64
	var up config.Upstream
	up.Servers = make([]config.Server, 3)
	for i := range hits {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hits[i].Add(1)
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
		}))
		defer srv.Close()
		if err := up.Servers[i].UnmarshalText([]byte(srv.URL)); err != nil {
			t.Fatal(err)
		}
	}
	if err := up.Servers[2].UnmarshalText([]byte("http://127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	b, err := new(Pools).balancer(up)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		req, _ := http.NewRequest("POST", "http://hr.test/", io.MultiReader(strings.NewReader("hello")))
		res, err := b.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(res.Body); string(body) != "hello" {
			t.Errorf("the body arrived as %q", body)
		}
		res.Body.Close()
	}
	if a, b := hits[0].Load(), hits[1].Load(); a+b != 30 || a < 10 || b < 10 {
		t.Errorf("%d and %d requests", a, b)
	}
}

// A server that nobody can connect to is tried once, and is an error, also when
// its time of rest ends while it is tried.
func TestBalancerOrder(t *testing.T) {
	b := &balancer{servers: make([]*url.URL, 3), down: make([]atomic.Int64, 3)}
	b.down[1].Store(time.Now().Add(time.Hour).UnixNano())
	for range 10 {
		order := b.order()
		sorted := slices.Sorted(slices.Values(order))
		if !slices.Equal(sorted, []int{0, 1, 2}) || order[2] != 1 {
			t.Errorf("order %v", order)
		}
	}
	var up config.Upstream
	if err := up.UnmarshalText([]byte("http://127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	dead, err := new(Pools).balancer(up)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		req, _ := http.NewRequest("GET", "http://hr.test/", nil)
		if _, err := dead.RoundTrip(req); err == nil || strings.Count(err.Error(), "connection refused") != 1 {
			t.Errorf("%v", err)
		}
	}
}

// Requests that may have been acted on are not repeated, whatever a header says.
func TestNotSentTwice(t *testing.T) {
	var seen atomic.Int64
	e := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			return
		}
		seen.Add(1)
		if r.Header.Get("Idempotency-Key") != "x" || r.ContentLength != 0 || r.TransferEncoding != nil {
			t.Errorf("the application got %v, length %d, %v", r.Header, r.ContentLength, r.TransferEncoding)
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			c.Close()
		}
	}, rules.Off)
	for range 5 {
		e.do("GET", "/", nil) // leaves a connection open to be used again
		req, _ := http.NewRequest("POST", e.url+"/", nil)
		req.Host = "hr.test"
		req.Header.Set("Idempotency-Key", "x")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadGateway {
			t.Errorf("status %d", res.StatusCode)
		}
	}
	if seen.Load() != 5 {
		t.Errorf("the application saw %d of 5 requests", seen.Load())
	}
}

// When a client leaves, the application is told within a second.
func TestCancellation(t *testing.T) {
	asked, left := make(chan struct{}), make(chan time.Time, 1)
	e := start(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		left <- time.Now()
	}, rules.Block)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", e.url+"/", nil)
	req.Host = "hr.test"
	go func() {
		<-asked
		cancel()
	}()
	gone := time.Now()
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
		t.Error("it was answered")
	}
	if at := <-left; at.Sub(gone) > time.Second {
		t.Errorf("the application was told after %s", at.Sub(gone))
	}
}

// What an application says before and after its answer arrives, and the event
// says how long each stage took.
func TestHintsAndTrailers(t *testing.T) {
	e := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
	}, rules.Block)
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && h.Get("Link") != "" {
				hints++
			}
			return nil
		},
	})
	req, _ := http.NewRequestWithContext(ctx, "GET", e.url+"/", nil)
	req.Host = "hr.test"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); string(body) != "body" || err != nil || hints != 1 || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("%q, %v, %d hints, trailer %v", body, err, hints, res.Trailer)
	}
	e.events(res.Header.Get("X-Request-Id"))
	if line := e.file(blocklog.AccessFile); !strings.Contains(line, `"timings":{`) || !strings.Contains(line, `"upstream":`) || !strings.Contains(line, `"waf":`) {
		t.Errorf("no timings in %s", line)
	}
}

// Applications that speak h2c or TLS.
func TestUpstreamProtocols(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	plain := httptest.NewUnstartedServer(h)
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Start()
	defer plain.Close()
	secure := httptest.NewTLSServer(h)
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		url string
		up  config.Upstream
	}{
		"HTTP/2.0": {plain.URL, config.Upstream{Protocol: config.H2C}},
		"HTTP/1.1": {secure.URL, config.Upstream{TLS: config.UpstreamTLS{CA: ca, Name: "example.com"}}},
		"":         {secure.URL, config.Upstream{TLS: config.UpstreamTLS{CA: ca, Name: "other.test"}}},
	} {
		c.up.Servers = make([]config.Server, 1)
		if err := c.up.Servers[0].UnmarshalText([]byte(c.url)); err != nil {
			t.Fatal(err)
		}
		b, err := new(Pools).balancer(c.up)
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequest("GET", "http://hr.test/", nil)
		got := ""
		if res, err := b.RoundTrip(req); err == nil {
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			got = string(body)
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", c.up, got, want)
		}
	}
}

func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"HR.example.com.:443", "[::1]:80", "::1", "a:b:c", ".", "", "a..", "ÄÖ.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		got := canonicalHost(host)
		if got != strings.ToLower(got) {
			t.Errorf("%q: %q is not lower case", host, got)
		}
		(&Snapshot{wild: map[string]*app{"x": {}}}).find(got)
	})
}
