// Package answer is the strict look at what applications answer over HTTP/1,
// between the socket and net/http, which is lax: it takes two lengths for one,
// joins folded lines, and keeps a connection on which more came than was asked
// for, so that the next client may get it.
//
// [Conn] hands net/http the bytes of one answer at a time, each looked at first
// and none changed. What is malformed is an error ([Malformed]), and ends the
// connection. What a request and an answer mean is left to others.
package answer

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// ErrStale is the error of a connection that was closed, or on which something
// came, before a request was sent on it. Nothing of the request has been sent.
var ErrStale = errors.New("the connection was not clean")

// Conn is a connection to an application. Its Read and Write are for one reader
// and one writer, as net/http has them.
type Conn struct {
	net.Conn
	raw     net.Conn     // what is under Conn: the socket itself
	reading atomic.Int32 // where the reader is

	mu     sync.Mutex
	turn   turn
	used   bool   // for a request before this one
	method string // of the request
	err    error  // for ever

	// What follows is the reader's while an answer is under way.
	at      place
	interim int
	began   bool // something of the answer has been handed out
	left    int64
	chunks  chunks
	head    []byte // the beginning of a head that comes in pieces
	scanned int    // how much of it has been looked at for its end
	ready   []byte // what has been looked at and is handed out next
}

// turn is whose turn it is.
type turn uint8

const (
	nobodys      turn = iota // there is no request
	requestBegun             // there is one, but none of it is sent
	requestSent              // at least its first bytes are
)

// place is where in an answer the reader is.
type place uint8

const (
	inHead place = iota
	inLength
	inChunks
	inRaw // to the end of the connection
)

// Where the reader is.
const (
	elsewhere int32 = iota
	waiting
	returned // from the socket, with something that was not looked at yet
)

// Guard returns c under watch. raw is the socket under it, or c itself.
func Guard(c, raw net.Conn) *Conn { return &Conn{Conn: c, raw: raw} }

// Begin says that the next that is written is a request of this method.
func (c *Conn) Begin(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn != nobodys {
		_ = c.spoil(malformed("the answer before has not ended"))
		return
	}
	c.turn, c.method = requestBegun, method
}

// Fault returns what the application did wrong, or nil.
func (c *Conn) Fault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// spoil ends the use of the connection.
func (c *Conn) spoil(err error) error {
	if c.err == nil {
		c.err = err
	}
	return c.err
}

// Write sends a part of a request. Before the first part it looks whether
// anything came on the connection that nobody asked for.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.send(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *Conn) send() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.turn != requestBegun {
		return nil
	}
	// A new TLS connection may have tickets waiting.
	if c.reading.Load() == returned || (c.used || c.raw == c.Conn) && pending(c.raw) {
		return c.spoil(ErrStale)
	}
	c.turn, c.used = requestSent, true
	c.at, c.interim, c.began = inHead, 0, false
	return nil
}

// CloseWrite ends what is sent on a connection that has become a tunnel.
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return http.ErrNotSupported
}

// Read hands out what came of the answer, to its end at most.
func (c *Conn) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.ready) == 0 {
		if n, err = c.receive(p); n > 0 || err != nil {
			return n, err
		}
	}
	n = copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// receive reads once, and looks at it. Without an error and without bytes there is
// something in ready, or it has to be called again.
func (c *Conn) receive(p []byte) (int, error) {
	if err := c.Fault(); err != nil {
		return 0, err
	}
	c.reading.Store(waiting)
	n, err := c.Conn.Read(p)
	c.reading.Store(returned)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.reading.Store(elsewhere)
	switch {
	case c.err != nil:
		return 0, c.err
	case n == 0 && len(c.head) > 0 && errors.Is(err, io.EOF):
		return c.give(p, 0, malformed("the connection ended within a head"))
	case n == 0:
		return 0, err
	case c.turn == nobodys:
		return 0, c.spoil(malformed("bytes behind the end of an answer"))
	case c.turn == requestBegun:
		return 0, c.spoil(ErrStale)
	case len(c.head) > 0:
		return c.takePieces(p, n)
	}
	passed, err := c.follow(p[:n])
	if err == nil && passed < n { // the beginning of a head
		c.head = append(c.head, p[passed:n]...)
	}
	return c.give(p, passed, err)
}

