package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"edge/blocklog"
	edgetls "edge/tls"
)

// h2Edge is an edge under attack.
type h2Edge struct {
	*process
	dir string
	tls *tls.Config
}

const h2Config = `
listen: {https: "127.0.0.1:0", admin: "127.0.0.1:0"}
tls: {files: [{cert: ca/edge.pem, key: ca/edge.key}]}
state: {dir: state}
apps:
  - {name: hr, hosts: [hr.test, localhost], upstream: %q, rules: [rules.yaml], max_body: 64KiB}
  - {name: other, hosts: [other.test], upstream: %q, rules: [rules.yaml]}
`

// startH2 starts an edge whose applications are both at upstream.
func startH2(t *testing.T, upstream, mode string) *h2Edge {
	t.Helper()
	dir := t.TempDir()
	ca, err := edgetls.OpenLocalCA(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue("edge", "hr.test", "other.test", "localhost"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"edge.yaml": fmt.Sprintf(h2Config, upstream, upstream), "rules.yaml": "waf: {mode: " + mode + "}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := launch("edge", dir, nil, "run", "--config", "edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("%v\n%s", err, p.logged())
		}
	})
	return &h2Edge{p, dir, &tls.Config{ServerName: "hr.test", RootCAs: ca.Pool(), NextProtos: []string{"h2"}}}
}

// recorder is an application that writes down what it sees. A request for /hang
// is not answered before its client has left; one for /large is, with 4 MB.
type recorder struct {
	*httptest.Server
	conns atomic.Int64 // made to it

	mu   sync.Mutex
	seen []string
}

func record(t *testing.T) *recorder {
	rec := &recorder{}
	rec.Server = httptest.NewUnstartedServer(rec)
	rec.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			rec.conns.Add(1)
		}
	}
	rec.Start()
	t.Cleanup(rec.Close)
	return rec
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var names []string
	for name := range r.Header {
		if !slices.Contains([]string{"X-Request-Id", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "User-Agent", "Accept-Encoding", "Content-Length"}, name) {
			names = append(names, name+": "+strings.Join(r.Header[name], "|"))
		}
	}
	slices.Sort(names)
	rec.mu.Lock()
	rec.seen = append(rec.seen, fmt.Sprintf("%s %s %s %v %v %q %v", r.Method, r.RequestURI, r.Host, r.ContentLength, names, body, r.Trailer))
	rec.mu.Unlock()
	switch r.URL.Path {
	case "/hang":
		<-r.Context().Done()
	case "/large":
		_, _ = w.Write(make([]byte, 4<<20))
	default:
		_, _ = io.WriteString(w, "ok")
	}
}

// take returns what has been seen since the last time.
func (rec *recorder) take() []string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	seen := rec.seen
	rec.seen = nil
	return seen
}

// wire is an HTTP/2 connection on which anything can be sent.
type wire struct {
	*http2.Framer
	t    testing.TB
	conn *tls.Conn
	enc  *hpack.Encoder
	buf  bytes.Buffer
}

func (e *h2Edge) dial(t testing.TB, settings ...http2.Setting) *wire {
	t.Helper()
	c, err := tls.Dial("tcp", e.addr, e.tls)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w := &wire{Framer: http2.NewFramer(c, c), t: t, conn: c}
	w.AllowIllegalWrites = true
	w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.enc = hpack.NewEncoder(&w.buf)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return w
}

// block encodes fields, "name: value" each.
func (w *wire) block(fields ...string) []byte {
	w.buf.Reset()
	for _, f := range fields {
		i := strings.Index(f[1:], ": ") + 1
		_ = w.enc.WriteField(hpack.HeaderField{Name: f[:i], Value: f[i+2:]})
	}
	return bytes.Clone(w.buf.Bytes())
}

// open sends a head.
func (w *wire) open(stream uint32, end bool, fields ...string) error {
	return w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: w.block(fields...), EndHeaders: true, EndStream: end})
}

// outcome is what becomes of a stream: a status, "reset", or "cut" for the connection.
func (w *wire) outcome(stream uint32) string {
	for {
		f, err := w.ReadFrame()
		if err != nil {
			return "cut"
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream {
				return f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return "reset"
			}
		case *http2.GoAwayFrame:
			return "cut"
		}
	}
}

