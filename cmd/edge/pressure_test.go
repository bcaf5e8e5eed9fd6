package main_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edge/blocklog"
)

// What takes time, or much of something, in front of an edge that has little of
// everything. Floods of HTTP/2 are in h2_test.go, what is done when an application breaks
// off in proxy.
func TestPressure(t *testing.T) {
	hang, left := silent(t)
	d := openDoor(t, "small.yaml", map[string]net.Listener{"HANG": hang, "EARLY": hasty(t), "SOCKET": switching(t)})
	honest := func(t *testing.T) {
		t.Helper()
		begun := time.Now()
		if res, _ := d.ask(t, "127.2.0.1", "block.test", get1("block.test", "/honest")); res == nil || res.StatusCode != 200 || time.Since(begun) > 5*time.Second {
			t.Errorf("an honest request: %v after %s", res, time.Since(begun))
		}
	}
	post := "POST /a HTTP/1.1\r\nHost: %s\r\nUser-Agent: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	t.Run("together", func(t *testing.T) { // and not so many at once as there are processors
		var all sync.WaitGroup
		defer all.Wait()
		for i, c := range []struct {
			name, begin, more string
			want              string
			within            time.Duration
		}{
			{"slow_head", "GET /slow HTTP/1.1\r\nHost: off.test\r\n", "A: b\r\n", "408 head_timeout", 12 * time.Second},
			{"slow_head_in_a_line", "GET /slow HTTP/1.1\r\nHost: off.test\r\nA: ", "b", "408 head_timeout", 12 * time.Second},
			{"slow_request_line", "GET /", "b", "408 head_timeout", 12 * time.Second},
			{"silent_head", "GET /slow HTTP/1.1\r\nHost: off.test\r\n", "", "408 head_timeout", 12 * time.Second},
			{"slow_body", fmt.Sprintf(post, "block.test") + "Content-Length: 60000\r\n\r\n", "a", "408 body_slow", 15 * time.Second},
			{"slow_body_off", fmt.Sprintf(post, "off.test") + "Content-Length: 60000\r\n\r\n", "a", "408 body_slow", 15 * time.Second},
			{"slow_chunks", fmt.Sprintf(post, "block.test") + "Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", "408 body_slow", 15 * time.Second},
			{"slow_chunks_off", fmt.Sprintf(post, "off.test") + "Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", "408 body_slow", 15 * time.Second},
			{"slow_chunk_line", fmt.Sprintf(post, "block.test") + "Transfer-Encoding: chunked\r\n\r\n1;", "a", "408 body_slow", 15 * time.Second},
			{"silent_body", fmt.Sprintf(post, "block.test") + "Content-Length: 60000\r\n\r\n", "", "408 body_(slow|timeout)", 15 * time.Second},
		} {
			all.Go(func() {
				t.Run(c.name, func(t *testing.T) {
					d.drip(t, fmt.Sprintf("127.2.1.%d", i+1), c.begin, c.more, c.want, c.within)
				})
			})
		}
		for name, hello := range map[string]string{"no_hello": "", "half_a_hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "no_tls": "GET / HTTP/1.1\r\nHost: off.test\r\n\r\n"} {
			all.Go(func() {
				t.Run(name, func(t *testing.T) {
					expectCut(t, d.knock(t, "127.2.2.1"), hello, 7*time.Second)
				})
			})
		}
		all.Go(func() {
			t.Run("silent_balancer", func(t *testing.T) {
				expectCut(t, d.knock(t, "127.8.0.1"), "PROXY TCP4 203.0", 4*time.Second)
			})
		})
		all.Go(func() {
			t.Run("hanging_application", func(t *testing.T) {
				res, e := d.ask(t, "127.2.3.1", "hang.test", get1("hang.test", "/"))
				if res == nil || res.StatusCode != 504 || e.Edge.Reason != blocklog.ReasonUpstreamSlow {
					t.Errorf("%v %+v", res, e.Edge)
				}
			})
		})
		all.Go(func() {
			t.Run("client_leaves", func(t *testing.T) {
				c := d.enter(t, "127.2.4.1", "hang.test", "GET /leaves HTTP/1.1\r\nHost: hang.test\r\nUser-Agent: x\r\n\r\n")
				began := left(t, "/leaves", 10*time.Second, false)
				c.Close()
				if gone := left(t, "/leaves", 10*time.Second, true); gone.Sub(began) > 2*time.Second {
					t.Errorf("the application worked on for %s", gone.Sub(began))
				}
			})
		})
		all.Go(func() {
			t.Run("early_answer", func(t *testing.T) {
				body := fmt.Sprintf(post, "early.test") + "Content-Length: 20000000\r\n\r\na=" + strings.Repeat("b", 4<<20)
				if res, _ := d.ask(t, "127.2.5.1", "early.test", body); res == nil || res.StatusCode != 409 || !res.Close {
					t.Errorf("%v", res)
				}
			})
		})
		all.Go(func() {
			t.Run("hanging_neighbour", func(t *testing.T) {
				answers := make(chan *http.Response, 5)
				for i := range 5 { // two of them have the places, and no answer; the others will not get one
					c := d.enter(t, fmt.Sprintf("127.2.6.%d", i+1), "narrow.test", get1("narrow.test", "/"))
					go func() {
						if res, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
							answers <- res
						}
					}()
				}
				for range 3 {
					if res := <-answers; res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
						t.Errorf("%v", res)
					}
				}
				honest(t)
			})
		})
		all.Go(func() {
			t.Run("connections_of_one_client", func(t *testing.T) {
				for range 20 {
					d.enter(t, "127.2.7.1", "off.test", "")
				}
				for range 3 {
					expectCut(t, d.knock(t, "127.2.7.1"), "", 4*time.Second)
				}
				honest(t)
			})
		})
		all.Go(func() {
			t.Run("spool_full", func(t *testing.T) {
				body := fmt.Sprintf(post, "block.test") + "Content-Length: 3000000\r\n\r\na=" + strings.Repeat("b", 3000000-2)
				res, e := d.ask(t, "127.2.8.1", "block.test", body)
				if res == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || e.Edge.Reason != blocklog.ReasonSpoolFull {
					t.Errorf("%v %+v", res, e.Edge)
				}
				if info, err := os.Stat(filepath.Join(d.dir, "state", "spool")); err != nil || info.Mode().Perm() != 0o700 {
					t.Errorf("%v %v", info, err)
				}
				honest(t)
			})
		})
		all.Go(func() {
			t.Run("sockets", func(t *testing.T) {
				d.sockets(t)
			})
		})
	})
	t.Run("gzip_bomb", func(t *testing.T) {
		d.bomb(t, fmt.Sprintf(post, "block.test"), fmt.Sprintf(post, "off.test"))
		honest(t)
	})
	t.Run("many_of_everything", func(t *testing.T) { d.many(t); honest(t) })
	t.Run("log_flood", func(t *testing.T) { d.flood(t); honest(t) })
}

