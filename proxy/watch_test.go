package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"edge/blocklog"
	"edge/rules"
)

// endless answers with 200 MB, and says when it is let go.
func endless(released chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		piece := bytes.Repeat([]byte("data: 0123456789\n\n"), 1<<10)
		var err error
		for range (200 << 20) / len(piece) {
			if _, err = w.Write(piece); err != nil {
				break
			}
		}
		released <- err
	}
}

func (e *edge) expectSlow(released <-chan error) {
	e.t.Helper()
	select {
	case err := <-released:
		if err == nil {
			e.t.Error("the application got rid of all of it")
		}
	case <-time.After(20 * time.Second):
		e.t.Fatal("the application was not let go")
	}
	var found []blocklog.Event
	for deadline := time.Now().Add(10 * time.Second); len(found) == 0 && time.Now().Before(deadline); {
		found = e.events("")
	}
	if len(found) != 1 || found[0].Edge.Reason != blocklog.ReasonClientSlow || found[0].Edge.Action != blocklog.Deny || found[0].HTTP.Response.Status != 200 {
		e.t.Errorf("%+v", found)
	}
}

// A client that never reads what it asked for does not keep the application busy.
func TestClientReadsNothing(t *testing.T) {
	for _, path := range []string{"/", "/stream"} {
		for _, mode := range []rules.Mode{rules.Block, rules.Detect} {
			t.Run(strings.Trim(path, "/")+string(mode), func(t *testing.T) {
				released := make(chan error, 1)
				e := start(t, endless(released), mode)
				e.stall = 200 * time.Millisecond
				c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: hr.test\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n", path)
				e.expectSlow(released)
				answer, err := io.ReadAll(c)
				if strings.HasSuffix(string(answer), "0\r\n\r\n") {
					t.Errorf("the answer looks whole: %d bytes, %v", len(answer), err)
				}
			})
		}
	}
}

// pace is between two reads of a slow client.
const pace = 10 * time.Millisecond

// One that takes its time, but gets on, is served to the end.
func TestClientReadsSlowly(t *testing.T) {
	const size = 6 << 20
	e := start(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }, rules.Block)
	e.stall = 500 * time.Millisecond
	backlog := func(_, _ string, c syscall.RawConn) error { // as the room listen does
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, 25, 128<<10) })
	}
	conf := &net.ListenConfig{Control: backlog}
	conf.SetMultipathTCP(false) // whose sockets do not hand the option down
	l, err := conf.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: e}
	go func() { _ = front.Serve(l) }() // ends with Close
	t.Cleanup(func() { front.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10) // or the kernel would read ahead for it
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: hr.test\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var failed error
	got, begun := 0, time.Now()
	for buf := make([]byte, 32<<10); ; <-tick.C {
		n, err := io.ReadFull(res.Body, buf)
		if got += n; err != nil {
			failed = err
			break
		}
	}
	if took := time.Since(begun); got != size || took < 2*e.stall {
		t.Errorf("%d bytes in %s, %v, %+v", got, took, failed, e.events(""))
	}
}

// A connection is as good as before after an answer that was taken in time.
func TestDeadlineDoesNotOutliveAnswer(t *testing.T) {
	e := start(t, ok, rules.Block)
	e.stall = 50 * time.Millisecond
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, target := range []string{"/", "/?q=<script>", "/", "/"} {
		res := e.do("GET", target, nil)
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Error(err)
		}
		<-tick.C
	}
}

// h2client speaks HTTP/2 to the edge frame by frame.
type h2client struct {
	t testing.TB
	*http2.Framer
}

// dialH2 connects, announces the window a stream has at first, and asks for path.
func dialH2(t testing.TB, e *edge, window uint32, path string) h2client {
	t.Helper()
	front := httptest.NewUnstartedServer(e)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	c, err := tls.Dial("tcp", front.Listener.Addr().String(), &tls.Config{NextProtos: []string{"h2"}, InsecureSkipVerify: true, ServerName: "hr.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.WriteString(c, http2.ClientPreface)
	f := h2client{t, http2.NewFramer(c, c)}
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, kv := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "hr.test"}, {":path", path}, {"user-agent", "x"}, {"accept", "*/*"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]}) // into memory
	}
	for _, err := range []error{
		err, f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}), f.WriteSettingsAck(),
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// untilReset reads on until the stream is reset.
func (f h2client) untilReset() (data int) {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			f.t.Fatalf("no reset after %d bytes: %v", data, err)
		}
		switch frame := frame.(type) {
		case *http2.DataFrame:
			if data += len(frame.Data()); frame.StreamEnded() {
				f.t.Fatal("the answer looks whole")
			}
		case *http2.RSTStreamFrame:
			return data
		}
	}
}

// The same over HTTP/2: a client that opens no window, or never opens it again.
func TestWindowStaysShut(t *testing.T) {
	for _, window := range []uint32{0, 65535} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			released := make(chan error, 1)
			e := start(t, endless(released), rules.Block)
			e.stall = 200 * time.Millisecond
			f := dialH2(t, e, window, "/")
			if data := f.untilReset(); data > int(window) {
				t.Errorf("%d bytes", data)
			}
			e.expectSlow(released)
		})
	}
}

// Nor do pages of the edge wait for ever.
func TestRefusalDoesNotWait(t *testing.T) {
	e := start(t, ok, rules.Block)
	e.stall = 200 * time.Millisecond
	dialH2(t, e, 0, "/?q=<script>").untilReset()
	dialH2(t, e, 0, "/").untilReset()
}
