package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An answer that a client does not take has its stream reset, and lets go of the
// application; one whose application takes its time does not.
func TestAnswerThatIsNotTaken(t *testing.T) {
	ended := make(chan error, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := drain(io.NopCloser(io.MultiReader(strings.NewReader("first"), slow(200*time.Millisecond), bytes.NewReader(make([]byte, 1<<20)))), w, 100*time.Millisecond)
		defer body.Close()
		_, err := io.Copy(w, body)
		ended <- err
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	res, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != 1<<20+5 || err != nil || <-ended != nil {
		t.Errorf("one that is taken: %d bytes, %v", n, err)
	}

	conf := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.NextProtos = []string{"h2"}
	c, err := tls.Dial("tcp", srv.Listener.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "example.com"}, {Name: ":path", Value: "/"}} {
		_ = enc.WriteField(f)
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true})
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			break
		}
	}
	if err := <-ended; err == nil {
		t.Error("the application's answer was taken as a whole")
	}
}

// slow is a reader that has nothing to say, after a while.
type slow time.Duration

func (s slow) Read([]byte) (int, error) {
	<-time.After(time.Duration(s))
	return 0, io.EOF
}

func TestHTTP2Form(t *testing.T) {
	good := func() *http.Request {
		return &http.Request{ProtoMajor: 2, Method: "POST", RequestURI: "/a", Host: "hr.test", ContentLength: 7, Header: http.Header{"Content-Length": {"7"}}}
	}
	for name, change := range map[string]func(*http.Request){
		"blank_in_method": func(r *http.Request) { r.Method = "GET /" },
		"relative":        func(r *http.Request) { r.RequestURI = "a" },
		"absolute":        func(r *http.Request) { r.RequestURI = "https://other.test/" },
		"star":            func(r *http.Request) { r.RequestURI = "*" },
		"blank":           func(r *http.Request) { r.RequestURI = "/a HTTP/1.1" },
		"other_host":      func(r *http.Request) { r.Header["Host"] = []string{"other.test"} },
		"hosts":           func(r *http.Request) { r.Header["Host"] = []string{"hr.test", "hr.test"} },
		"length":          func(r *http.Request) { r.ContentLength = 0 },
		"lengths":         func(r *http.Request) { r.Header["Content-Length"] = []string{"7", "7"} },
	} {
		r := good()
		change(r)
		if http2Form(r) == "" {
			t.Errorf("%s passes", name)
		}
		if r.ProtoMajor = 1; http2Form(r) != "" {
			t.Errorf("%s: HTTP/1 has rules of its own", name)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"good":      func(*http.Request) {},
		"star":      func(r *http.Request) { r.Method, r.RequestURI = "OPTIONS", "*" },
		"same_host": func(r *http.Request) { r.Header["Host"] = []string{"HR.test"} },
		"no_length": func(r *http.Request) { r.Header, r.ContentLength = nil, -1 },
	} {
		r := good()
		if change(r); http2Form(r) != "" {
			t.Errorf("%s: %s", name, http2Form(r))
		}
	}
}
