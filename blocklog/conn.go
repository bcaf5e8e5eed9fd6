package blocklog

import "context"

// Conn is what is known of a connection before its first request. Whoever
// accepts the connection fills it in, and it is the same for all its requests.
type Conn struct {
	// JA4 is the fingerprint of the ClientHello.
	JA4 string
}

type connKey struct{}

// WithConn returns a context for the requests of c.
func WithConn(ctx context.Context, c *Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnOf returns the connection that the request of ctx came on; the zero Conn
// where nothing is known of it.
func ConnOf(ctx context.Context) Conn {
	if c, ok := ctx.Value(connKey{}).(*Conn); ok {
		return *c
	}
	return Conn{}
}
