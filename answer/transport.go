package answer

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
)

// Transport sends requests over HTTP/1 connections that are guarded.
type Transport struct{ inner *http.Transport }

// NewTransport takes over t, which speaks HTTP/1 alone and dials as its
// DialContext does, TLS included.
func NewTransport(t *http.Transport) *Transport {
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return Guard(c, c), nil
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c, err := handshake(ctx, raw, addr, t)
		if err != nil {
			_ = raw.Close() // it has not been used
			return nil, err
		}
		return Guard(c, raw), nil
	}
	return &Transport{t}
}

// handshake makes raw a TLS connection to the host of addr, as t is configured.
func handshake(ctx context.Context, raw net.Conn, addr string, t *http.Transport) (*tls.Conn, error) {
	if t.TLSHandshakeTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.TLSHandshakeTimeout)
		defer cancel()
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	conf := t.TLSClientConfig.Clone()
	conf.ServerName = cmp.Or(conf.ServerName, host)
	c := tls.Client(raw, conf)
	return c, c.HandshakeContext(ctx)
}

// RoundTrip implements http.RoundTripper. The error of an answer that was not
// looked at to its end because it is malformed is a [Malformed]; reading the body
// of one that becomes so later returns it as well.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var conn *Conn
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if c, ok := info.Conn.(*Conn); ok {
			conn = c
			c.Begin(cmp.Or(r.Method, http.MethodGet))
		}
	}}
	res, err := t.inner.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	switch {
	case conn == nil:
	case err == nil && res.StatusCode != http.StatusSwitchingProtocols:
		res.Body = &body{res.Body, conn}
	case err != nil && r.Context().Err() == nil:
		if fault := conn.Fault(); fault != nil {
			return nil, fault
		}
	}
	return res, err
}

// body is an answer's body whose errors are the guard's, which net/http may have
// replaced by its own.
type body struct {
	io.ReadCloser
	conn *Conn
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		if fault := b.conn.Fault(); fault != nil {
			return n, fault
		}
	}
	return n, err
}

// CloseIdleConnections closes the connections that are kept for later.
func (t *Transport) CloseIdleConnections() { t.inner.CloseIdleConnections() }
