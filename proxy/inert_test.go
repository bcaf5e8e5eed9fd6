package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"edge/config"
	"edge/internal/demo"
	"edge/rules"
)

// recorder is an application that notes what it sees and answers as it is asked to.
type recorder struct {
	mu   sync.Mutex
	seen map[string][]string // by the request's X-Case
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head, _ := httputil.DumpRequest(r, false)
	body, err := io.ReadAll(r.Body)
	rec.mu.Lock()
	seen := r.Header.Get("X-Case")
	rec.seen[seen] = append(rec.seen[seen], fmt.Sprintf("%s%v length %d\n%d bytes %q…, %v\n", head, r.TransferEncoding, r.ContentLength, len(body), body[:min(20, len(body))], err != nil))
	rec.mu.Unlock()
	switch r.URL.Path {
	case "/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
		}
	case "/early":
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "late")
		w.Header().Set("X-Sum", "42")
	case "/leak":
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<h1>[Microsoft][ODBC Microsoft Access Driver] Syntax error</h1>"+strings.Repeat("x", 3000))
	case "/none":
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(body)
	}
}

// differs are the parts that are never the same twice.
var differs = regexp.MustCompile(`(?m)^(?:X-Request-Id|Date): .*\r?\n|<b>[0-9a-z]{16}</b>`)

// chunk is where a chunk begins, which depends on who was faster.
var chunk = regexp.MustCompile(`(?:^|\r\n)[0-9a-f]+\r\n`)

// exchangeRaw sends a request as it is, and returns the answer as it is.
func exchangeRaw(t *testing.T, url, request string, hangup bool) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if hangup {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	answer, _ := io.ReadAll(c)
	return differs.ReplaceAllString(string(answer), "")
}

// Detect changes nothing: the application sees, and the client gets, the same
// bytes as with the WAF off. The body limit is 1 KiB.
func TestDetectIsInert(t *testing.T) {
	head := func(line, more string) string {
		return line + " HTTP/1.1\r\nHost: hr.test\r\nUser-Agent: test\r\nAccept: */*\r\nConnection: close\r\n" + more + "\r\n"
	}
	form := "Content-Type: application/x-www-form-urlencoded\r\n"
	attack, large := "q=<script>alert(1)</script>&r=../../etc/passwd", strings.Repeat("word+", 20000)
	chunked := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(s), s) }
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(`{"a":1}`)) // into memory
	_ = z.Close()
	packed := zipped.String()
	upload := "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.php\"\r\n\r\n<?php system('id'); ?>\r\n--x--\r\n"
	requests := map[string]string{
		"get":         head("GET /?a=1;b=%zz", ""),
		"attack":      head("GET /?q=<script>alert(1)</script>&f=../../etc/passwd", "Cookie: a=b; c=1' OR '1'='1\r\n"),
		"head":        head("HEAD /?q=<script>", ""),
		"odd_method":  head("PROPFIND /", ""),
		"form":        head("POST /", form+fmt.Sprintf("Content-Length: %d\r\n", len(attack))) + attack,
		"chunked":     head("POST /", form+"Transfer-Encoding: chunked\r\n") + chunked(attack),
		"large":       head("POST /", form+fmt.Sprintf("Content-Length: %d\r\n", len(large))) + large,
		"large_chunk": head("POST /", form+"Transfer-Encoding: chunked\r\n") + chunked(large),
		"broken_json": head("POST /", "Content-Type: application/json\r\nContent-Length: 5\r\n") + `{"a":`,
		"compressed":  head("POST /", fmt.Sprintf("Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n", len(packed))) + packed,
		"upload":      head("POST /", fmt.Sprintf("Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n", len(upload))) + upload,
		"two_types":   head("POST /", "Content-Type: a/b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n") + "{}",
		"trailer":     head("POST /", "Trailer: X-T\r\nTransfer-Encoding: chunked\r\n") + "2\r\n{}\r\n0\r\nX-T: 1\r\n\r\n",
		"expect":      head("POST /", "Expect: 100-continue\r\nContent-Length: 2\r\n") + "{}",
		"truncated":   head("POST /", form+"Content-Length: 500\r\n") + attack,
		"stream":      head("GET /stream", ""),
		"early":       head("GET /early", "TE: trailers\r\n"),
		"leak":        head("GET /leak", "Accept-Encoding: gzip\r\n"),
		"none":        head("DELETE /none", ""),
	}
	rec := &recorder{seen: map[string][]string{}}
	inspect := func(_ *config.App, s *rules.Set) {
		s.WAF.Responses.Inspect = []string{"text/html"}
		s.WAF.Responses.Max = 1024
	}
	off := start(t, rec.ServeHTTP, rules.Off, inspect, relaxed)
	detect := start(t, rec.ServeHTTP, rules.Detect, inspect, relaxed)
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			var answers, seen [2]string
			for i, e := range []*edge{off, detect} {
				mark := fmt.Sprintf("%s-%d", name, i)
				answers[i] = exchangeRaw(t, e.url, strings.Replace(request, "\r\n", "\r\nX-Case: "+mark+"\r\n", 1), name == "truncated")
				if head, body, ok := strings.Cut(answers[i], "\r\n\r\n"); ok && strings.Contains(head, "chunked") {
					answers[i] = head + "\r\n\r\n" + chunk.ReplaceAllString(body, "")
				}
				rec.mu.Lock()
				seen[i] = differs.ReplaceAllString(strings.ReplaceAll(strings.Join(rec.seen[mark], ""), mark, name), "")
				rec.mu.Unlock()
			}
			if answers[0] == "" || answers[0] != answers[1] {
				t.Errorf("the client gets\n%s\nand in detect mode\n%s", answers[0], answers[1])
			}
			if seen[0] != seen[1] && name != "truncated" { // which the application may see at any time, or never
				t.Errorf("the application sees\n%s\nand in detect mode\n%s", seen[0], seen[1])
			}
		})
	}
	// Where HTTP is taken strictly, what is refused is refused in the same words; of a
	// body that is refused on its way, the application sees as much as it happens to.
	off, strict := start(t, rec.ServeHTTP, rules.Off, inspect), start(t, rec.ServeHTTP, rules.Detect, inspect)
	for name, request := range requests {
		one := chunk.ReplaceAllString(exchangeRaw(t, off.url, request, name == "truncated"), "")
		if two := chunk.ReplaceAllString(exchangeRaw(t, strict.url, request, name == "truncated"), ""); one != two {
			t.Errorf("%s: the client gets\n%s\nand in detect mode\n%s", name, one, two)
		}
	}
	if events := detect.events(detect.do("GET", "/none", nil).Header.Get("X-Request-Id")); len(events) < 6 {
		t.Errorf("only %d events, so detect has not looked", len(events))
	}
}

