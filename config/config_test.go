package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var wanted = regexp.MustCompile(`(?m)^# want: (.*)$`)

// Each file in testdata/busted is wrong in one way and says at its head, one
// line each, all that has to be said about it.
func TestBusted(t *testing.T) {
	files, err := filepath.Glob("../testdata/busted/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(path)
			if err == nil {
				t.Fatal("it loads")
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), path+":", ""), "\n")
			want := wanted.FindAllStringSubmatch(string(data), -1)
			for i, w := range want {
				if i >= len(got) || !strings.HasPrefix(strings.TrimSpace(got[i]), w[1]) {
					t.Errorf("want %q", w[1])
				}
			}
			if len(want) != len(got) || t.Failed() {
				t.Errorf("got:\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// The smallest useful file is five lines; everything else has a default.
func TestSmallest(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"hr.pem", "hr.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "edge.yaml")
	text := "tls: {files: [{cert: hr.pem, key: hr.key}]}\napps:\n  - name: hr\n    hosts: [HR.example.com.]\n    upstream: http://127.0.0.1:8080\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	a := c.Apps[0]
	if c.Listen.HTTPS != ":443" || c.State.Dir != "/var/lib/edge" || c.TLS.Files[0].Cert != filepath.Join(dir, "hr.pem") ||
		a.MaxBody != 1<<20 || a.Hosts[0] != "hr.example.com" || a.Upstream.Servers[0].URL.Host != "127.0.0.1:8080" {
		t.Errorf("%+v", c)
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("../testdata/busted/*.yaml")
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "edge.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if err == nil && (len(c.Apps) == 0 || len(c.Apps[0].Upstream.Servers) == 0) {
			t.Errorf("it loads without an app: %+v", c)
		}
	})
}