// settle waits until the server has read all that was sent.
func (w *wire) settle() {
	w.t.Helper()
	if err := w.WritePing(false, [8]byte{'s'}); err != nil {
		w.t.Fatal(err)
	}
	for {
		f, err := w.ReadFrame()
		if err != nil {
			w.t.Fatal(err)
		}
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
			return
		}
	}
}

// get are the fields of an honest request, with more behind them.
func get(path string, more ...string) []string {
	return append([]string{":method: GET", ":scheme: https", ":authority: hr.test", ":path: " + path, "user-agent: test", "accept: */*"}, more...)
}

func post(more ...string) []string {
	fields := get("/form", append([]string{"content-type: application/x-www-form-urlencoded"}, more...)...)
	fields[0] = ":method: POST"
	return fields
}

// replaced is fields with one in the place of the one that begins alike.
func replaced(fields []string, with string) []string {
	name := with[:strings.Index(with[1:], ": ")+1]
	for i, f := range fields {
		if strings.HasPrefix(f, name+": ") {
			fields[i] = with
		}
	}
	return fields
}

// honest expects that the edge serves a connection of its own.
func (e *h2Edge) honest(t *testing.T, rec *recorder) {
	t.Helper()
	w := e.dial(t)
	if err := w.open(1, true, get("/")...); err != nil {
		t.Fatal(err)
	}
	if got := w.outcome(1); got != "200" {
		t.Errorf("an honest request afterwards: %s", got)
	}
	if seen := rec.take(); !slices.Contains(seen, `GET / hr.test 0 [Accept: */*] "" map[]`) {
		t.Errorf("the application saw %q", seen)
	}
	w.conn.Close()
}

