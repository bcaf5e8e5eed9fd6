package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"edge/blocklog"
	"edge/config"
	"edge/rules"
)

// How much of a request the WAF saw is in its record.
func TestInspection(t *testing.T) {
	outer, edges := t, map[rules.Mode]*edge{}
	early := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			w.Header().Set("Connection", "close")
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}
	for name, c := range map[string]struct {
		mode   rules.Mode
		target string
		body   int
		want   string
	}{
		"block":           {rules.Block, "/", 0, blocklog.InspectedFull},
		"block_body":      {rules.Block, "/", 100, blocklog.InspectedFull},
		"block_refused":   {rules.Block, "/?q=<script>", 0, blocklog.InspectedFull},
		"block_too_large": {rules.Block, "/", 2000, blocklog.InspectedNone},
		"detect":          {rules.Detect, "/", 100, blocklog.InspectedFull},
		"detect_found":    {rules.Detect, "/?q=<script>", 100, blocklog.InspectedFull},
		"detect_large":    {rules.Detect, "/", 2000, blocklog.InspectedHeaders},
		"detect_early":    {rules.Detect, "/early", -1, blocklog.InspectedHeaders},
		"off":             {rules.Off, "/", 100, blocklog.InspectedNone},
	} {
		t.Run(name, func(t *testing.T) {
			if edges[c.mode] == nil {
				edges[c.mode] = start(outer, early, c.mode)
			}
			e := edges[c.mode]
			var body io.Reader
			if c.body > 0 {
				body = strings.NewReader(strings.Repeat("x", c.body))
			} else if c.body < 0 { // one that does not end before the answer
				pr, pw := io.Pipe()
				defer pw.Close()
				go func() { _, _ = io.WriteString(pw, "x") }()
				body = pr
			}
			req, _ := http.NewRequest("POST", e.url+c.target, body)
			req.Host = "hr.test"
			req.Header.Set("Content-Type", "text/plain")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			id := res.Header.Get("X-Request-Id")
			e.events(id)
			for line := range strings.Lines(e.file(blocklog.AccessFile)) {
				if strings.Contains(line, id) && !strings.Contains(line, `"inspection":"`+c.want+`"`) {
					t.Errorf("want %s in %s", c.want, line)
				}
			}
		})
	}
}

// An answer that comes while the client still sends is delivered as a whole, and
// the connection closed without a reset.
func TestEarlyAnswerWhileSending(t *testing.T) {
	e := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, "enough")
	}, rules.Off)
	c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: hr.test\r\nContent-Type: text/plain\r\nContent-Length: 100000000\r\n\r\n%s", strings.Repeat("x", 100<<10))
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 409") || !strings.HasSuffix(string(answer), "enough") {
		t.Errorf("%q, %v", answer, err)
	}
}

// The first event of a stream arrives before there is a second one, also where
// answers are inspected.
func TestFirstEvent(t *testing.T) {
	got := make(chan struct{})
	e := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-got:
		case <-time.After(time.Second):
		}
		_, _ = io.WriteString(w, "data: 2\n\n")
	}, rules.Block, func(_ *config.App, s *rules.Set) { s.WAF.Responses.Inspect = []string{"text/html"} })
	res := e.do("GET", "/", nil)
	br := bufio.NewReader(res.Body)
	asked := time.Now()
	if line, err := br.ReadString('\n'); line != "data: 1\n" || err != nil || time.Since(asked) > time.Second {
		t.Errorf("%q, %v after %s", line, err, time.Since(asked))
	}
	close(got)
	if rest, err := io.ReadAll(br); string(rest) != "\ndata: 2\n\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// A download takes as much memory as a piece of it.
func TestDownloadInConstantMemory(t *testing.T) {
	const size = 48 << 20
	piece := make([]byte, 1<<20)
	e := start(t, func(w http.ResponseWriter, _ *http.Request) {
		for range size / len(piece) {
			_, _ = w.Write(piece)
		}
	}, rules.Block)
	_, _ = io.Copy(io.Discard, e.do("GET", "/", nil).Body) // which builds what there is to build
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := io.Copy(io.Discard, e.do("GET", "/", nil).Body)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; n != size || err != nil || took > size/8 {
		t.Errorf("%d bytes, %v, with %d bytes of memory", n, err, took)
	}
}

