package proxy

import (
	"io"
	"net/http"
	"sync"
	"time"

	"edge/blocklog"
)

// writeStall is how long a client may take none of an answer that waits for it. It
// is told by what the reverse proxy writes at once, up to 32 KiB, less for clients
// that turn out to be slow.
const writeStall = 30 * time.Second

// slowPiece is how much a slow client is given at once, so that it is seen to get on.
const slowPiece = 8 << 10

// watch is the body of an answer on its way from the application to the client.
// The reverse proxy reads a piece and writes it, in turn; one timer sees to it
// that neither takes for ever. When it fires the application is let go.
type watch struct {
	io.ReadCloser
	idle    time.Duration // for the application, 0 for ever
	stall   time.Duration // for the client, 0 for ever
	control *http.ResponseController

	mu       sync.Mutex
	timer    *time.Timer
	phase    phase
	since    time.Time
	toClient bool   // what is read from now on is written to the client
	held     []byte // read before, and to be read again
	slow     bool   // the client took its time over the last piece
	late     phase  // who was waited for when time was up
	err      error  // that ended the answer
}

// phase is who is waited for.
type phase uint8

const (
	nobody phase = iota
	application
	recipient
	over
)

// newWatch returns the watch over an answer's body.
func newWatch(body io.ReadCloser, idle, stall time.Duration, w http.ResponseWriter) *watch {
	return &watch{ReadCloser: body, idle: idle, stall: stall, control: http.NewResponseController(w)}
}

func (w *watch) Read(p []byte) (n int, err error) {
	if w.slow {
		p = p[:min(len(p), slowPiece)]
	}
	if len(w.held) > 0 {
		n = copy(p, w.held)
		w.held = w.held[n:]
	} else {
		w.await(application)
		n, err = w.ReadCloser.Read(p)
	}
	if w.await(recipient); err != nil {
		w.end(err)
	}
	return n, err
}

// giveTo lets the client have the answer, held first: what has been read of it
// before. Until then nobody waits for the client.
func (w *watch) giveTo(held []byte) { w.held, w.toClient = held, true }

// await begins a phase, and with it the time for it.
func (w *watch) await(p phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == over {
		return
	}
	limit, now := w.idle, time.Now()
	if p == recipient {
		limit = w.stall
		if !w.toClient {
			limit = 0
		}
	}
	w.slow = w.phase == recipient && w.toClient && now.Sub(w.since) > w.stall/20 || w.slow
	w.phase, w.since = p, now
	switch {
	case w.timer == nil && limit > 0:
		w.timer = time.AfterFunc(limit, w.expire)
	case limit > 0:
		w.timer.Reset(limit)
	case w.timer != nil:
		w.timer.Stop()
	}
}

// expire gives up whoever is waited for. It does nothing where a phase has begun
// since the timer fired.
func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit := w.idle
	if w.phase == recipient {
		limit = w.stall
	}
	if w.phase == over || time.Since(w.since) < limit {
		return
	}
	if w.late = w.phase; w.late == recipient {
		_ = w.control.SetWriteDeadline(time.Unix(1, 0)) // every server we use supports it
	}
	w.phase = over
	_ = w.ReadCloser.Close() // which ends a read, and the application's work
}

// end takes down how the answer ended. What is still to be written then is in
// buffers, and has its time as well.
func (w *watch) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	if w.toClient && w.stall > 0 && w.phase != over {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.stall)) // every server we use supports it
	}
}

// Close lets the application go.
func (w *watch) Close() error {
	w.stop()
	return w.ReadCloser.Close()
}

// stop ends the watch. The client's connection is not touched from then on.
func (w *watch) stop() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase = over; w.timer != nil {
		w.timer.Stop()
	}
}

// gaveUp returns who was waited for too long, or nobody, and the error that ended
// the answer.
func (w *watch) gaveUp() (phase, error) {
	if w == nil {
		return nobody, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.late, w.err
}

// clientSlow says that a client stopped taking an answer.
func (s *Server) clientSlow(status int) blocklog.Decision {
	return blocklog.Decision{
		Action: blocklog.Deny, Stage: blocklog.StageHTTP, Reason: blocklog.ReasonClientSlow, Status: status,
		Detail: "the client took nothing of the answer for " + s.stall.String(),
	}
}