// What is malformed in HTTP/2, and could become something else in HTTP/1, goes no
// further; what is well formed arrives in one form.
func TestH2Forms(t *testing.T) {
	rec := record(t)
	long := make([]string, 120)
	for i := range long {
		long[i] = fmt.Sprintf("x-%d: 1", i)
	}
	crumbs := make([]string, 120)
	for i := range crumbs {
		crumbs[i] = fmt.Sprintf("cookie: c%d=1", i)
	}
	hello := `POST /form hr.test 7 [Accept: */*|Content-Type: application/x-www-form-urlencoded] "note=hi" map[]`
	tests := []struct {
		name   string
		fields []string
		body   string // in DATA, if there is one
		late   []string
		want   string
		seen   string
	}{
		{"honest", get("/a?b=c"), "", nil, "200", `GET /a?b=c hr.test 0 [Accept: */*] "" map[]`},
		{"honest_form", post("content-length: 7"), "note=hi", nil, "200", hello},
		{"no_length", post(), "note=hi", nil, "200", hello},
		{"trailers", post(), "note=hi", []string{"x-late: 1", "content-length: 9", "host: other.test"}, "200", hello},
		{"declared_trailers", post("trailer: x-late"), "note=hi", []string{"x-late: 1"}, "200", hello},
		{"pseudo_trailers", post(), "note=hi", []string{":path: /admin"}, "reset", ""},
		{"te_trailers", get("/", "te: trailers"), "", nil, "200", `GET / hr.test 0 [Accept: */*|Te: trailers] "" map[]`},
		{"same_host", get("/", "host: hr.test"), "", nil, "200", `GET / hr.test 0 [Accept: */*] "" map[]`},
		{"no_authority", append(get("/")[:2:2], ":path: /", "user-agent: test", "accept: */*", "host: hr.test"), "", nil, "200", `GET / hr.test 0 [Accept: */*] "" map[]`},

		{"length_too_small", post("content-length: 3"), "note=hi", nil, "reset", ""},
		{"length_too_large", post("content-length: 9"), "note=hi", nil, "400", ""},
		{"length_and_no_body", post("content-length: 9"), "", nil, "400", ""},
		{"length_twice", post("content-length: 7", "content-length: 7"), "note=hi", nil, "400", ""},
		{"length_signed", post("content-length: +7"), "note=hi", nil, "400 or reset", ""},
		{"length_list", post("content-length: 7, 7"), "note=hi", nil, "400 or reset", ""},
		{"length_zero_padded", post("content-length: 07"), "note=hi", nil, "400", ""},

		{"path_twice", append([]string{":path: /"}, get("/b")...), "", nil, "reset", ""},
		{"method_twice", append([]string{":method: GET"}, get("/")...), "", nil, "reset", ""},
		{"authority_twice", append([]string{":authority: hr.test"}, get("/")...), "", nil, "reset", ""},
		{"pseudo_late", get("/", ":path: /b"), "", nil, "reset", ""},
		{"pseudo_unknown", append([]string{":admin: 1"}, get("/")...), "", nil, "reset", ""},
		{"pseudo_of_answers", append([]string{":status: 200"}, get("/")...), "", nil, "reset", ""},
		{"upper_case", get("/", "X-Upper: 1"), "", nil, "reset", ""},
		{"colon_in_name", get("/", "x:y: 1"), "", nil, "reset", ""},
		{"blank_in_name", get("/", "x y: 1"), "", nil, "reset", ""},
		{"cr_in_name", get("/", "x\ry: 1"), "", nil, "reset", ""},
		{"cr_in_value", get("/", "x: 1\ry"), "", nil, "reset", ""},
		{"lf_in_value", get("/", "x: 1\ny: 2"), "", nil, "reset", ""},
		{"crlf_in_value", get("/", "x: 1\r\n\r\nGET /admin HTTP/1.1"), "", nil, "reset", ""},
		{"nul_in_value", get("/", "x: 1\x002"), "", nil, "reset", ""},
		{"crlf_in_path", replaced(get("/"), ":path: / HTTP/1.1\r\nx: y"), "", nil, "reset", ""},
		{"crlf_in_method", replaced(get("/"), ":method: GET / HTTP/1.1\r\n\r\n"), "", nil, "reset", ""},
		{"blank_in_method", replaced(get("/"), ":method: GET /admin"), "", nil, "400", ""},
		{"crlf_in_authority", replaced(get("/"), ":authority: hr.test\r\nx: y"), "", nil, "reset", ""},

		{"path_with_blank", get("/a b"), "", nil, "400", ""},
		{"path_with_version", get("/a HTTP/1.1"), "", nil, "400", ""},
		{"path_with_tab", get("/a\tb"), "", nil, "reset", ""},
		{"path_with_fragment", get("/a#b"), "", nil, "400", ""},
		{"path_relative", get("a"), "", nil, "reset", ""},
		{"path_empty", replaced(get("/"), ":path: "), "", nil, "reset", ""},
		{"path_missing", append(get("/")[:3:3], "user-agent: test"), "", nil, "reset", ""},
		{"path_absolute", get("https://other.test/"), "", nil, "400", ""},
		{"path_star", get("*"), "", nil, "400", ""},
		{"scheme_http", replaced(get("/"), ":scheme: http"), "", nil, "200", `GET / hr.test 0 [Accept: */*] "" map[]`}, // it changes nothing
		{"scheme_http_other_app", replaced(replaced(get("/"), ":scheme: http"), ":authority: other.test"), "", nil, "421", ""},
		{"scheme_text", replaced(get("/"), ":scheme: https://other.test/?"), "", nil, "reset", ""},
		{"scheme_empty", replaced(get("/"), ":scheme: "), "", nil, "reset", ""},

		{"other_host", get("/", "host: other.test"), "", nil, "400", ""},
		{"host_twice", get("/", "host: hr.test", "host: hr.test"), "", nil, "400", ""},
		{"userinfo", replaced(get("/"), ":authority: other.test@hr.test"), "", nil, "reset", ""},
		{"authority_other_app", replaced(get("/"), ":authority: other.test"), "", nil, "421", ""},
		{"authority_empty", replaced(get("/"), ":authority: "), "", nil, "400", ""},
		{"authority_list", replaced(get("/"), ":authority: hr.test, other.test"), "", nil, "400", ""},

		{"connect", []string{":method: CONNECT", ":authority: hr.test"}, "", nil, "400", ""},
		{"connect_with_port", []string{":method: CONNECT", ":authority: hr.test:22"}, "", nil, "400", ""},
		{"connect_with_path", replaced(get("/"), ":method: CONNECT"), "", nil, "reset", ""},
		{"extended_connect", append([]string{":protocol: websocket"}, replaced(get("/"), ":method: CONNECT")...), "", nil, "reset", ""},
		{"protocol_with_get", append([]string{":protocol: websocket"}, get("/")...), "", nil, "reset", ""},

		{"te_gzip", get("/", "te: gzip"), "", nil, "400", ""},
		{"expect_other", get("/", "expect: 200-ok"), "", nil, "417", ""},
		{"te_twice", get("/", "te: trailers", "te: trailers"), "", nil, "400", ""},
		{"connection", get("/", "connection: x-real-ip"), "", nil, "400", ""},
		{"keep_alive", get("/", "keep-alive: 1"), "", nil, "400", ""},
		{"proxy_connection", get("/", "proxy-connection: close"), "", nil, "400", ""},
		{"upgrade", get("/", "upgrade: websocket"), "", nil, "400", ""},
		{"transfer_encoding", post("transfer-encoding: chunked"), "7\r\nnote=hi\r\n0\r\n\r\n", nil, "400", ""},

		{"too_many_lines", get("/", long...), "", nil, "431", ""},
		{"many_crumbs", get("/", crumbs...), "", nil, "200", "GET / hr.test 0 [Accept: */*|Cookie: " + strings.Join(crumbs, "|") + `] "" map[]`},
		{"head_too_large", get("/", "x: "+strings.Repeat("y", 15<<10), "x: "+strings.Repeat("z", 15<<10), "x: "+strings.Repeat("z", 4<<10)), "", nil, "431", ""},
		{"head_twice_too_large", get("/", "x: "+strings.Repeat("y", 30<<10), "x: "+strings.Repeat("z", 30<<10)), "", nil, "431", ""},
		{"head_far_too_large", get("/", "x: "+strings.Repeat("y", 60<<10), "x: "+strings.Repeat("z", 60<<10), "x: "+strings.Repeat("z", 60<<10)), "", nil, "cut", ""},
	}
	for i := range tests {
		tests[i].seen = strings.ReplaceAll(strings.ReplaceAll(tests[i].seen, "|Cookie: cookie: ", "|Cookie: "), "|cookie: ", "; ")
		tests[i].seen = strings.ReplaceAll(strings.ReplaceAll(tests[i].seen, "|C", " C"), "|T", " T")
	}
	e := startH2(t, rec.URL, "block")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := e.dial(t)
			head := w.block(test.fields...)
			first := head[:min(len(head), 16<<10)]
			err := w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: len(first) == len(head), EndStream: test.body == ""})
			for rest := head[len(first):]; len(rest) > 0; {
				n := min(len(rest), 16<<10)
				err = errors.Join(err, w.WriteContinuation(1, n == len(rest), rest[:n]))
				rest = rest[n:]
			}
			if test.body != "" {
				err = errors.Join(err, w.WriteData(1, test.late == nil, []byte(test.body)))
			}
			if test.late != nil {
				err = errors.Join(err, w.open(1, true, test.late...))
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := w.outcome(1); !slices.Contains(strings.Split(test.want, " or "), got) { // whichever comes first, the head's refusal or its body
				t.Errorf("%s, want %s", got, test.want)
			}
			if seen := strings.Join(rec.take(), "\n"); seen != test.seen {
				t.Errorf("the application saw %q, want %q", seen, test.seen)
			}
			w.conn.Close()
		})
	}
	e.honest(t, rec)
}

