package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"edge/blocklog"
	"edge/config"
	"edge/form"
	"edge/rules"
)

const (
	// bodyTimeout is how long a client may take to send a body that is held, and a second
	// more for each bodyPace bytes that it may have.
	bodyTimeout = 30 * time.Second
	bodyPace    = 32 << 10
	// minRate is how many bytes a second must come of any body, on average, after
	// bodyGrace.
	minRate   = 500
	bodyGrace = 10 * time.Second
	// paceStep is how often those limits are set anew.
	paceStep = time.Second
	// bodyPause is how long it may pause in one that flows.
	bodyPause = 30 * time.Second
	// spoolPause is when to try again after there was no room for a body.
	spoolPause = 5 * time.Second
	// maxParts is how many parts a multipart body may have.
	maxParts = 200
)

// readBody holds the body so that the WAF can judge all of it before the
// application sees any, and gives it to the application with a length. In detect
// mode it flows, and only a copy is kept; where the WAF is off it just flows; and of
// an upload the WAF judges the beginning. However it goes, it is decoded and
// held against its type on the way.
func (s *Server) readBody(x *exchange) (pass blocklog.Decision) {
	if !x.unread {
		return pass
	}
	x.upload = &paced{ReadCloser: x.r.Body, control: http.NewResponseController(x.w)}
	x.r.Body = x.upload
	if x.coding != "" {
		x.r.Body = decoded{form.Decoded(x.coding, x.upload), x.upload}
		x.r.ContentLength = -1
		for _, name := range []string{"Content-Digest", "Repr-Digest", "Digest", "Content-Md5"} {
			x.r.Header.Del(name) // of what it was
		}
	}
	x.r.Header.Del("Content-Encoding") // it says nothing now
	up := x.uploads()
	x.sampled = up != nil
	switch {
	case x.app.waf != nil && x.app.mode == rules.Block && up == nil:
		return s.holdBody(x, int64(x.app.maxBody))
	case x.app.waf != nil && x.app.mode == rules.Block:
		return s.sample(x, up)
	case x.app.waf == nil && x.checksBody() && 0 < x.r.ContentLength && x.r.ContentLength <= lightBody:
		return s.holdBody(x, lightBody) // which costs less than to look at it on the way
	}
	x.flow(x.r.Body)
	if x.app.waf != nil {
		x.tee = &tee{ReadCloser: x.r.Body, limit: int(x.app.maxBody), want: x.r.ContentLength}
		if up != nil {
			x.tee.limit, x.tee.partial = int(up.Body.Inspect), true
		}
		x.r.Body = x.tee
	}
	return pass
}

// decoded is a body without its coding.
type decoded struct {
	io.Reader
	io.Closer
}

// flow lets body go to the application, held against its type.
func (x *exchange) flow(body io.ReadCloser) {
	if x.r.Body = body; x.checksBody() {
		x.r.Body = checking(body, x.kind, x.bodyLimits())
	}
}

// bodyLimits is what a body may hold. The names of files are looked at on the way.
func (x *exchange) bodyLimits() form.Limits {
	return form.Limits{Charsets: x.app.http.Charsets, Part: x.noteName}
}

// noteName takes down where the name of a file holds what applications have cut
// names at, and where a part says that it is encoded.
func (x *exchange) noteName(p form.Part) {
	if strings.ContainsAny(p.Filename, ";=") {
		x.oddNames.Store(true)
	}
	if p.Encoding != "" && p.Encoding != "binary" {
		x.oddCoding.Store(true)
	}
}

// checksBody says that the body is held against its type, if it has one: one that has
// none is here only where the app is relaxed about types.
func (x *exchange) checksBody() bool {
	return x.kind.Kind != form.Other && x.kind.Kind != form.None && x.app.http.Bodies != config.Relaxed
}

// holdBody holds the body, of up to limit bytes, and gives it to the application with
// a length.
func (s *Server) holdBody(x *exchange, limit int64) (pass blocklog.Decision) {
	if d := s.hold(x, limit); d.Action != blocklog.Pass {
		return d
	}
	if d := x.checkHeld(); d.Action != blocklog.Pass {
		return d
	}
	x.r.Body = io.NopCloser(x.body.reader())
	x.r.ContentLength, x.r.TransferEncoding = x.body.size(), nil
	return pass
}

// checkHeld refuses a body that is not what its type says, or that the engine could
// only look into at a price.
func (x *exchange) checkHeld() (pass blocklog.Decision) {
	if x.body.size() == 0 { // which is what many clients send for no body at all
		return pass
	}
	if x.checksBody() {
		return bodyFault(form.Body(x.kind, x.body.reader(), x.bodyLimits()))
	}
	if x.kind.Kind != form.Multipart {
		return pass
	}
	n, err := x.body.count([]byte("--" + x.kind.Boundary))
	if n--; err != nil || n > maxParts {
		return deny(blocklog.ReasonBodyParts, http.StatusBadRequest, "the body has %d parts, more than %d", n, maxParts)
	}
	return pass
}

// bodyFault is the refusal for what form found wrong with a body, or for not having
// been able to read it.
func bodyFault(err error) (d blocklog.Decision) {
	if err != nil && !asRefusal(err, &d) {
		return deny(blocklog.ReasonBodyIncomplete, http.StatusBadRequest, "the body could not be read")
	}
	return d
}

