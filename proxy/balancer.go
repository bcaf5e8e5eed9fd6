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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edge/answer"
	"edge/config"
)

// Pools keeps the connections to applications. They outlive the policy they were
// made under: apps whose upstream settings are the same, now or after a reload,
// use the same ones. The zero value is ready.
type Pools struct {
	mu    sync.Mutex
	pools map[string]http.RoundTripper
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

func (p *Pools) transport(u config.Upstream) (http.RoundTripper, error) {
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
		p.pools = map[string]http.RoundTripper{}
	}
	p.pools[key] = t
	return t, nil
}

// newTransport makes connections as u says, those of HTTP/1 under watch. It takes no
// proxy from the environment: the upstream is what the configuration says.
func newTransport(u config.Upstream, roots []byte) (http.RoundTripper, error) {
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
	if roots != nil {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("upstream.tls.ca: %s holds no certificate", u.TLS.CA)
		}
	}
	if u.Protocol == config.H2C {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
		return t, nil
	}
	return answer.NewTransport(t), nil
}

// RoundTrip sends a request to a server. If that cannot be connected to, and
// nothing of the body has been read, it tries the others. A request that may
// change something is never sent twice: whether an application has acted on one
// that broke off, nobody knows. (net/http does repeat a GET, HEAD or OPTIONS when a
// connection that was kept open turns out to be closed.)
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	body := &guarded{ReadCloser: r.Body}
	defer body.release()
	var errs []error
	for _, n := range b.order() {
		res, err := b.transport.RoundTrip(b.request(r, n, body))
		if !cannotConnect(err) || body.touched.Load() {
			return res, err
		}
		b.down[n].Store(time.Now().Add(downTime).UnixNano())
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// order is in which order to try the servers: in turn those that are up, then
// those that could not be connected to lately.
func (b *balancer) order() []int {
	var up, down []int
	start, now := int(b.next.Add(1)), time.Now().UnixNano()
	for i := range b.servers {
		if n := (start + i) % len(b.servers); now < b.down[n].Load() {
			down = append(down, n)
		} else {
			up = append(up, n)
		}
	}
	return append(up, down...)
}

// request is r as server n is sent it. The transport repeats a request by itself
// where one of two headers says that it may, headers that clients choose; it
// knows them by their usual spelling only, which for the application is no other.
func (b *balancer) request(r *http.Request, n int, body *guarded) *http.Request {
	out, url := r.WithContext(r.Context()), *r.URL
	url.Scheme, url.Host = b.servers[n].Scheme, b.servers[n].Host
	out.URL = &url
	if out.GetBody = nil; r.Body != nil {
		out.Body = body
	}
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := r.Header[name]; ok {
			out.Header = out.Header.Clone()
			delete(out.Header, name)
			out.Header[strings.ToLower(name)] = values
		}
	}
	return out
}

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