// Of a body that comes late and in small pieces nothing is forwarded, and nobody
// connected to, before it has ended.
func TestH2LateBody(t *testing.T) {
	rec := record(t)
	e := startH2(t, rec.URL, "block")
	w := e.dial(t)
	if err := w.open(1, false, post()...); err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{"", "n", "ote", "=", "h"} {
		if err := w.WriteData(1, false, []byte(piece)); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if seen, conns := rec.take(), rec.conns.Load(); len(seen) > 0 || conns > 0 {
			t.Fatalf("before the end the application saw %q on %d connections", seen, conns)
		}
	}
	if err := w.WriteData(1, true, []byte("i")); err != nil {
		t.Fatal(err)
	}
	if got := w.outcome(1); got != "200" {
		t.Error(got)
	}
	if seen := rec.take(); len(seen) != 1 || !strings.Contains(seen[0], ` 7 [`) || !strings.Contains(seen[0], `"note=hi"`) {
		t.Errorf("the application saw %q", seen)
	}
}

// A client that has its requests reset, by itself or by making the server do it,
// is cut off, and the application has seen few of them.
func TestH2Resets(t *testing.T) {
	attacks := map[string]func(w *wire, stream uint32) error{
		"rapid_reset": func(w *wire, stream uint32) error {
			return errors.Join(w.open(stream, true, get("/hang")...), w.WriteRSTStream(stream, http2.ErrCodeCancel))
		},
		"reset_with_body": func(w *wire, stream uint32) error {
			return errors.Join(w.open(stream, false, post()...), w.WriteData(stream, false, []byte("n")), w.WriteRSTStream(stream, http2.ErrCodeCancel))
		},
		"window_update_zero": func(w *wire, stream uint32) error {
			return errors.Join(w.open(stream, true, get("/hang")...), w.WriteRawFrame(http2.FrameWindowUpdate, 0, stream, make([]byte, 4)))
		},
		"window_over_increment": func(w *wire, stream uint32) error {
			return errors.Join(w.open(stream, true, get("/hang")...), w.WriteWindowUpdate(stream, math.MaxInt32))
		},
		"data_after_end": func(w *wire, stream uint32) error {
			return errors.Join(w.open(stream, true, get("/hang")...), w.WriteData(stream, true, []byte("x")))
		},
		"headers_after_end": func(w *wire, stream uint32) error {
			return errors.Join(w.open(stream, true, get("/hang")...), w.open(stream, true, get("/hang")...))
		},
		"depends_on_itself": func(w *wire, stream uint32) error {
			return errors.Join(w.open(stream, true, get("/hang")...), w.WritePriority(stream, http2.PriorityParam{StreamDep: stream}))
		},
	}
	rec := record(t)
	e := startH2(t, rec.URL, "block")
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			w := e.dial(t)
			cut := make(chan struct{})
			go func() { // as clients do, so that the server can go on writing
				defer close(cut)
				_, _ = io.Copy(io.Discard, w.conn)
			}()
			sent := 0
			for ; sent < 20_000; sent++ {
				if attack(w, uint32(2*sent+1)) != nil {
					break
				}
			}
			select {
			case <-cut:
			case <-time.After(30 * time.Second):
				t.Fatalf("the connection lives after %d requests", sent)
			}
			seen := rec.take()
			t.Logf("%d sent, %d seen by the application", sent, len(seen))
			if len(seen) > 250 {
				t.Errorf("the application saw %d requests", len(seen))
			}
			e.honest(t, rec)
		})
	}
	if metrics := e.metrics(t); !strings.Contains(metrics, `edge_http2_faults_total{what="too_many_resets"} `) {
		t.Errorf("no word of it in the metrics:\n%s", metrics)
	}
}

