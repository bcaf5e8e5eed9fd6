package listen

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edge/blocklog"
)

// conn is an HTTP/1 connection after its handshake, read message by message. It
// hands net/http a head only when it has come as a whole and is beyond dispute, and
// of a body what is framed beyond dispute; a request that is not is handed
// on as a stand-in, for the handler to refuse (see [Refuser]).
//
// While nothing comes it holds no buffer: a connection is idle for most of its life.
type conn struct {
	*tls.Conn

	in, out []byte  // from the client, not yet looked at; and what net/http may have
	buf     *[]byte // holds both, nil while there is neither
	next    step
	left    int64 // of a body, or of a chunk
	ext     int   // bytes of chunk extensions so far
	heads   int   // handed out so far
	err     error // ends the reading

	refused atomic.Pointer[refused]
	state   *tls.ConnectionState // for its requests, after the first
	served  int                  // requests the handler has seen
	raw     atomic.Bool          // net/http has let go of it: a WebSocket

	mu     sync.Mutex
	asked  time.Time // the read deadline net/http wants
	limit  time.Time // when a head that has begun must be complete
	linger bool      // the client may still be sending what nobody reads
	closed bool      // and what time it has left is not for net/http to say
}

// step is what comes next on a connection.
type step int

const (
	stepHead step = iota
	stepBody
	stepChunk
	stepData
	stepDataEnd
	stepTrailer
	stepUpgrade // nothing, until the handshake has been answered
	stepOver
)

// refused is a head that was refused: the number of its stand-in on the connection,
// and what could be read of it.
type refused struct {
	number int
	why    *fault
	method string
	target string
	proto  string
	host   string
	agent  string
}

// buffers are for connections on which something comes.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// Read implements net.Conn. It is called by one goroutine at a time.
func (c *conn) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case len(c.out) > 0:
			n := copy(p, c.out)
			c.out = c.out[n:]
			c.release()
			return n, nil
		case c.err != nil:
			return 0, c.err
		case c.raw.Load():
			return c.pass(p)
		}
		if c.next == stepBody || c.next == stepData {
			if c.left > 0 {
				n, err := c.pass(p[:min(int64(len(p)), c.left)])
				c.left -= int64(n)
				return n, err
			}
			c.bodyRead()
			continue
		}
		if !c.advance() {
			if err := c.fill(p); err != nil {
				return 0, err
			}
		}
	}
}

// pass reads what needs no looking at.
func (c *conn) pass(p []byte) (int, error) {
	if len(c.in) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	c.release()
	return n, nil
}

// tlsState is what the handshake has come to. It is called by one request at a time,
// and what it returns is not to be changed.
func (c *conn) tlsState() *tls.ConnectionState {
	if c.state == nil {
		state := c.ConnectionState()
		c.state = &state
	}
	return c.state
}

// bodyRead says what follows the last byte of a body or of a chunk.
func (c *conn) bodyRead() {
	if c.next == stepData {
		c.next = stepDataEnd
		return
	}
	c.next = stepHead
	c.setLinger(false)
}

// fill reads more of what has to be complete before any of it is handed on. What
// begins it is read into p, so that waiting for it takes no buffer.
func (c *conn) fill(p []byte) error {
	if c.buf == nil {
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.buf = buffers.Get().(*[]byte)
			c.in = append((*c.buf)[:0], p[:n]...)
			c.headBegan()
			return nil
		}
		return err
	}
	c.headBegan() // behind the message before it
	if cap(c.in) == len(c.in) {
		c.in = append(make([]byte, 0, max(4<<10, 2*len(c.in))), c.in...)
	}
	n, err := c.Conn.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	if n > 0 {
		return nil
	}
	if c.next == stepHead && len(c.in) > 0 && c.overdue(err) {
		c.refuse(refuse(blocklog.ReasonHeadTimeout, http.StatusRequestTimeout, "the header was not complete after %s", headerTimeout))
		return nil
	}
	return err
}

// release gives the buffer back once nothing is left in it.
func (c *conn) release() {
	if len(c.in) == 0 && len(c.out) == 0 && c.buf != nil {
		buffers.Put(c.buf)
		c.buf, c.in, c.out = nil, nil, nil
	}
}

// advance takes the next step, if what has come is enough for it.
func (c *conn) advance() bool {
	switch c.next {
	case stepHead:
		return c.head()
	case stepChunk:
		return c.chunk()
	case stepDataEnd:
		return c.dataEnd()
	case stepTrailer:
		return c.trailer()
	case stepUpgrade:
		if len(c.in) > 0 {
			c.breakOff(refuse(blocklog.ReasonBadUpgrade, http.StatusBadRequest, "bytes came before the handshake was answered"))
			return true
		}
	}
	return false
}

