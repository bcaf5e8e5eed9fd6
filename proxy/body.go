package proxy

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"edge/blocklog"
	"edge/rules"
)

const (
	// bodyTimeout is how long a client may take to send a body that is held.
	bodyTimeout = 30 * time.Second
	// bodyPause is how long it may pause in one that flows.
	bodyPause = 30 * time.Second
	// spoolPause is when to try again after there was no room for a body.
	spoolPause = 5 * time.Second
	// maxParts is how many parts a multipart body may have.
	maxParts = 200
)

// readBody holds the body so that the WAF can judge all of it before the
// application sees any, and gives it to the application with a length. In detect
// mode it flows, and only a copy is kept; where the WAF is off it just flows.
func (s *Server) readBody(x *exchange) (pass blocklog.Decision) {
	if !x.unread {
		return pass
	}
	if x.app.waf == nil || x.app.mode == rules.Detect {
		x.upload = &paced{ReadCloser: x.r.Body, control: http.NewResponseController(x.w)}
		x.r.Body = x.upload
		if x.app.waf != nil {
			x.tee = &tee{ReadCloser: x.upload, limit: int(x.app.maxBody), want: x.r.ContentLength}
			x.r.Body = x.tee
		}
		return pass
	}
	if d := s.hold(x); d.Action != blocklog.Pass {
		return d
	}
	if d := checkBody(x.r.Header, x.body); d.Action != blocklog.Pass {
		return d
	}
	x.r.Body = io.NopCloser(x.body.reader())
	x.r.ContentLength, x.r.TransferEncoding = x.body.size(), nil
	return pass
}

// asRefusal says that err, of reading a body, is a refusal by those who read it
// before us, and sets d to it.
func asRefusal(err error, d *blocklog.Decision) bool {
	var r interface{ Refusal() blocklog.Decision }
	if !errors.As(err, &r) {
		return false
	}
	*d = r.Refusal()
	return true
}

// hold reads the whole body, within bodyTimeout and up to the app's limit.
func (s *Server) hold(x *exchange) (d blocklog.Decision) {
	refuse := func(reason blocklog.Reason, status int, format string, args ...any) blocklog.Decision {
		return blocklog.Decision{Action: blocklog.Deny, Reason: reason, Status: status, Detail: fmt.Sprintf(format, args...)}
	}
	limit := int64(x.app.maxBody)
	tooLarge := refuse(blocklog.ReasonBodyTooLarge, http.StatusRequestEntityTooLarge, "the body is larger than %s", x.app.maxBody)
	if x.r.ContentLength > limit {
		return tooLarge
	}
	control := http.NewResponseController(x.w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // every server we use supports it
	body, n, err := s.spool.hold(http.MaxBytesReader(x.w, x.r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge
	case errors.Is(err, errSpoolFull):
		x.blame(err)
		d := refuse(blocklog.ReasonSpoolFull, http.StatusServiceUnavailable, "there was no room to hold the body")
		d.Action, d.RetryAfter = blocklog.Fail, spoolPause
		return d
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(blocklog.ReasonBodyTimeout, http.StatusRequestTimeout, "the body was not complete after %s", bodyTimeout)
	case asRefusal(err, &d):
		return d
	case err != nil:
		return refuse(blocklog.ReasonBodyIncomplete, http.StatusBadRequest, "the body ended or broke after %d bytes", n)
	}
	_ = control.SetReadDeadline(time.Time{})
	x.unread, x.body = false, body
	return d
}

// leaveBody sees to it that an answer with the header h does not wait for a body
// that nobody will read: net/http would take some more of it first, to be polite.
func (x *exchange) leaveBody(h http.Header) {
	if x.r.ProtoMajor == 1 && x.unread && !x.upload.over() {
		h.Set("Connection", "close")
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(time.Second)) // every server we use supports it
	}
}

// checkBody refuses what the engine could not look into, or only at a price.
func checkBody(h http.Header, body *held) (pass blocklog.Decision) {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return blocklog.Decision{
			Action: blocklog.Deny, Reason: blocklog.ReasonBodyEncoding, Status: http.StatusUnsupportedMediaType,
			Detail: fmt.Sprintf("the body is encoded as %q, and so cannot be inspected", coding),
		}
	}
	h.Del("Content-Encoding") // it says nothing now
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		return pass
	}
	n, err := body.count([]byte("--" + params["boundary"]))
	if n--; err != nil || n > maxParts {
		return blocklog.Decision{
			Action: blocklog.Deny, Reason: blocklog.ReasonBodyParts, Status: http.StatusBadRequest,
			Detail: fmt.Sprintf("the body has %d parts, more than %d", n, maxParts),
		}
	}
	return pass
}

// paced is a body that flows. Its client may take its time, but not pause for
// ever, and what went wrong with it is remembered.
type paced struct {
	io.ReadCloser
	control *http.ResponseController

	mu  sync.Mutex
	err error
}

func (p *paced) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(bodyPause)) // every server we use supports it
	n, err := p.ReadCloser.Read(b)
	if err != nil {
		_ = p.control.SetReadDeadline(time.Time{})
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
	}
	return n, err
}

// broke returns the error that ended the body before its end, or nil.
func (p *paced) broke() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(p.err, io.EOF) || errors.Is(p.err, http.ErrBodyReadAfterClose) {
		return nil
	}
	return p.err
}

// over reports whether the body has come to its end, one way or the other.
func (p *paced) over() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil
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
	t.end = t.end || errors.Is(err, io.EOF)
	return n, err
}

// complete reports whether all of the body has come by, or too much of it.
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