// A client that leaves in the middle of an answer takes the application's work
// with it, over both protocols.
func TestLeavingWithinAnAnswer(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2_%v", h2), func(t *testing.T) {
			left := make(chan time.Time, 1)
			e := start(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				left <- time.Now()
			}, rules.Block)
			front := httptest.NewUnstartedServer(e)
			front.EnableHTTP2 = h2
			front.StartTLS()
			defer front.Close()
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "GET", front.URL, nil)
			req.Host = "hr.test"
			client := front.Client()
			client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, ServerName: "hr.test"}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil || res.ProtoMajor == 2 != h2 {
				t.Fatal(err, res.Proto)
			}
			gone := time.Now()
			cancel()
			select {
			case at := <-left:
				if at.Sub(gone) > time.Second {
					t.Errorf("told after %s", at.Sub(gone))
				}
			case <-time.After(10 * time.Second):
				t.Error("the application was not told")
			}
		})
	}
}

// What breaks off is reset over HTTP/2, and does not end.
func TestBreaksOffOverHTTP2(t *testing.T) {
	url := canned(t, map[string]string{
		"/chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
		"/length": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalfHANGUP",
	})
	for _, path := range []string{"/chunk", "/length"} {
		e := startAt(t, url, rules.Block)
		dialH2(t, e, 65535, path).untilReset()
	}
}

// A fault of ours after the application has answered is a 500, and the process lives.
func TestPanicAfterTheAnswer(t *testing.T) {
	e := start(t, ok, rules.Block)
	a := e.current.Load().exact["hr.test"]
	sound := a.upstream
	a.upstream = &balancer{servers: sound.servers, down: sound.down, transport: panicking{}}
	res := e.do("GET", "/", nil)
	if d := last(t, e, res.Header.Get("X-Request-Id")); res.StatusCode != 500 || d.Edge.Reason != blocklog.ReasonPanic || d.Error.Stack == "" {
		t.Errorf("status %d, %+v", res.StatusCode, d)
	}
	a.upstream = sound
	if res := e.do("GET", "/", nil); res.StatusCode != 200 {
		t.Errorf("afterwards: status %d", res.StatusCode)
	}
}

// panicking is a transport with a fault.
type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("out of order") }

// An application that answers before it has read leaves a body behind that is still
// being read when the request is over. In HTTP/2 there is nothing then to set a
// deadline on.
func TestEarlyAnswerOverHTTP2(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
				}
			}()
		}
	}()
	url := "http://" + l.Addr().String()
	for _, mode := range []rules.Mode{rules.Off, rules.Detect, rules.Block} {
		e := startAt(t, url, mode, relaxed, func(_ *config.App, s *rules.Set) {
			s.Uploads = []rules.Upload{{Name: "all", Body: rules.UploadBody{Max: 1 << 30, Inspect: 4 << 10}}}
			s.WAF.ContentTypes = append(s.WAF.ContentTypes, "application/octet-stream")
		})
		front := httptest.NewUnstartedServer(e.Server)
		front.EnableHTTP2 = true
		front.StartTLS()
		t.Cleanup(front.Close)
		client := front.Client()
		client.Transport.(*http.Transport).TLSClientConfig.ServerName = "hr.test"
		client.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
		for range 20 {
			body, more := io.Pipe()
			req, _ := http.NewRequest("POST", front.URL+"/early", body)
			req.Host = "hr.test"
			req.Header = http.Header{"Content-Type": {"application/octet-stream"}, "Accept": {"*/*"}, "User-Agent": {"test"}}
			go func() { _, _ = more.Write(make([]byte, 64<<10)) }()
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(text) != "hello" {
				t.Fatalf("%s: %s, %q", mode, res.Status, text)
			}
			res.Body.Close()
			_ = more.Close()
		}
	}
}