// head hands out a head, or a stand-in for one that is refused.
func (c *conn) head() bool {
	if bytes.HasPrefix(c.in, crlf) && c.heads > 0 { // RFC 9112 §2.2: some clients end a body with one
		c.in = c.in[2:]
		c.release()
	}
	var h head
	end, f := headEnd(c.in)
	switch {
	case f != nil:
	case end > 0:
		h, f = parseHead(c.in[:end])
	default: // not complete; but a request line that is none will not get better
		line, _, ok := bytes.Cut(c.in, crlf)
		if !ok {
			return false
		}
		if f = h.requestLine(line); f == nil {
			return false
		}
	}
	if f == nil && h.upgrade && len(c.in) > end {
		f = refuse(blocklog.ReasonBadUpgrade, http.StatusBadRequest, "bytes came before the handshake was answered")
	}
	if f != nil {
		c.refuse(f)
		return true
	}
	c.setLimit(time.Time{})
	c.heads++
	c.out, c.in = c.in[:end], c.in[end:]
	c.left, c.ext = h.length, 0
	switch {
	case h.chunked:
		c.next = stepChunk
		c.setLinger(true)
	case h.length > 0:
		c.next = stepBody
		c.setLinger(true)
	case h.upgrade:
		c.next = stepUpgrade
	}
	return true
}

// headEnd finds the end of a head, 0 while it has not come, and what can be
// refused before that.
func headEnd(b []byte) (end int, f *fault) {
	for {
		n := bytes.IndexByte(b[end:], '\n')
		switch {
		case n < 0 && end == 0 && len(b) > maxTarget+maxMethod+len("  HTTP/1.1"):
			return 0, refuse(blocklog.ReasonHeadTooLarge, http.StatusRequestURITooLong, "the request line is longer than a target of %d bytes makes it", maxTarget)
		case n < 0 && len(b) > maxHead, end+n >= maxHead:
			return 0, refuse(blocklog.ReasonHeadTooLarge, http.StatusRequestHeaderFieldsTooLarge, "the header is larger than %d bytes", maxHead)
		case n < 0:
			return 0, nil
		case n == 0 || b[end+n-1] != '\r':
			return 0, refuse(blocklog.ReasonBadHeader, http.StatusBadRequest, "a line ends without a carriage return")
		case n == 1 && end > 0:
			return end + 2, nil
		}
		end += n + 1
	}
}

// refuse puts a stand-in where the head would have been. Nothing is read after it.
func (c *conn) refuse(f *fault) {
	r := scan(c.in)
	r.number, r.why = c.heads+1, f
	c.refused.Store(&r)
	c.heads++
	c.setLimit(time.Time{})
	c.stop(io.EOF)
	c.in, c.out = nil, []byte("GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n")
}

// breakOff ends the reading with an error, in the middle of a message.
func (c *conn) breakOff(f *fault) {
	c.in = nil
	c.release()
	c.stop(f)
}

func (c *conn) stop(err error) {
	c.next, c.err = stepOver, err
	c.setLinger(true)
}

// setLinger notes whether the client may be in the middle of sending something.
func (c *conn) setLinger(sending bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linger = sending
}

// scan reads of a head what a record needs, however broken it is, and nothing that
// could be something else: a body that is taken for a head may hold a password.
func scan(head []byte) (r refused) {
	line, rest, _ := strings.Cut(string(head[:min(len(head), maxHead)]), "\n")
	method, line, _ := strings.Cut(strings.TrimSpace(line), " ")
	if !token([]byte(method)) || len(method) > maxMethod {
		return r
	}
	target, proto, _ := strings.Cut(line, " ")
	if strings.HasPrefix(target, "/") {
		r.method, r.target = method, target
	}
	if strings.HasPrefix(proto, "HTTP/") && len(proto) <= len("HTTP/1.1") {
		r.method, r.proto = method, proto
	}
	for line := range strings.SplitSeq(rest, "\n") {
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); strings.ToLower(name) {
		case "host":
			if !strings.Contains(value, "@") {
				r.host = value
			}
		case "user-agent":
			r.agent = value
		}
	}
	return r
}

