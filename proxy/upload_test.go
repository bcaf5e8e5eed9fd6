package proxy

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"edge/blocklog"
	"edge/config"
	"edge/rules"
)

// uploads declares POST and PUT below /files to be uploads of up to 1 MiB, of which
// 8 KiB are inspected, where all other bodies may have 1 KiB.
func uploads(t *testing.T) func(*config.App, *rules.Set) {
	t.Helper()
	u := rules.Upload{Name: "files", Body: rules.UploadBody{Max: 1 << 20, Inspect: 8 << 10}}
	if err := u.Match.Path.UnmarshalText([]byte("/files/**")); err != nil {
		t.Fatal(err)
	}
	return func(_ *config.App, s *rules.Set) {
		s.Uploads = []rules.Upload{u}
		s.WAF.ContentTypes = append(s.WAF.ContentTypes, "application/octet-stream")
	}
}

// sink is an application that notes whether bodies came to their end, and which.
type sink struct {
	mu   sync.Mutex
	sums []string
}

func (s *sink) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	if n, err := io.Copy(h, r.Body); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sums = append(s.sums, fmt.Sprintf("%d %x", n, h.Sum(nil)))
	}
}

func (s *sink) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := strings.Join(s.sums, ",")
	s.sums = nil
	return sums
}

// Of an upload the beginning is inspected and the rest flows, byte for byte; what is
// wrong with it anywhere ends it before the application has it.
func TestUploads(t *testing.T) {
	const multipart, bytes, json = "multipart/form-data; boundary=x", "application/octet-stream", "application/json"
	field := func(name, value string) string {
		return "--x\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	file := func(name, content string) string {
		return "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"" + name + "\"\r\nContent-Type: application/pdf\r\n\r\n" + content + "\r\n"
	}
	large, attack := strings.Repeat("%PDF-1.4 \x00\xff", 10_000), "' UNION SELECT password FROM users--"
	for _, c := range []struct {
		name, path, kind, body string
		status                 int
		inspection             string
		reason                 blocklog.Reason
	}{
		{"small", "/files/1", multipart, field("note", "May") + file("a.pdf", "%PDF") + "--x--\r\n", 200, "full", ""},
		{"large", "/files/1", multipart, field("note", "May") + file("Müller & Söhne.pdf", large) + "--x--\r\n", 200, "partial", ""},
		{"large_bytes", "/files/1", bytes, large, 200, "partial", ""},
		{"two_files", "/files/1", multipart, file("a.pdf", large) + file("b.pdf", large) + "--x--", 200, "partial", ""},
		{"ends_in_a_header", "/files/1", multipart, file("a.pdf", strings.Repeat("a", 8<<10-150)) + file("b.pdf", large) + "--x--", 200, "partial", ""},
		{"elsewhere", "/notes", multipart, file("a.pdf", large) + "--x--\r\n", 413, "none", blocklog.ReasonBodyTooLarge},
		{"json", "/files/1", json, `{"a":"` + strings.Repeat("a", 2000) + `"}`, 413, "none", blocklog.ReasonBodyTooLarge},
		{"attack_in_field", "/files/1", multipart, field("note", attack) + file("a.pdf", large) + "--x--\r\n", 403, "partial", blocklog.ReasonWAFScore},
		{"attack_in_name", "/files/1", multipart, file("a.php", large) + "--x--\r\n", 403, "partial", blocklog.ReasonWAFScore},
		{"attack_in_head", "/files/1?q=" + "%27%20UNION%20SELECT%20password%20FROM%20users--", bytes, large, 403, "partial", blocklog.ReasonWAFScore},
		{"too_large", "/files/1", bytes, strings.Repeat(large, 12), 413, "none", blocklog.ReasonBodyTooLarge},
		{"not_multipart", "/files/1", multipart, large, 400, "none", blocklog.ReasonBodyForm},
		{"malformed_later", "/files/1", multipart, file("a.pdf", large) + "--x\r\nX: y\r\n\r\nz\r\n--x--", 400, "partial", blocklog.ReasonBodyForm},
		{"no_end", "/files/1", multipart, file("a.pdf", large), 400, "partial", blocklog.ReasonBodyForm},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s_%v", c.name, chunked), func(t *testing.T) {
				app := &sink{}
				e := start(t, app.ServeHTTP, rules.Block, uploads(t))
				var body io.Reader = strings.NewReader(c.body)
				if chunked {
					body = struct{ io.Reader }{body}
				}
				req, _ := http.NewRequest("POST", e.url+c.path, body)
				req.Host = "hr.test"
				req.Header.Set("Content-Type", c.kind)
				req.Header.Set("Accept", "*/*")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				want := ""
				if c.status == 200 {
					want = fmt.Sprintf("%d %x", len(c.body), sha256.Sum256([]byte(c.body)))
				}
				if got := app.take(); res.StatusCode != c.status || got != want {
					t.Errorf("status %d, want %d; the application has %q, want %q", res.StatusCode, c.status, got, want)
				}
				inspection := c.inspection
				if c.name == "too_large" && chunked {
					inspection = "partial" // that is known when it has come
				}
				id := res.Header.Get("X-Request-Id")
				var last blocklog.Event
				e.until("a record", func() bool {
					last, err = blocklog.Find(e.dir, id)
					return c.status == 200 && res.StatusCode == 200 || err == nil
				})
				if c.status != 200 && (last.Edge.Inspection != inspection || last.Edge.Reason != c.reason) {
					t.Errorf("inspection %s, reason %s: %s", last.Edge.Inspection, last.Edge.Reason, last.Edge.Detail)
				}
			})
		}
	}
}

// In detect mode an upload flows whatever is in it, and its beginning is judged.
func TestUploadDetected(t *testing.T) {
	app := &sink{}
	e := start(t, app.ServeHTTP, rules.Detect, uploads(t))
	body := "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.php\"\r\n\r\n" + strings.Repeat("a", 100<<10) + "\r\n--x--\r\n"
	req, _ := http.NewRequest("POST", e.url+"/files/1", strings.NewReader(body))
	req.Host = "hr.test"
	req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got, want := app.take(), fmt.Sprintf("%d %x", len(body), sha256.Sum256([]byte(body))); res.StatusCode != 200 || got != want {
		t.Errorf("status %d, the application has %q, want %q", res.StatusCode, got, want)
	}
	events := e.events(res.Header.Get("X-Request-Id"))
	if len(events) != 1 || events[0].Edge.Inspection != "partial" || events[0].Edge.Action != blocklog.Detect {
		t.Errorf("%+v", events)
	}
}
