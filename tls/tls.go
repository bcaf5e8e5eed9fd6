// Package tls holds the certificates of the hosts now served and the settings
// under which they are offered. Outside, it is imported as edgetls.
//
// A [Manager] gives out standard types only. A name it has no certificate for
// fails the handshake: nothing is served under somebody else's name, and there
// is no default. [LocalCA] issues certificates for names of this machine.
package tls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"edge/config"
)

// Manager finds the certificate for a handshake. It is safe for concurrent use.
type Manager struct {
	names atomic.Pointer[map[string]*tls.Certificate] // as in the certificate, wildcards and addresses included
}

// Load reads the certificate files. Its error joins every pair that is
// missing, broken, does not belong together, or whose key others may read.
func Load(files []config.CertFile) (*Manager, error) {
	names := map[string]*tls.Certificate{}
	var errs []error
	for _, f := range files {
		if err := load(f, names); err != nil {
			errs = append(errs, err)
		}
	}
	m := &Manager{}
	m.names.Store(&names)
	return m, errors.Join(errs...)
}

// Replace takes over the certificates of next, for handshakes from now on.
func (m *Manager) Replace(next *Manager) { m.names.Store(next.names.Load()) }

func load(f config.CertFile, names map[string]*tls.Certificate) error {
	info, err := os.Stat(f.Key)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Errorf("%s: the private key has mode %04o, so others can use it; chmod 600 %s", f.Key, mode, f.Key)
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if missing := (*os.PathError)(nil); errors.As(err, &missing) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Cert, err)
	}
	for _, name := range cert.Leaf.DNSNames {
		names[strings.ToLower(name)] = &cert
	}
	for _, ip := range cert.Leaf.IPAddresses {
		names[ip.String()] = &cert
	}
	return nil
}

// Covers reports whether there is a certificate for host, which may be a
// wildcard. For a wildcard one level of names is enough: a certificate cannot
// say more.
func (m *Manager) Covers(host string) bool { return m.find(host) != nil }

// Expires returns when the first of the certificates stops being valid.
func (m *Manager) Expires() time.Time {
	var first time.Time
	for _, c := range *m.names.Load() {
		if first.IsZero() || c.Leaf.NotAfter.Before(first) {
			first = c.Leaf.NotAfter
		}
	}
	return first
}

// find looks for name itself, then for the wildcard one level up (RFC 6125 §6.4.3).
func (m *Manager) find(name string) *tls.Certificate {
	names := *m.names.Load()
	if c := names[name]; c != nil {
		return c
	}
	_, parent, _ := strings.Cut(name, ".")
	return names["*."+parent]
}

// Config returns the server's settings: TLS 1.2 with ECDHE and AEAD suites, and
// TLS 1.3; HTTP/2 and HTTP/1.1.
func (m *Manager) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
			if local, err := netip.ParseAddrPort(hello.Conn.LocalAddr().String()); name == "" && err == nil {
				name = local.Addr().Unmap().String() // whoever calls an address by its number names nobody
			}
			if c := m.find(name); c != nil {
				return c, nil
			}
			return nil, fmt.Errorf("no certificate for %q", name)
		},
	}
}