// A client that has some of its requests reset is a person.
func TestH2SomeResets(t *testing.T) {
	rec := record(t)
	e := startH2(t, rec.URL, "off")
	w := e.dial(t)
	for i := range uint32(150) {
		stream := 4*i + 1
		if err := errors.Join(w.open(stream, true, get("/")...), w.open(stream+2, true, get("/hang")...)); err != nil {
			t.Fatal(err)
		}
		if got := w.outcome(stream); got != "200" {
			t.Fatalf("request %d: %s", i, got)
		}
		if err := w.WriteRSTStream(stream+2, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
}

func (e *h2Edge) metrics(t *testing.T) string {
	t.Helper()
	res, err := http.Get("http://" + adminAt.FindStringSubmatch(e.logged())[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// resident is the memory of the edge, in bytes.
func (p *process) resident(t *testing.T) (bytes int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	_, _ = fmt.Sscan(after, &bytes)
	return bytes << 10
}

// Floods of frames that are no requests cost the sender its connection, or the
// edge next to nothing.
func TestH2Floods(t *testing.T) {
	frame := func(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
		var b bytes.Buffer
		_ = http2.NewFramer(&b, nil).WriteRawFrame(kind, flags, stream, payload)
		return b.Bytes()
	}
	setting := []byte{0, 4, 0, 0, 0xff, 0xff} // initial window: 65,535
	floods := []struct {
		name        string
		begin, more []byte
		cut         bool
	}{
		{"ping", nil, frame(http2.FramePing, 0, 0, make([]byte, 8)), true},
		{"settings", nil, frame(http2.FrameSettings, 0, 0, setting), false},
		{"settings_empty", nil, frame(http2.FrameSettings, 0, 0, nil), false},
		{"settings_ack", nil, frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil), true},
		{"continuation", frame(http2.FrameHeaders, 0, 1, []byte{0x82}), frame(http2.FrameContinuation, 0, 1, bytes.Repeat([]byte{0, 1, 'x', 1, 'y'}, 200)), true},
		{"continuation_large", frame(http2.FrameHeaders, 0, 1, nil), frame(http2.FrameContinuation, 0, 1, append([]byte{0, 1, 'x', 0x7f, 0x81, 0x7e}, make([]byte, 16<<10-6)...)), true},
		{"continuation_empty", frame(http2.FrameHeaders, 0, 1, []byte{0x82}), frame(http2.FrameContinuation, 0, 1, nil), false},
		{"data_empty", nil, frame(http2.FrameData, 0, 1, nil), false},
		{"priority", nil, frame(http2.FramePriority, 0, 3, []byte{0, 0, 0, 1, 1}), false},
		{"unknown", nil, frame(0xee, 0, 0, make([]byte, 100)), false},
		{"header_table_churn", nil, frame(http2.FrameSettings, 0, 0, []byte{0, 1, 0xff, 0xff, 0xff, 0xff}), false},
	}
	rec := record(t)
	e := startH2(t, rec.URL, "block")
	e.honest(t, rec)
	before := e.resident(t)
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			w := e.dial(t)
			if f.cut {
				_ = w.conn.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10) // what is sent back has nowhere to go
			} else {
				go func() { _, _ = io.Copy(io.Discard, w.conn) }()
			}
			if f.name == "data_empty" {
				f.begin = frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, w.block(post()...))
			}
			_, err := w.conn.Write(f.begin)
			many := bytes.Repeat(f.more, max(1, (64<<10)/len(f.more)))
			sent := 0
			for ; err == nil && sent < 8<<20; sent += len(many) {
				_, err = w.conn.Write(many)
			}
			if cut := err != nil; cut != f.cut {
				t.Errorf("cut: %v (%v) after %d bytes", cut, err, sent)
			}
			if !f.cut { // it has been read, and is worth nothing
				e.honest(t, rec)
			}
			w.conn.NetConn().Close()
			if seen := rec.take(); len(seen) > 0 {
				t.Errorf("the application saw %q", seen)
			}
		})
	}
	e.honest(t, rec)
	if grown := e.resident(t) - before; grown > 128<<20 {
		t.Errorf("grown by %d MB", grown>>20)
	}
}