// WebSockets and event streams are live in every mode: each message and event
// arrives while the next has not been sent.
func TestLiveInEveryMode(t *testing.T) {
	app := demo.Apps()[1].Handler
	handshakes := map[rules.Mode]string{}
	for _, mode := range []rules.Mode{rules.Block, rules.Detect, rules.Off} {
		t.Run(string(mode), func(t *testing.T) {
			e := start(t, app.ServeHTTP, mode)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			dial := &websocket.DialOptions{Host: "hr.test"}
			c, res, err := websocket.Dial(ctx, strings.Replace(e.url, "http", "ws", 1)+"/live", dial)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"X-Request-Id", "Date", "Sec-Websocket-Accept"} {
				res.Header.Del(name) // never the same twice
			}
			handshakes[mode] = fmt.Sprint(res.Status, res.Header)
			for _, text := range []string{"<script>", "' OR '1'='1", "third"} {
				if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
					t.Fatal(err)
				}
				if _, back, err := c.Read(ctx); err != nil || string(back) != text {
					t.Errorf("%q came back as %q, %v", text, back, err)
				}
			}
			c.CloseNow()

			res = e.do("GET", "/stream", nil)
			lines := bufio.NewScanner(res.Body)
			var got []string
			for begun := time.Now(); len(got) < 2 && lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "data:") {
					got = append(got, lines.Text())
				}
				if len(got) == 1 && time.Since(begun) > time.Second {
					t.Errorf("the first event took %s", time.Since(begun))
				}
			}
			if !slices.Equal(got, []string{"data: event 1", "data: event 2"}) {
				t.Errorf("events %q", got)
			}
			res.Body.Close()
		})
	}
	if handshakes[rules.Detect] != handshakes[rules.Off] {
		t.Errorf("the handshake is %s, and in detect mode %s", handshakes[rules.Off], handshakes[rules.Detect])
	}
}

// A hundred apps with one policy have one engine.
func TestHundredApps(t *testing.T) {
	before := engines.Len()
	var all []*edge
	for range 100 {
		all = append(all, start(t, ok, rules.Block))
	}
	if n := engines.Len() - before; n > 1 {
		t.Errorf("%d engines for %d apps", n, len(all))
	}
}
