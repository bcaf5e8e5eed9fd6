package main_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	edgetls "edge/tls"
)

// h2Edge is an edge under attack.
type h2Edge struct {
	*process
	dir string
	tls *tls.Config
}

const h2Config = `
listen: {https: "127.0.0.1:0", admin: "127.0.0.1:0"}
tls: {files: [{cert: ca/edge.pem, key: ca/edge.key}]}
state: {dir: state}
apps:
  - {name: hr, hosts: [hr.test, localhost], upstream: %q, rules: [rules.yaml], max_body: 64KiB}
  - {name: other, hosts: [other.test], upstream: %q, rules: [rules.yaml]}
`

// startH2 starts an edge whose applications are both at upstream.
func startH2(t *testing.T, upstream, mode string) *h2Edge {
	t.Helper()
	dir := t.TempDir()
	ca, err := edgetls.OpenLocalCA(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue("edge", "hr.test", "other.test", "localhost"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"edge.yaml": fmt.Sprintf(h2Config, upstream, upstream), "rules.yaml": "waf: {mode: " + mode + "}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := launch("edge", dir, nil, "run", "--config", "edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("%v\n%s", err, p.logged())
		}
	})
	return &h2Edge{p, dir, &tls.Config{ServerName: "hr.test", RootCAs: ca.Pool(), NextProtos: []string{"h2"}}}
}