// A client that reads none of its answers keeps nobody else from theirs.
func TestH2ZeroWindow(t *testing.T) {
	rec := record(t)
	e := startH2(t, rec.URL, "block")
	w := e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for i := range uint32(100) {
		if err := w.open(2*i+1, true, get("/large")...); err != nil {
			t.Fatal(err)
		}
	}
	for begun := 0; begun < 100; {
		f, err := w.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.(*http2.MetaHeadersFrame); ok {
			begun++
		}
	}
	e.honest(t, rec)
}

// What the edge itself refuses of HTTP/2 is in the records, with what was wrong.
func TestH2Records(t *testing.T) {
	rec := record(t)
	e := startH2(t, rec.URL, "off")
	w := e.dial(t)
	if err := w.open(1, true, get("/", "host: other.test")...); err != nil {
		t.Fatal(err)
	}
	if got := w.outcome(1); got != "400" {
		t.Fatal(got)
	}
	w.settle()
	var last blocklog.Event
	text, err := os.ReadFile(filepath.Join(e.dir, "state", "log", blocklog.BlockFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &last); err != nil || last.Edge.Reason != blocklog.ReasonBadHeader || !strings.Contains(last.Edge.Detail, ":authority") {
		t.Errorf("%s, %v", text, err)
	}
}
