package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"edge/config"
)

// LocalCA is a certificate authority of this machine, kept as ca.pem and
// ca.key in a directory. Clients that trust ca.pem trust what it issues.
type LocalCA struct {
	dir  string
	cert *x509.Certificate
	key  any
}

// OpenLocalCA opens the authority in dir, making it on first use. It is valid for
// ten years.
func OpenLocalCA(dir string) (*LocalCA, error) {
	ca := &LocalCA{dir: dir}
	pair, err := tls.LoadX509KeyPair(ca.path("ca.pem"), ca.path("ca.key"))
	if err == nil {
		ca.cert, ca.key = pair.Leaf, pair.PrivateKey
		return ca, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	tmpl := template("edge local CA "+time.Now().Format(time.DateOnly), 10*365*24*time.Hour)
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.MaxPathLenZero = true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	if err := ca.issue(tmpl, "ca"); err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	return OpenLocalCA(dir)
}

// Root is the file that clients have to trust.
func (ca *LocalCA) Root() string { return ca.path("ca.pem") }

// Pool holds the root alone.
func (ca *LocalCA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Issue writes a fresh certificate for hosts, names or addresses, as name.pem and name.key, valid
// for 90 days, and says where.
func (ca *LocalCA) Issue(name string, hosts ...string) (config.CertFile, error) {
	tmpl := template(hosts[0], 90*24*time.Hour)
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if err := ca.issue(tmpl, name); err != nil {
		return config.CertFile{}, fmt.Errorf("certificate for %s: %w", hosts[0], err)
	}
	return config.CertFile{Cert: ca.path(name + ".pem"), Key: ca.path(name + ".key")}, nil
}

// issue makes a key, signs tmpl with the authority or, for the authority
// itself, with that key, and writes both. The key is written first: a
// certificate without one would look complete after a crash.
func (ca *LocalCA) issue(tmpl *x509.Certificate, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(ca.path(name+".key"), 0o600, "PRIVATE KEY", keyDER); err != nil {
		return err
	}
	return writePEM(ca.path(name+".pem"), 0o644, "CERTIFICATE", der)
}

func template(name string, lifetime time.Duration) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(lifetime),
	}
}

func writePEM(path string, mode os.FileMode, kind string, der []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // an old file would keep its old mode
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func (ca *LocalCA) path(name string) string { return filepath.Join(ca.dir, name) }
