// Package listen is the way from an accepted socket to a request: it owns
// accepting, the TLS handshake and which server a connection goes to.
//
// The edge does the handshake itself and does not leave it to net/http, because
// that is where a connection is first seen: its name, its fingerprint, its
// failure. HTTP/2 connections then go to the HTTP/2 server as they are, since
// that server insists on a *tls.Conn. HTTP/1 connections go to net/http wrapped,
// so that their bytes can be looked at before net/http reads them; their TLS
// state travels in the context and is put where handlers expect it.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http2"
)

// Limits on what a client may take before it has sent a request.
const (
	handshakeTimeout = 5 * time.Second
	headerTimeout    = 10 * time.Second
	idleTimeout      = 60 * time.Second
	maxHeaderBytes   = 32 << 10
	maxStreams       = 100 // concurrent requests on one HTTP/2 connection
)

// Server serves a handler over TLS.
type Server struct {
	tls    *tls.Config
	h1     *http.Server
	h2     *http2.Server
	logger *zap.Logger

	handoff *handoff
	conns   sync.WaitGroup
	life    context.Context // ends when what is left at shutdown is cut
	cut     context.CancelFunc
}

// New returns a Server that serves h with the certificates of conf.
func New(h http.Handler, conf *tls.Config, logger *zap.Logger) (*Server, error) {
	s := &Server{
		tls:     conf,
		logger:  logger,
		h2:      &http2.Server{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: 16 << 10, IdleTimeout: idleTimeout},
		handoff: newHandoff(),
	}
	s.life, s.cut = context.WithCancel(context.Background())
	s.h1 = &http.Server{
		Handler:           withTLS(h),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          stdLog(logger),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	if err := http2.ConfigureServer(s.h1, s.h2); err != nil { // ties h2's shutdown to h1's
		return nil, fmt.Errorf("http2: %w", err)
	}
	return s, nil
}

// Serve accepts connections from l until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.handoff.addr = l.Addr()
	go func() { _ = s.h1.Serve(s.handoff) }() // ends with Shutdown, which closes the handoff
	for {
		raw, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // such as too many open files: it passes
			s.logger.Warn("accept", zap.Error(err))
			time.Sleep(50 * time.Millisecond)
			continue
		}
		s.conns.Go(func() { s.welcome(raw) })
	}
}

// welcome does the handshake and hands the connection to its server. For HTTP/2
// it returns when the connection ends.
func (s *Server) welcome(raw net.Conn) {
	ctx, cancel := context.WithTimeout(s.life, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(s.life, func() { _ = raw.Close() })
	defer stop()
	c := tls.Server(raw, s.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		s.logger.Debug("handshake failed", zap.Stringer("client", raw.RemoteAddr()), zap.Error(err))
		_ = raw.Close() // it has no more to say
		return
	}
	if c.ConnectionState().NegotiatedProtocol == "h2" {
		s.h2.ServeConn(c, &http2.ServeConnOpts{BaseConfig: s.h1, Handler: s.h1.Handler})
		return
	}
	s.handoff.give(&conn{Conn: c})
}

// Shutdown stops taking requests and waits for those under way until ctx ends,
// then cuts what is left. The caller closes the listener first. WebSockets are
// not waited for.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.h1.Shutdown(ctx)
	done := make(chan struct{})
	go func() { s.conns.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	s.cut()
	return errors.Join(err, s.h1.Close())
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

// conn is an HTTP/1 connection after its handshake. It is a type of its own so
// that net/http takes it as it is and does not handshake again.
type conn struct{ *tls.Conn }

type connKey struct{}

// withTLS sets the TLS state of HTTP/1 requests, which net/http does only for
// connections that are *tls.Conn themselves.
func withTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok && r.TLS == nil {
			state := c.ConnectionState()
			r.TLS = &state
		}
		next.ServeHTTP(w, r)
	})
}

// handoff is a net.Listener fed by give instead of a socket.
type handoff struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), done: make(chan struct{})}
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