// asRefusal says that err, of reading a body, is a refusal by those who read it
// before us, and sets d to it.
func asRefusal(err error, d *blocklog.Decision) bool {
	var wire interface{ Refusal() blocklog.Decision }
	var f *form.Fault
	switch {
	case errors.As(err, &wire):
		*d = wire.Refusal()
	case errors.As(err, &f):
		*d = faulty(f)
	default:
		return false
	}
	d.Stage = blocklog.StageBody
	return true
}

// timeFor is how long a client may take to send up to limit bytes that are held.
func timeFor(limit int64) time.Duration {
	return bodyTimeout + time.Duration(limit/bodyPace)*time.Second
}

// hold reads the whole body, of up to limit bytes, in the time that takes.
func (s *Server) hold(x *exchange, limit int64) (pass blocklog.Decision) {
	if x.r.ContentLength > limit {
		return tooLarge(limit)
	}
	x.upload.within(timeFor(limit))
	body, n, err := s.spool.hold(http.MaxBytesReader(x.w, x.r.Body, limit))
	if err == nil {
		x.unread, x.body = false, body
		return pass
	}
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge(limit)
	case errors.Is(err, errSpoolFull):
		return x.noRoom(err)
	}
	return x.brokenBody(err, n)
}

// noRoom is the answer where a body could not be held because of all the others.
func (x *exchange) noRoom(err error) blocklog.Decision {
	x.blame(err)
	d := deny(blocklog.ReasonSpoolFull, http.StatusServiceUnavailable, "there was no room to hold the body")
	d.Action, d.RetryAfter = blocklog.Fail, spoolPause
	return d
}

// brokenBody is the refusal for a body that could not be read to its end, after n bytes.
func (x *exchange) brokenBody(err error, n int64) (d blocklog.Decision) {
	switch {
	case asRefusal(err, &d):
		return d
	case errors.Is(err, os.ErrDeadlineExceeded) && x.upload.slow():
		return deny(blocklog.ReasonBodySlow, http.StatusRequestTimeout, "the body came at less than %d bytes a second", minRate)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return deny(blocklog.ReasonBodyTimeout, http.StatusRequestTimeout, "the body took too long")
	}
	return deny(blocklog.ReasonBodyIncomplete, http.StatusBadRequest, "the body ended or broke after %d bytes", n)
}

// leaveBody sees to it that an answer with the header h does not wait for a body
// that nobody will read: net/http would take some more of it first, to be polite.
func (x *exchange) leaveBody(h http.Header) {
	if x.r.ProtoMajor == 1 && x.unread && !x.upload.ended() {
		h.Set("Connection", "close")
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(time.Second)) // every server we use supports it
	}
}

// paced is a body as it comes. Its client may take its time, but not for ever, and
// what went wrong with it is remembered. The transport may still be reading it when
// the request is over, and deadlines are not to be set any more: hence the lock.
type paced struct {
	io.ReadCloser
	control *http.ResponseController

	mu                   sync.Mutex
	until                time.Time // when it must be complete; zero for never
	begun, set, deadline time.Time
	got                  int64
	err                  error
	over                 bool // the request is
}

// stop ends the setting of deadlines. It comes before the handler returns, after
// which there is nothing to set them on.
func (p *paced) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// within sets how much time there is for what is read from now on, 0 for any.
func (p *paced) within(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until, p.set = time.Time{}, time.Time{}
	if d > 0 {
		p.until = time.Now().Add(d)
	}
}

func (p *paced) Read(b []byte) (int, error) {
	p.pace(time.Now())
	n, err := p.ReadCloser.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got += int64(n)
	if err != nil {
		p.err = err
		p.expire(time.Time{})
	}
	return n, err
}

// expire sets the deadline for reading, while there is somebody to read from.
func (p *paced) expire(t time.Time) {
	if !p.over {
		_ = p.control.SetReadDeadline(t) // every server we use supports it
	}
}

// received is how many bytes have come.
func (p *paced) received() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got
}

// pace sets the time at which, if nothing came until then, the client would have been
// too slow or paused for too long. A little too early is early enough to set it anew.
func (p *paced) pace(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun.IsZero() {
		p.begun = now
	}
	if now.Sub(p.set) < paceStep {
		return
	}
	p.set, p.deadline = now, now.Add(bodyPause)
	for _, t := range []time.Time{p.until, p.tooSlow()} {
		if !t.IsZero() && t.Before(p.deadline) {
			p.deadline = t
		}
	}
	p.expire(p.deadline)
}

// tooSlow is when the client has sent too little, should no more come.
func (p *paced) tooSlow() time.Time {
	return p.begun.Add(bodyGrace + time.Duration(p.got/minRate)*time.Second)
}

// slow says that the deadline that has passed was about the rate. It may have been set
// before the last bytes came.
func (p *paced) slow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.deadline.Add(paceStep).Before(p.tooSlow())
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

// ended reports whether the body has come to its end. One that broke off has not: its
// client may go on sending it, as slowly as before.
func (p *paced) ended() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Is(p.err, io.EOF) || errors.Is(p.err, http.ErrBodyReadAfterClose)
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