// takePieces is for a head that began in an earlier read. What has passed goes
// through ready, because there may be more of it than p holds.
func (c *Conn) takePieces(p []byte, n int) (int, error) {
	all := append(c.head, p[:n]...)
	passed, err := c.follow(all)
	c.head, c.ready = all[passed:], all[:passed]
	if passed > 0 {
		c.head = bytes.Clone(c.head)
	}
	if passed > 0 || err == nil {
		c.began = c.began || passed > 0
		return 0, c.note(err)
	}
	return c.give(p, 0, err)
}

// note keeps an error for the next time.
func (c *Conn) note(err error) error {
	if err != nil {
		_ = c.spoil(err)
	}
	return nil
}

// give hands out the first n bytes of p, or else the error.
//
// At an error in place of the first byte net/http would send a GET again, on every
// connection it has kept. One byte makes it an answer, if a bad one.
func (c *Conn) give(p []byte, n int, err error) (int, error) {
	_ = c.note(err)
	if n == 0 && err != nil && !c.began {
		n, p[0] = 1, 'H'
	}
	if c.began = c.began || n > 0; n > 0 {
		return n, nil
	}
	return 0, err
}

// follow walks through b and returns how much of it is of an answer. What is left
// without an error is the beginning of a head.
func (c *Conn) follow(b []byte) (n int, err error) {
	for n < len(b) {
		if c.turn == nobodys {
			return n, malformed("bytes behind the end of an answer")
		}
		step := len(b) - n
		switch c.at {
		case inHead:
			if step, err = c.parseHead(b[n:]); step == 0 {
				return n, err
			}
		case inLength:
			step = int(min(c.left, int64(step)))
			if c.left -= int64(step); c.left == 0 {
				c.turn = nobodys
			}
		case inChunks:
			if step, err = c.chunks.pass(b[n:]); c.chunks.step == atEnd {
				c.turn = nobodys
			}
		}
		if n += step; err != nil {
			return n, err
		}
	}
	return n, nil
}

// parseHead reads a head off b and returns its length, 0 if its end has not come.
func (c *Conn) parseHead(b []byte) (int, error) {
	n, err := headEnd(b, &c.scanned)
	if n == 0 || err != nil {
		return 0, err
	}
	c.scanned = 0
	h, err := ParseHead(b[:n])
	if err != nil {
		return 0, err
	}
	switch {
	case h.Status == http.StatusSwitchingProtocols:
		c.at = inRaw
	case h.Status < 200:
		if c.interim++; c.interim > MaxInterim {
			return 0, malformed("more than %d answers before the answer", MaxInterim)
		}
	case c.method == http.MethodHead || h.Status == http.StatusNoContent || h.Status == http.StatusNotModified || h.Length == 0:
		c.turn = nobodys
	case h.Chunked:
		c.at, c.chunks = inChunks, chunks{}
	case h.Length > 0:
		c.at, c.left = inLength, h.Length
	default:
		c.at = inRaw
	}
	return n, nil
}

// headEnd returns the length of the head at the beginning of b, 0 if its end has
// not come. Of what has come it finds at once what can become no head, so that
// nobody waits for the rest. scanned is up to where it has looked before.
func headEnd(b []byte, scanned *int) (int, error) {
	const start = "HTTP/1."
	if k := min(len(b), len(start)); string(b[:k]) != start[:k] {
		return 0, malformed("%q is no status line of HTTP/1", clip(b))
	}
	for i := *scanned; ; i++ {
		lf := bytes.IndexByte(b[i:min(len(b), MaxHead)], '\n')
		if lf < 0 {
			break
		}
		i += lf
		if *scanned = i + 1; b[i-1] != '\r' {
			return 0, malformed("a line of the head does not end in CRLF")
		}
		if b[i-2] == '\n' {
			return i + 1, nil
		}
	}
	if len(b) >= MaxHead {
		return 0, malformed("a head of more than %d bytes", MaxHead)
	}
	return 0, nil
}
