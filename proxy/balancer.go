package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"edge/config"
)

// Pools keeps the connections to applications. They outlive the policy they were
// made under: apps whose upstream settings are the same, now or after a reload,
// use the same ones. The zero value is ready.
type Pools struct {
	mu    sync.Mutex
	pools map[string]*http.Transport
}

// balancer hands requests to the servers of an upstream in turn.
type balancer struct {
	servers   []*url.URL
	down      []atomic.Int64 // until when a server is passed over, Unix nanoseconds
	next      atomic.Uint32
	transport http.RoundTripper
}

// downTime is for how long a server that cannot be connected to is passed over,
// while there are others.
const downTime = 5 * time.Second

// balancer returns the balancer of an upstream.
func (p *Pools) balancer(u config.Upstream) (*balancer, error) {
	transport, err := p.transport(u)
	if err != nil {
		return nil, err
	}
	b := &balancer{down: make([]atomic.Int64, len(u.Servers)), transport: transport}
	for _, s := range u.Servers {
		b.servers = append(b.servers, s.URL)
	}
	return b, nil
}

func (p *Pools) transport(u config.Upstream) (*http.Transport, error) {
	var roots []byte
	if u.TLS.CA != "" {
		var err error
		if roots, err = os.ReadFile(u.TLS.CA); err != nil {
			return nil, fmt.Errorf("upstream.tls.ca: %w", err)
		}
	}
	key := fmt.Sprintf("%s %d %d %q %q", u.Protocol, u.ConnectTimeout, u.AnswerTimeout, u.TLS.Name, roots)
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.pools[key]; ok {
		return t, nil
	}
	t, err := newTransport(u, roots)
	if err != nil {
		return nil, err
	}
	if p.pools == nil {
		p.pools = map[string]*http.Transport{}
	}
	p.pools[key] = t
	return t, nil
}

// newTransport makes connections as u says. It takes no proxy from the
// environment: the upstream is what the configuration says.
func newTransport(u config.Upstream, roots []byte) (*http.Transport, error) {
	connect := time.Duration(u.ConnectTimeout)
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: connect}).DialContext,
		TLSHandshakeTimeout:   connect,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.TLS.Name},
		ResponseHeaderTimeout: time.Duration(u.AnswerTimeout),
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true, // what the application and the client agree on is theirs
	}
	if u.Protocol == config.H2C {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	if roots != nil {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("upstream.tls.ca: %s holds no certificate", u.TLS.CA)
		}
	}
	return t, nil
}

// RoundTrip sends a request to a server. If that cannot be connected to, and
// nothing of the body has been read, it tries the others. A request is never sent
// twice: whether an application has acted on one that broke off, nobody knows.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	body := &guarded{ReadCloser: r.Body}
	defer body.release()
	var errs []error
	start := int(b.next.Add(1))
	for i := range 2 * len(b.servers) { // first those that are up, then, if there is none, all
		n := (start + i) % len(b.servers)
		asleep := time.Now().UnixNano() < b.down[n].Load()
		if (i < len(b.servers)) == asleep {
			continue
		}
		res, err := b.transport.RoundTrip(b.request(r, n, body))
		if !cannotConnect(err) || body.touched.Load() {
			return res, err
		}
		b.down[n].Store(time.Now().Add(downTime).UnixNano())
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// request is r as server n is sent it. The transport sends a request again by
// itself where a header says that it may, a header that clients choose; it
// does so only if there is no body, so one that does not matter is given.
func (b *balancer) request(r *http.Request, n int, body *guarded) *http.Request {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = b.servers[n].Scheme, b.servers[n].Host
	switch {
	case r.Body != nil:
		out.Body = body
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions:
		out.Body = empty{}
	}
	out.GetBody = nil
	return out
}

// empty is a body of nothing that is not http.NoBody.
type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, io.EOF }
func (empty) Close() error             { return nil }

// guarded is a body that survives a connection that was not made: it is closed
// when the last attempt is over.
type guarded struct {
	io.ReadCloser
	touched atomic.Bool
	last    atomic.Bool // of no more use to another attempt
	closed  atomic.Bool
}

func (g *guarded) Read(p []byte) (int, error) {
	g.touched.Store(true)
	return g.ReadCloser.Read(p)
}

// Close is deferred until there will be no other attempt.
func (g *guarded) Close() error {
	g.closed.Store(true)
	if g.touched.Load() || g.last.Load() {
		return g.ReadCloser.Close()
	}
	return nil
}

func (g *guarded) release() {
	g.last.Store(true)
	if g.ReadCloser != nil && g.closed.Load() {
		_ = g.ReadCloser.Close() // closing again changes nothing
	}
}

// cannotConnect says that an error is from before there was a connection.
func cannotConnect(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
