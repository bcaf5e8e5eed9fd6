package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// maxLines is how many lines of header an HTTP/2 request may have. Those of its
// cookies, of which clients make many for the sake of compression, are one.
const maxLines = 100

// http2Form says what is wrong with the form of an HTTP/2 request, or "". Most
// that is malformed net/http has refused by then: headers of a connection, te,
// names and values that could be taken for lines, pseudo headers that are missing
// or there twice. This is the rest of RFC 9113 §8.2 and §8.3: what an application
// behind HTTP/1 could take for something else than the edge does.
func http2Form(r *http.Request) (detail string) {
	if r.ProtoMajor != 2 {
		return ""
	}
	hosts, lengths := r.Header["Host"], r.Header["Content-Length"]
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method): // both are tokens
		return fmt.Sprintf("%q is no method", r.Method)
	case r.Method == http.MethodConnect:
		return "" // it has no path; it is refused for what it is
	case !strings.HasPrefix(r.RequestURI, "/") && (r.RequestURI != "*" || r.Method != http.MethodOptions):
		return fmt.Sprintf(":path %q does not begin with a slash", r.RequestURI)
	case strings.ContainsFunc(r.RequestURI, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return fmt.Sprintf(":path %q has a blank in it", r.RequestURI)
	case len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host):
		return fmt.Sprintf("Host %q is not :authority %q", hosts, r.Host)
	case len(lengths) > 1 || len(lengths) == 1 && lengths[0] != strconv.FormatInt(r.ContentLength, 10):
		return fmt.Sprintf("Content-Length %q is none, or not that of the body", lengths)
	}
	return ""
}

// lines is how many lines of header a request has.
func lines(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

// stallTimeout is for how long an HTTP/2 client may take nothing of an answer. It
// opens the window that the answer goes through, and need not.
const stallTimeout = 60 * time.Second

// draining is an answer's body on its way to an HTTP/2 client, whose stream is
// reset when what was read last has not been taken in time. (The end of an answer,
// which is still on its way when the handler has returned, is timed by package listen.)
type draining struct {
	io.ReadCloser
	limit time.Duration
	timer *time.Timer

	mu     sync.Mutex
	closed bool
}

// drain returns body as one that must be taken from. It must be closed before the
// handler returns: w is of no use after that.
func drain(body io.ReadCloser, w http.ResponseWriter, limit time.Duration) *draining {
	d := &draining{ReadCloser: body, limit: limit}
	d.timer = time.AfterFunc(limit, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.closed {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)) // which every server we use supports, and resets the stream
		}
	})
	d.timer.Stop()
	return d
}

func (d *draining) Read(p []byte) (int, error) {
	d.timer.Stop() // until there is something to take
	n, err := d.ReadCloser.Read(p)
	if n > 0 {
		d.timer.Reset(d.limit)
	}
	return n, err
}

// Close implements io.Closer.
func (d *draining) Close() error {
	d.timer.Stop()
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	return d.ReadCloser.Close()
}