// chunk hands out the size of a chunk, without extensions.
func (c *conn) chunk() bool {
	line, ok := c.line(maxChunkExt, "chunk")
	if !ok {
		return c.err != nil
	}
	size, written := chunkLine(line)
	if c.ext += len(line) - len(written); size < 0 || c.ext > maxChunkExt {
		c.breakOff(refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "a chunk does not begin with its size"))
		return true
	}
	if size == 0 {
		c.next, c.left = stepTrailer, maxTrailer
		c.consume(len(line) + 2)
		return true
	}
	c.next, c.left = stepData, size
	c.out = append(bytes.Clone(written), crlf...)
	c.consume(len(line) + 2)
	return true
}

// dataEnd hands out the end of a chunk.
func (c *conn) dataEnd() bool {
	switch {
	case len(c.in) > 0 && c.in[0] != '\r', len(c.in) > 1 && c.in[1] != '\n':
		c.breakOff(refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "a chunk is longer than its size says"))
		return true
	case len(c.in) < 2:
		return false
	}
	c.next, c.out = stepChunk, crlf
	c.consume(2)
	return true
}

// trailer drops the trailer section: what comes after the body is nothing an
// application may take for a header. left is what it may still take.
func (c *conn) trailer() bool {
	line, ok := c.line(int(c.left), "trailer")
	if !ok {
		return c.err != nil
	}
	if len(line) == 0 {
		c.next, c.out = stepHead, []byte("0\r\n\r\n")
		c.setLinger(false)
		c.consume(2)
		return true
	}
	if _, _, f := field(line); f != nil {
		c.breakOff(f)
		return true
	}
	c.left -= int64(len(line) + 2)
	c.consume(len(line) + 2)
	return true
}

// line is the next line of at most n bytes, which stays where it is.
func (c *conn) line(n int, what string) (line []byte, ok bool) {
	end := bytes.IndexByte(c.in, '\n')
	switch {
	case end < 0 && len(c.in) <= n:
		return nil, false
	case end < 0 || end > n:
		c.breakOff(refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "a %s line is too long", what))
		return nil, false
	case end == 0 || c.in[end-1] != '\r':
		c.breakOff(refuse(blocklog.ReasonBadFraming, http.StatusBadRequest, "a %s line ends without a carriage return", what))
		return nil, false
	}
	return c.in[:end-1], true
}

func (c *conn) consume(n int) {
	c.in = c.in[n:]
	c.release()
}

// SetReadDeadline implements net.Conn. A head that has begun keeps its own limit.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked = t; c.closed {
		return net.ErrClosed
	}
	return c.Conn.SetReadDeadline(earlier(c.asked, c.limit))
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// headBegan begins the time that a head may take, if one has begun to come.
func (c *conn) headBegan() {
	if c.next != stepHead || len(c.in) == 0 {
		return
	}
	c.mu.Lock()
	begun := !c.limit.IsZero()
	c.mu.Unlock()
	if !begun {
		c.setLimit(time.Now().Add(headerTimeout))
	}
}

func (c *conn) setLimit(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit.Equal(t) || c.closed {
		return
	}
	c.limit = t
	_ = c.Conn.SetReadDeadline(earlier(c.asked, c.limit)) // a socket that is closed says so when it is read
}

// overdue says that err comes of a deadline that is meant. net/http ends a read that
// waits for the next request with one that is long past.
func (c *conn) overdue(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	aborted := !c.asked.IsZero() && time.Since(c.asked) > time.Hour
	return errors.Is(err, os.ErrDeadlineExceeded) && !aborted
}

// earlier is the earlier of two deadlines, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Close implements net.Conn. In the middle of a message it goes on to take some more
// of what the client is sending, for a little while: a socket closed over unread bytes
// would take the answer with it.
func (c *conn) Close() error {
	c.mu.Lock()
	linger := c.linger
	c.linger, c.closed = false, true
	c.mu.Unlock()
	if !linger {
		return c.Conn.Close()
	}
	_ = c.Conn.SetDeadline(time.Now().Add(lingerTimeout)) // Close is all there is to do about an error
	go func() {
		_ = c.CloseWrite() // which waits for a write that the client does not take
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
		_ = c.Conn.Close()
	}()
	return nil
}

// request returns the request that was refused, as far as it could be read, in
// place of its stand-in.
func (r *refused) request(standIn *http.Request) *http.Request {
	path, query, _ := strings.Cut(r.target, "?")
	out := standIn.Clone(standIn.Context())
	out.Method, out.RequestURI, out.Host, out.Proto = r.method, r.target, r.host, strings.TrimSpace(r.proto)
	out.URL = &url.URL{Path: path, RawQuery: query}
	out.Header = http.Header{}
	if r.agent != "" {
		out.Header.Set("User-Agent", r.agent)
	}
	return out
}
