package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"

	"edge/blocklog"
)

// arrival is an accepted socket, below TLS, with what is known of it beside its
// bytes: who is calling, and what is handed to its requests.
type arrival struct {
	net.Conn
	from  net.Addr      // the client, where the peer has announced one
	early *bufio.Reader // what came behind the announcement and was read with it; nil once that is used up
	known blocklog.Conn
}

// RemoteAddr is where the connection comes from, for all who ask from now on.
func (a *arrival) RemoteAddr() net.Addr {
	if a.from != nil {
		return a.from
	}
	return a.Conn.RemoteAddr()
}

func (a *arrival) Read(p []byte) (int, error) {
	if a.early != nil {
		if n := a.early.Buffered(); n > 0 {
			return a.early.Read(p[:min(n, len(p))])
		}
		a.early = nil
	}
	return a.Conn.Read(p)
}

// arrived hands what is known of c, a connection after its handshake, to its
// requests. net/http gets HTTP/2 connections as *tls.Conn, so that it cannot be c
// itself that knows; what c stands on does.
func arrived(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		if a, ok := over.NetConn().(*arrival); ok {
			return blocklog.WithConn(ctx, &a.known)
		}
	}
	return ctx
}

// fingerprinting is conf, and notes the fingerprint of every ClientHello in the
// arrival it came by.
func fingerprinting(conf *tls.Config) *tls.Config {
	choose := conf.GetConfigForClient
	conf = conf.Clone()
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if a, ok := hello.Conn.(*arrival); ok {
			a.known.JA4 = ja4(hello)
		}
		if choose == nil {
			return nil, nil // what the caller has
		}
		return choose(hello)
	}
	return conf
}
