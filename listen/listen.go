// Package listen is the way from an accepted socket to a request: it owns
// accepting, the TLS handshake and which server a connection goes to.
//
// The edge does the handshake itself and does not leave it to net/http, because
// that is where a connection is first seen: its name, its fingerprint, its
// failure. What comes out of it goes to one http.Server: HTTP/2 connections as
// they are, since net/http knows them by their type, and HTTP/1 connections
// wrapped, so that their bytes can be looked at before net/http reads them; the
// TLS state of those travels in the context and is put where handlers expect it.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"edge/blocklog"
	"edge/config"
)

// Limits on what a client may take before it has sent a request.
const (
	handshakeTimeout = 5 * time.Second
	headerTimeout    = 10 * time.Second // from its first byte
	idleTimeout      = 60 * time.Second
	writeTimeout     = 30 * time.Second // for a peer of HTTP/2 that takes no bytes at all
	maxStreams       = 100              // concurrent requests on one HTTP/2 connection

	// What is still read of a client that has been refused, so that it gets to see why.
	lingerTimeout = 2 * time.Second
	lingerBytes   = 4 << 20
)

// Refuser is a handler that can also answer for a request it is not to serve. The
// request is what could be read of one that was refused; parts of it may be empty,
// or nothing a request could have.
type Refuser interface {
	http.Handler
	Refuse(w http.ResponseWriter, r *http.Request, d blocklog.Decision)
}

// Server serves a handler over TLS.
type Server struct {
	tls     *tls.Config
	http    *http.Server
	handoff *handoff
	door    *door
	faults  faults
	logger  *zap.Logger
	life    context.Context // of all requests
	end     context.CancelFunc

	balancers []config.Prefix // who announce their clients
}

// New returns a Server that serves h with the certificates of conf, to as many
// connections as limits allows.
func New(h Refuser, conf *tls.Config, limits Limits, logger *zap.Logger) *Server {
	s := &Server{
		tls:     fingerprinting(conf),
		handoff: &handoff{conns: make(chan net.Conn), done: make(chan struct{})},
		door:    newDoor(limits),
		faults:  faults{counts: map[string]uint64{}},
		logger:  logger,
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.guarded(&front{h}),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    2 * maxHead, // of HTTP/2, so that what is a little too much is refused with a record
		ConnState:         letGo,

		DisableGeneralOptionsHandler: true, // "OPTIONS *" is a request like any other
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: 16 << 10, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10, WriteByteTimeout: writeTimeout, CountError: s.faults.count},
		ErrorLog:                     stdLog(logger),
		BaseContext:                  func(net.Listener) context.Context { return s.life },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return withBudget(arrived(context.WithValue(ctx, connKey{}, c), c), c)
		},
	}
	return s
}

// Serve accepts connections from l until l is closed, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.handoff.addr = l.Addr()
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.handoff) }()
	for {
		raw, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		case err != nil: // such as too many open files: it passes
			s.logger.Warn("accept", zap.Error(err))
			time.Sleep(pause)
			continue
		}
		go s.welcome(raw)
	}
}

// welcome does the handshake and hands the connection on.
func (s *Server) welcome(raw net.Conn) {
	defer func() {
		if p := recover(); p != nil { // nobody's first bytes end the process
			s.logger.Error("panic while welcoming a connection", zap.Any("panic", p), zap.Stack("stack"))
			_ = raw.Close()
		}
	}()
	limitBacklog(raw)
	entered, ok := s.door.enter(raw, s.announces(raw))
	if !ok {
		return
	}
	raw = entered
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	from, err := s.announced(raw)
	if err != nil {
		s.logger.Debug("not announced", zap.Stringer("peer", raw.RemoteAddr()), zap.Error(err))
		_ = raw.Close() // nobody knows whom it is for
		return
	}
	if !s.door.become(entered, from.RemoteAddr()) {
		_ = raw.Close() // it has not been heard
		return
	}
	c := tls.Server(from, s.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		s.door.failed.Add(1)
		s.logger.Debug("handshake failed", zap.Stringer("client", from.RemoteAddr()), zap.Error(err))
		_ = raw.Close() // it has no more to say
		return
	}
	s.door.settle(entered)
	if c.ConnectionState().NegotiatedProtocol == "h2" {
		s.handoff.give(c)
		return
	}
	s.handoff.give(&conn{Conn: c})
}

// Shutdown stops taking requests and waits for those under way until ctx ends,
// then cuts what is left; WebSockets are not waited for and cut first. It reports
// whether anything had to be cut. The caller closes the listener first.
func (s *Server) Shutdown(ctx context.Context) (cut bool) {
	err := s.http.Shutdown(ctx)
	_ = s.http.Close() // before handlers hear of it, who might think that they have answered
	s.end()
	return err != nil
}

// stdLog takes what net/http has to say about connections, which is mostly what
// strangers did to them, and so no news.
func stdLog(logger *zap.Logger) *log.Logger {
	l, err := zap.NewStdLogAt(logger.Named("http"), zap.DebugLevel)
	if err != nil {
		panic(err) // only for a level that does not exist
	}
	return l
}

type connKey struct{}

// letGo learns that net/http has handed a connection to a handler: what comes on it
// from now on is no HTTP.
func letGo(c net.Conn, state http.ConnState) {
	if c, ok := c.(*conn); ok && state == http.StateHijacked {
		c.raw.Store(true)
	}
}

// front is what net/http calls. It gives HTTP/1 requests the TLS state of their
// connection, which net/http does only for connections that are *tls.Conn
// themselves, and takes those that were refused to the handler as such.
type front struct{ Refuser }

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		f.Refuser.ServeHTTP(w, r)
		return
	}
	r.TLS = c.tlsState()
	c.served++
	if no := c.refused.Load(); no != nil && no.number == c.served {
		f.Refuse(w, no.request(r), no.why.Decision)
		return
	}
	f.Refuser.ServeHTTP(w, r)
}

// handoff is a net.Listener fed by give instead of a socket.
type handoff struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return h.addr }
