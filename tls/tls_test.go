package tls

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edge/config"
)

func authority(t *testing.T) *LocalCA {
	t.Helper()
	ca, err := OpenLocalCA(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// handshake is one connection to a server under conf.
func handshake(t *testing.T, conf, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		defer b.Close()
		_ = tls.Server(b, conf).Handshake()
	}()
	c := tls.Client(a, client)
	err := c.Handshake()
	return c.ConnectionState(), err
}

func TestHandshakes(t *testing.T) {
	ca := authority(t)
	one, err := ca.Issue("one", "hr.test", "*.hr.test")
	if err != nil {
		t.Fatal(err)
	}
	two, err := ca.Issue("two", "time.test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load([]config.CertFile{one, two})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"hr.test": "hr.test", "HR.Test": "hr.test", "acme.hr.test": "hr.test", "time.test": "time.test",
		"a.acme.hr.test": "", "x.time.test": "", "other.test": "", "": "",
	} {
		st, err := handshake(t, m.Config(), &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		got := ""
		if err == nil {
			got = st.PeerCertificates[0].Subject.CommonName
			if st.Version != tls.VersionTLS13 || st.NegotiatedProtocol != "h2" {
				t.Errorf("%s: version %x, protocol %q", name, st.Version, st.NegotiatedProtocol)
			}
		}
		if got != want {
			t.Errorf("%q: certificate of %q, want %q (%v)", name, got, want, err)
		}
	}
	if _, err := handshake(t, m.Config(), &tls.Config{ServerName: "acme.hr.test", RootCAs: ca.Pool()}); err != nil {
		t.Errorf("a client that trusts the CA: %v", err)
	}
}

// Nothing old or weak is offered.
func TestWeakIsRefused(t *testing.T) {
	ca := authority(t)
	pair, err := ca.Issue("one", "hr.test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load([]config.CertFile{pair})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*tls.Config{
		"tls11": {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"cbc":   {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}},
		"rsa":   {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
	} {
		c.ServerName, c.RootCAs = "hr.test", ca.Pool()
		if st, err := handshake(t, m.Config(), c); err == nil {
			t.Errorf("%s: agreed on %s %s", name, tls.VersionName(st.Version), tls.CipherSuiteName(st.CipherSuite))
		}
	}
	if _, err := handshake(t, m.Config(), &tls.Config{ServerName: "hr.test", RootCAs: ca.Pool(), MaxVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
}

func TestBrokenPairs(t *testing.T) {
	ca := authority(t)
	a, err := ca.Issue("a", "a.test")
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.Issue("b", "b.test")
	if err != nil {
		t.Fatal(err)
	}
	open, err := ca.Issue("open", "open.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Load([]config.CertFile{{Cert: a.Cert, Key: b.Key}, {Cert: "nonesuch", Key: a.Key}, {Cert: a.Cert, Key: "missing"}, open})
	if err == nil {
		t.Fatal("broken pairs load")
	}
	for _, want := range []string{"a.pem: tls: private key does not match", "nonesuch", "missing", "open.key: the private key has mode 0644"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

// The authority is made once, cannot sign further authorities, and keeps its key
// to itself.
func TestLocalCA(t *testing.T) {
	ca := authority(t)
	again, err := OpenLocalCA(ca.dir)
	if err != nil || !again.cert.Equal(ca.cert) || !ca.cert.IsCA || !ca.cert.MaxPathLenZero {
		t.Fatalf("%v, %+v", err, ca.cert)
	}
	pair, err := again.Issue("leaf", "hr.test")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pair.Key, ca.path("ca.key")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	leaf, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "hr.test"}); err != nil {
		t.Error(err)
	}
}
