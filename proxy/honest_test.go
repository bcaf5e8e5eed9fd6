package proxy

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edge/config"
	"edge/rules"
)

// Names and bytes that the rule set takes for attacks pass where they can be nothing
// else than what they are, and nowhere else.
func TestHonestUploads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yaml")
	text := "waf: {content_types: [multipart/form-data, application/octet-stream]}\n" +
		"uploads: [{name: files, match: {path: /files}, body: {max: 1MiB, inspect: 4KiB}}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, ok, rules.Block, func(a *config.App, s *rules.Set) { *s, a.MaxBody = set, 64<<10 })
	named := func(name string) string {
		return "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"" + name + "\"\r\n\r\nx\r\n--x--\r\n"
	}
	const multipart, bytes = "multipart/form-data; boundary=x", "application/octet-stream"
	binary := strings.Repeat("\x00\x01a=\xff&\x02", 100)
	for _, c := range []struct {
		name, path, kind, body string
		status                 int
	}{
		{"apostrophe", "/", multipart, named("O'Brien.pdf"), 200},
		{"apostrophe-of-an-upload", "/files", multipart, named("O'Brien.pdf"), 200},
		{"escaped-quotes", "/", multipart, named("the %22final%22 one.pdf"), 200},
		{"semicolon", "/", multipart, named("a.pdf; filename=evil.php"), 403},
		{"semicolon-beside-an-apostrophe", "/", multipart, strings.TrimSuffix(named("O'Brien.pdf"), "--\r\n") + "\r\n" + named("a;b=c.pdf")[len("--x\r\n"):], 403},
		{"encoding-of-a-part", "/", multipart, strings.Replace(named("a.pdf"), "\r\n\r\n", "\r\nContent-Transfer-Encoding: binary\r\n\r\n", 1), 200},
		{"encoding-that-is-one", "/", multipart, strings.Replace(named("a.pdf"), "\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1), 400},
		{"program", "/", multipart, named("o'evil.php"), 403},
		{"bytes-of-an-upload", "/files", bytes, binary, 200},
		{"many-bytes-of-an-upload", "/files", bytes, strings.Repeat(binary, 20), 200},
		{"bytes-elsewhere", "/", bytes, binary, 200},
		{"text-called-bytes", "/", bytes, "q=<script>alert(1)</script>", 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest("POST", e.url+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "hr.test"
			req.Header.Set("Content-Type", c.kind)
			req.Header.Set("User-Agent", "test")
			req.Header.Set("Accept", "*/*")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != c.status {
				t.Errorf("status %d, want %d: %s", res.StatusCode, c.status, e.file("block.jsonl"))
			}
		})
	}
}