func get1(host, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: x\r\nAccept: */*\r\nConnection: close\r\n\r\n"
}

// enter does the handshake and sends text.
func (d *door) enter(t *testing.T, from, host, text string) *tls.Conn {
	t.Helper()
	raw := d.knock(t, from)
	_ = raw.SetDeadline(time.Now().Add(40 * time.Second))
	conf := d.tls.Clone()
	conf.ServerName = host
	c := tls.Client(raw, conf)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(c, text) }() // it may be more than anybody takes
	return c
}

// ask sends a request and returns the answer, nil if there is none, and what was recorded of it.
func (d *door) ask(t *testing.T, from, host, text string) (*http.Response, blocklog.Event) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(d.enter(t, from, host, text)), nil)
	if err != nil {
		t.Error(err)
		return nil, blocklog.Event{}
	}
	return res, d.recorded(t, res.Header.Get("X-Request-Id"))
}

// recorded is the record of a refusal, if there is one by the time there is a line of its request.
func (d *door) recorded(t *testing.T, id string) (e blocklog.Event) {
	t.Helper()
	dir := filepath.Dir(d.block.path)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, name := range []string{blocklog.AccessFile, blocklog.BlockFile} {
			files, _ := blocklog.Files(dir, name)
			for _, file := range files {
				text, _ := os.ReadFile(file)
				for line := range bytes.Lines(text) {
					if bytes.Contains(line, []byte(id)) && json.Unmarshal(line, &e) == nil && name == blocklog.BlockFile {
						return e
					}
				}
			}
		}
		if e.Event.ID != "" {
			return e
		}
	}
	t.Errorf("no record of %q", id)
	return e
}

// drip sends more every half second until there is an answer.
func (d *door) drip(t *testing.T, from, begin, more, want string, within time.Duration) {
	host := "off.test"
	if strings.Contains(begin, "block.test") {
		host = "block.test"
	}
	c := d.enter(t, from, host, begin)
	begun, over := time.Now(), make(chan struct{})
	defer close(over)
	go func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				_, _ = io.WriteString(c, more)
			}
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	took := time.Since(begun)
	if err != nil {
		t.Fatalf("%v after %s", err, took)
	}
	e := d.recorded(t, res.Header.Get("X-Request-Id"))
	if got := fmt.Sprint(res.StatusCode, " ", e.Edge.Reason); !matches(want, got) || took > within {
		t.Errorf("%s after %s, want %s within %s", got, took, want, within)
	}
}

// expectCut sends hello and expects nothing but the end, or an alert of TLS.
func expectCut(t *testing.T, c net.Conn, hello string, within time.Duration) {
	t.Helper()
	begun := time.Now()
	_ = c.SetDeadline(begun.Add(within))
	_, _ = io.WriteString(c, hello)
	got, err := io.ReadAll(c)
	if time.Since(begun) >= within {
		t.Errorf("it is open after %s: %v", within, err)
	}
	if len(got) > 7 && !strings.HasPrefix(string(got), "HTTP/1.0 400 ") {
		t.Errorf("%q", got)
	}
}

// sockets opens WebSockets until there are too many, and leaves them alone.
func (d *door) sockets(t *testing.T) {
	shake := "GET /ws HTTP/1.1\r\nHost: socket.test\r\nUser-Agent: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	for i, want := range []int{101, 101, 429} {
		c := d.enter(t, "127.2.9.1", "socket.test", shake)
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != want {
			t.Fatalf("%d: %v %v", i, res, err)
		}
		if want == 101 {
			defer func() {
				begun := time.Now()
				if _, err := io.Copy(io.Discard, r); err != nil || time.Since(begun) > 5*time.Second {
					t.Errorf("an idle WebSocket ends with %v after %s", err, time.Since(begun))
				}
			}()
		}
	}
}

// bomb sends a megabyte that would be a gigabyte.
func (d *door) bomb(t *testing.T, heads ...string) {
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	zeros := bytes.Repeat([]byte("a"), 1<<20)
	for range 300 {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	before := d.resident(t)
	for i, head := range heads {
		host := []string{"block.test", "off.test"}[i]
		text := fmt.Sprintf("%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", head, packed.Len(), packed.String())
		begun := time.Now()
		res, e := d.ask(t, "127.2.10.1", host, text)
		if res == nil || res.StatusCode != 413 || e.Edge.Reason != blocklog.ReasonBodyTooLarge || time.Since(begun) > 5*time.Second {
			t.Errorf("%v %+v after %s", res, e.Edge, time.Since(begun))
		}
	}
	if grown := d.resident(t) - before; grown > 64<<20 {
		t.Errorf("grown by %d MB", grown>>20)
	}
}

// many sends ten thousand of what there may be some of, with names that differ.
func (d *door) many(t *testing.T) {
	number := func(format, join string) string {
		all := make([]string, 10_000)
		for i := range all {
			all[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(all, join)
	}
	post := func(kind, body string) string {
		return fmt.Sprintf("POST /many HTTP/1.1\r\nHost: block.test\r\nUser-Agent: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(body), body)
	}
	for name, text := range map[string]string{
		"headers":    "GET /many HTTP/1.1\r\nHost: block.test\r\n" + number("X-%d: y", "\r\n") + "\r\n\r\n",
		"cookies":    "GET /many HTTP/1.1\r\nHost: block.test\r\nCookie: " + number("%d=y", "; ") + "\r\n\r\n",
		"query":      "GET /many?" + number("%d=", "&") + " HTTP/1.1\r\nHost: block.test\r\n\r\n",
		"form":       post("application/x-www-form-urlencoded", number("a%d=b", "&")),
		"json":       post("application/json", "{"+number(`"a%d":{"b":[1]}`, ",")+"}"),
		"attributes": post("application/xml", "<a "+number(`b%d="c"`, " ")+" b1=\"d\"/>"),
		"parts":      post("multipart/form-data; boundary=x", number("--x\r\nContent-Disposition: form-data; name=\"a%d\"\r\n\r\nb", "\r\n")+"\r\n--x--\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			res, e := d.ask(t, "127.2.11.1", "block.test", text)
			if res == nil || res.StatusCode/100 != 4 || e.Edge.Reason == "" || time.Since(begun) > 3*time.Second {
				t.Errorf("%v %+v after %s", res, e.Edge, time.Since(begun))
			}
		})
	}
}

// flood has much more recorded than may be kept.
func (d *door) flood(t *testing.T) {
	one := "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 1000) + ".test\r\nUser-Agent: x\r\n\r\n"
	for i := range 10 {
		c := d.enter(t, fmt.Sprintf("127.2.12.%d", i+1), "off.test", strings.Repeat(one, 250))
		r := bufio.NewReader(c)
		for range 250 {
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != 421 {
				t.Fatal(res, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
		}
	}
	var kept int64
	for _, name := range []string{blocklog.BlockFile, blocklog.AccessFile} {
		var size int64
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if size = 0; sizeOf(d, name, &size) <= 4<<20 {
				break // what is too old is deleted beside the requests
			}
		}
		kept += size
	}
	if kept > 8<<20 {
		t.Errorf("%d bytes are kept", kept)
	}
}

func sizeOf(d *door, name string, size *int64) int64 {
	files, _ := blocklog.Files(filepath.Dir(d.block.path), name)
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			*size += info.Size()
		}
	}
	return *size
}

// hasty is an application that answers when it has seen the head, and closes.
func hasty(t *testing.T) net.Listener {
	return serve(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for line, err := r.ReadString('\n'); err == nil && line != "\r\n"; {
			line, err = r.ReadString('\n')
		}
		_, _ = io.WriteString(c, "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.CopyN(io.Discard, r, 1<<20)
	})
}

// switching is an application that agrees to every WebSocket and says nothing in it.
func switching(t *testing.T) net.Listener {
	return serve(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}
	})
}

// silent is an application that never answers. left waits until a request for a path has
// come or, if gone, until it has been given up, and says when that was.
func silent(t *testing.T) (l net.Listener, left func(t *testing.T, path string, within time.Duration, gone bool) time.Time) {
	events := make(chan string, 1000)
	l = serve(t, func(c net.Conn) {
		line, _ := bufio.NewReader(c).ReadString('\n')
		_, path, _ := strings.Cut(line, " ")
		path, _, _ = strings.Cut(path, " ")
		events <- path
		_, _ = io.Copy(io.Discard, c)
		events <- path + " gone"
	})
	return l, func(t *testing.T, path string, within time.Duration, gone bool) time.Time {
		t.Helper()
		if gone {
			path += " gone"
		}
		for timeout := time.After(within); ; {
			select {
			case e := <-events:
				if e == path {
					return time.Now()
				}
			case <-timeout:
				t.Fatalf("no %s", path)
			}
		}
	}
}

func serve(t *testing.T, one func(net.Conn)) net.Listener {
	t.Helper()
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
			go func() {
				defer c.Close()
				one(c)
			}()
		}
	}()
	return l
}
