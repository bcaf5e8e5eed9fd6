package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"edge/blocklog"
	"edge/rules"
)

// bodyTimeout is how long a client may take to send a body that is held.
const bodyTimeout = 30 * time.Second

// readBody holds the body so that the WAF can judge all of it before the
// application sees any, and gives it to the application with a length. In detect
// mode it flows, and only a copy is kept.
func (s *Server) readBody(x *exchange) (pass blocklog.Decision) {
	if x.app.waf == nil || x.r.Body == nil || x.r.Body == http.NoBody {
		return pass
	}
	if x.app.mode == rules.Detect {
		x.tee = &tee{ReadCloser: x.r.Body, limit: int(x.app.maxBody), want: x.r.ContentLength}
		x.r.Body = x.tee
		return pass
	}
	limit := int64(x.app.maxBody)
	tooLarge := blocklog.Decision{
		Action: blocklog.Deny, Reason: blocklog.ReasonBodyTooLarge, Status: http.StatusRequestEntityTooLarge,
		Detail: fmt.Sprintf("the body is larger than %s", x.app.maxBody),
	}
	if x.r.ContentLength > limit {
		return tooLarge
	}
	control := http.NewResponseController(x.w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // every server we use supports it; without, the idle limits hold
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, limit))
	_ = control.SetReadDeadline(time.Time{})
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return blocklog.Decision{
			Action: blocklog.Deny, Reason: blocklog.ReasonBodyTimeout, Status: http.StatusRequestTimeout,
			Detail: fmt.Sprintf("the body was not complete after %s", bodyTimeout),
		}
	case err != nil:
		return blocklog.Decision{
			Action: blocklog.Deny, Reason: blocklog.ReasonBodyIncomplete, Status: http.StatusBadRequest,
			Detail: fmt.Sprintf("the body ended or broke after %d bytes", len(body)),
		}
	}
	x.body = body
	x.r.Body = io.NopCloser(bytes.NewReader(body))
	x.r.ContentLength, x.r.TransferEncoding, x.r.Trailer = int64(len(body)), nil, nil
	return pass
}

// tee keeps a copy of a body that flows by, up to a limit. The transport may
// still be reading while the answer comes back, hence the lock.
type tee struct {
	io.ReadCloser
	limit   int
	partial bool  // whether the beginning is of use where the whole is more than the limit
	want    int64 // the announced length, -1 for none

	mu   sync.Mutex
	seen []byte
	over bool
	end  bool
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := min(n, t.limit-len(t.seen))
	if t.over = t.over || kept < n; !t.over || t.partial {
		t.seen = append(t.seen, p[:kept]...)
	} else {
		t.seen = nil
	}
	t.end = t.end || err != nil
	return n, err
}

// complete reports whether all of the body has come by.
func (t *tee) complete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end || t.over || int64(len(t.seen)) == t.want
}

// take returns what has come by, or that it was more than the limit. Nothing is
// copied from then on.
func (t *tee) take() (seen []byte, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen, over = t.seen, t.over
	t.seen, t.over, t.partial = nil, true, false
	return seen, over
}
