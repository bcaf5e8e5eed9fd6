package main_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	edgetls "edge/tls"
)

// extendedNames says that a filename* which says the same as the filename beside
// it is taken, as .NET sends it.
const extendedNames = true

// mirror is an application that answers with what it was sent, and takes
// resumable uploads.
type mirror struct {
	*httptest.Server
	reports chan string // from the browser

	mu   sync.Mutex
	kept []byte // of the resumable upload
	want int    // how long it shall be
}

func newMirror(t testing.TB) *mirror {
	m := &mirror{reports: make(chan string, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /browser", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "../../testdata/clients/browser.html")
	})
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		report, _ := io.ReadAll(base64.NewDecoder(base64.StdEncoding, r.Body))
		text, _ := url.PathUnescape(string(report))
		m.reports <- text
	})
	mux.HandleFunc("/form", showForm)
	mux.HandleFunc("POST /upload", showForm)
	mux.HandleFunc("PUT /upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, "body: %d bytes, %v\n", n, err)
	})
	mux.HandleFunc("DELETE /json", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /compressed", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, strings.Repeat("decompressed ", 1000))
			_ = z.Close()
		}
	})
	mux.HandleFunc("GET /socket", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // the edge is in front
		if err != nil {
			return
		}
		defer c.CloseNow()
		if kind, data, err := c.Read(r.Context()); err == nil {
			_ = c.Write(r.Context(), kind, data)
			_, _, _ = c.Read(r.Context()) // the end
		}
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: event 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/resumable/", m.resumable)
	m.Server = httptest.NewServer(mux)
	t.Cleanup(m.Close)
	return m
}

// showForm answers with the fields and files of a form.
func showForm(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintf(w, "%s %s\n", r.Method, r.URL.Path)
	if err := r.ParseMultipartForm(1 << 20); err != nil && strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(r.Form)) {
		_, _ = fmt.Fprintf(w, "field %s: %s\n", name, r.Form.Get(name))
	}
	if r.MultipartForm == nil {
		return
	}
	for name, files := range r.MultipartForm.File {
		for _, f := range files {
			_, _ = fmt.Fprintf(w, "file %s: %s, %d bytes\n", name, f.Filename, f.Size)
		}
	}
	_ = r.MultipartForm.RemoveAll()
}

// resumable is the core of TUS 1.0.0, with creation, for one upload. A HEAD waits
// for a PATCH under way to have ended.
func (m *mirror) resumable(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.Header().Set("Tus-Resumable", "1.0.0")
	switch r.Method {
	case http.MethodPost:
		m.want, _ = strconv.Atoi(r.Header.Get("Upload-Length"))
		m.kept = nil
		w.Header().Set("Location", "/resumable/1")
		w.WriteHeader(http.StatusCreated)
	case http.MethodHead:
		w.Header().Set("Upload-Offset", fmt.Sprint(len(m.kept)))
		w.Header().Set("Upload-Length", fmt.Sprint(m.want))
		w.Header().Set("Cache-Control", "no-store")
	case http.MethodPatch:
		if at, err := strconv.Atoi(r.Header.Get("Upload-Offset")); err != nil || at != len(m.kept) {
			w.WriteHeader(http.StatusConflict)
			return
		}
		piece, _ := io.ReadAll(r.Body) // what came before it broke off counts
		m.kept = append(m.kept, piece...)
		w.Header().Set("Upload-Offset", fmt.Sprint(len(m.kept)))
		w.WriteHeader(http.StatusNoContent)
	}
}

// clientsEdge is an edge with everything on, and the mirror behind it.
type clientsEdge struct {
	*process
	base string // its URL
	ca   string // the file with the root it is to be trusted by
	tls  *tls.Config
	app  *mirror
}

const clientsConfig = `
listen: {https: "127.0.0.1:0", admin: "127.0.0.1:0"}
tls: {files: [{cert: ca/edge.pem, key: ca/edge.key}]}
state: {dir: state}
apps:
  - {name: mirror, hosts: [localhost], upstream: %q, rules: [rules.yaml], max_body: 256KiB, http: {websocket: on}}
`

const clientsRules = `
waf:
  mode: block
  content_types: [application/x-www-form-urlencoded, multipart/form-data, application/json, text/plain,
    application/octet-stream, application/offset+octet-stream]
uploads:
  - {name: files, match: {path: "/upload"}, body: {max: 64MiB, inspect: 16KiB}}
  - {name: resumable, match: {method: PATCH, path: "/resumable/*"}, body: {max: 64MiB, inspect: 16KiB}}
access:
  - {name: nobody-from-there, deny: [192.0.2.0/24]}
rate_limits:
  - {name: plenty, key: [client], limit: 1000/s, burst: 1000}
`

func startForClients(t *testing.T) *clientsEdge {
	t.Helper()
	app := newMirror(t)
	p, pool, dir := startConfigured(t, "edge-plain", fmt.Sprintf(clientsConfig, app.URL), clientsRules, "localhost")
	_, port, _ := strings.Cut(p.addr, ":")
	return &clientsEdge{p, "https://localhost:" + port, filepath.Join(dir, "ca", "ca.pem"), pool, app}
}

// startConfigured starts a binary under test with a configuration and rules.yaml, and
// a certificate for hosts, and returns what trusts that and where it works.
func startConfigured(t *testing.T, name, conf, rules string, hosts ...string) (*process, *tls.Config, string) {
	t.Helper()
	dir := t.TempDir()
	ca, err := edgetls.OpenLocalCA(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue("edge", hosts...); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"edge.yaml": conf, "rules.yaml": rules} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := launch(name, dir, nil, "run", "--config", "edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("%v\n%s", err, p.logged())
		}
	})
	return p, &tls.Config{ServerName: hosts[0], RootCAs: ca.Pool()}, dir
}

// records shows why something was refused.
func (e *clientsEdge) records() string {
	block, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(e.ca)), "state", "log", "block.jsonl"))
	return string(block)
}

// run runs a client and returns what it printed.
func (e *clientsEdge) run(t *testing.T, command string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(command); err != nil {
		t.Fatalf("%v; make clients installs it", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Env = append(os.Environ(), "EDGE_URL="+e.base, "EDGE_CA="+e.ca, "REQUESTS_CA_BUNDLE="+e.ca, "NODE_EXTRA_CA_CERTS="+e.ca, "PYTHONIOENCODING=utf-8", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s\n%s", command, strings.Join(args, " "), err, out, e.records())
	}
	return string(out)
}

// What honest programs send passes, with everything on.
func TestClients(t *testing.T) {
	e := startForClients(t)
	script := func(name string) string { return filepath.Join("../../testdata/clients", name) }
	t.Run("real", func(t *testing.T) {
		for name, command := range map[string][]string{
			"python":   {"/usr/bin/python3", script("python.py")},
			"requests": {"/usr/bin/python3", script("python_requests.py")},
			"aiohttp":  {"/usr/bin/python3", script("python_aiohttp.py")},
			"node":     {"node", script("node.mjs")},
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); e.run(t, command[0], command[1:]...) })
		}
		t.Run("browser", func(t *testing.T) { t.Parallel(); e.browse(t) })
		t.Run("curl", func(t *testing.T) { t.Parallel(); e.curl(t) })
		t.Run("go", func(t *testing.T) { t.Parallel(); e.goClient(t) })
		t.Run("dotnet", func(t *testing.T) { t.Parallel(); e.dotnet(t) })
		t.Run("resumable", func(t *testing.T) { t.Parallel(); e.resume(t) })
	})
}

// browse opens a page in Chromium that does what pages do, and reports.
func (e *clientsEdge) browse(t *testing.T) {
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Fatalf("%v; make clients installs it", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
		"--no-first-run", "--ignore-certificate-errors", "--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", e.base+"/browser")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var report string
	select {
	case report = <-e.app.reports:
	case <-time.After(time.Minute):
	}
	cancel()
	_ = cmd.Wait() // it was told to stop
	if report == "" || strings.Contains(report, "FAILED") {
		t.Errorf("the page reported %q\n%s\n%s", report, out.String(), e.records())
	}
	t.Log(report)
}

func (e *clientsEdge) curl(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, `{"note":"from a gzip"}`)
	_ = z.Close()
	pdf, large, packed := file("doc.pdf", []byte("%PDF-1.7")), file("large", make([]byte, 3<<20)), file("packed", zipped.Bytes())
	text := file("text", []byte(`{"note":"`+strings.Repeat("Ordinary words. ", 204*1024/16)+`"}`)) // 80 % of the limit
	for _, version := range []string{"--http1.1", "--http2"} {
		for _, c := range []struct {
			args []string
			want string
		}{
			{[]string{"/form?q=O%27Brien+%26+S%C3%B8n"}, "field q: O'Brien & Søn"},
			{[]string{"/form?return=%2Ftimesheets%2F7%3Fweek%3D12%26view%3Dday"}, "field return: /timesheets/7?week=12&view=day"},
			{[]string{"-F", "document=@" + pdf + `;filename="Lebenslauf Jörg Müller.pdf"`, "-F", "note=it's 50 % & more 🎉", "/form"}, "file document: Lebenslauf Jörg Müller.pdf, 8 bytes"},
			{[]string{"-F", "document=@" + pdf + `;filename="O'Brien & Co.pdf"`, "/form"}, "file document: O'Brien & Co.pdf, 8 bytes"},
			{[]string{"-F", "document=@" + pdf + `;filename="the \"final\" one.pdf"`, "/form"}, `the %22final%22 one.pdf, 8 bytes`},
			{[]string{"-F", "document=@" + large + ";type=application/octet-stream", "/upload"}, "3145728 bytes"},
			{[]string{"-T", large, "-H", "Content-Type: application/octet-stream", "/upload"}, "body: 3145728 bytes"},
			{[]string{"-T", "-", "-H", "Content-Type: application/octet-stream", "/upload"}, "body: 0 bytes"},
			{[]string{"--compressed", "/compressed"}, "decompressed"},
			{[]string{"--json", "@" + text, "/json"}, "Ordinary words"},
			{[]string{"--json", "@" + packed, "-H", "Content-Encoding: gzip", "/json"}, "from a gzip"},
			{[]string{"--json", `{"a":"b"}`, "-H", "Transfer-Encoding: chunked", "/json"}, `"b"`},
			{[]string{"--json", `{"a":"b"}`, "-H", "Expect: 100-continue", "/json"}, `"b"`},
			{[]string{"-X", "PATCH", "--json", `{"note":"A&B, 50 %, it’s"}`, "/json"}, "A&B"},
			{[]string{"-X", "DELETE", "-i", "/json"}, " 204"},
			{[]string{"-I", "/form"}, " 200"},
			{[]string{"-H", "Authorization: Bearer eyJ" + strings.Repeat("aB3_", 512), "-b", "a=" + strings.Repeat("x", 1000) + "; b=" + strings.Repeat("y", 1000), "/form"}, "GET /form"},
			{[]string{"-H", "Host: LOCALHOST", "/form"}, "GET /form"},
			{[]string{"-H", "Host: localhost:443", "/form"}, "GET /form"},
			{[]string{"--data-urlencode", "note=50 % of A&B = ½ 🎉", "/form"}, "field note: 50 % of A&B = ½ 🎉"},
		} {
			last := len(c.args) - 1
			args := append([]string{"-sS", "--fail-with-body", "--max-time", "20", "--cacert", e.ca, version}, c.args[:last]...)
			if out := e.run(t, "curl", append(args, e.base+c.args[last])...); !strings.Contains(out, c.want) {
				t.Errorf("%s %s: %.300s, without %q", version, strings.Join(c.args, " "), out, c.want)
			}
		}
	}
}

// goClient is the client of net/http.
func (e *clientsEdge) goClient(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: e.tls.Clone(), ForceAttemptHTTP2: h2}}
		send := func(method, path, kind string, body io.Reader, want string) {
			t.Helper()
			r, err := http.NewRequest(method, e.base+path, body)
			if err != nil {
				t.Fatal(err)
			}
			if r.Header.Set("Content-Type", kind); kind == "" {
				r.Header.Del("Content-Type")
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			defer res.Body.Close()
			got, _ := io.ReadAll(res.Body)
			if res.ProtoMajor == 2 != h2 || res.StatusCode >= 400 || !strings.Contains(string(got), want) {
				t.Errorf("%s %s: %s %s %.300s, without %q", method, path, res.Proto, res.Status, got, want)
			}
		}
		var form bytes.Buffer
		m := multipart.NewWriter(&form)
		part, _ := m.CreateFormFile("document", "Résumé O'Brien 契約書.pdf")
		_, _ = io.WriteString(part, "%PDF-1.7")
		_ = m.WriteField("note", "50 % of A&B 🎉")
		_ = m.Close()
		chunked := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
		send("POST", "/form", m.FormDataContentType(), bytes.NewReader(form.Bytes()), "file document: Résumé O'Brien 契約書.pdf, 8 bytes")
		send("POST", "/upload", m.FormDataContentType(), chunked(form.String()), "field note: 50 % of A&B 🎉")
		send("POST", "/json", "application/json", chunked(`{"a":"chunked"}`), "chunked")
		send("PUT", "/json", "application/json; charset=utf-8", strings.NewReader(`{"a":"é"}`), "é")
		send("GET", "/compressed", "", nil, "decompressed")
		send("GET", "/form", "", nil, "GET /form")
		c.CloseIdleConnections()
	}
}

// dotnet sends what HttpClient's MultipartFormDataContent makes of a file, byte for
// byte: it waits to be told to go on, quotes the boundary but not the names of
// fields, and says a name that is not ASCII twice.
func (e *clientsEdge) dotnet(t *testing.T) {
	for _, c := range []struct {
		disposition string
		taken       bool
	}{
		{"form-data; name=file; filename=report.pdf", true},
		{`form-data; name=file; filename="the report.pdf"`, true},
		{`form-data; name=file; filename="=?utf-8?B?UsOpc3Vtw6kucGRm?="; filename*=utf-8''R%C3%A9sum%C3%A9.pdf`, extendedNames},
	} {
		body := "--f2f6c1a5-7c35-4b1a-a7a6-d0b1a6d0f1c2\r\nContent-Type: application/pdf\r\nContent-Disposition: " + c.disposition +
			"\r\n\r\n%PDF-1.7\r\n--f2f6c1a5-7c35-4b1a-a7a6-d0b1a6d0f1c2--\r\n"
		conn, err := tls.Dial("tcp", e.addr, e.tls)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = fmt.Fprintf(conn, "POST /form HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\n"+
			"Content-Type: multipart/form-data; boundary=\"f2f6c1a5-7c35-4b1a-a7a6-d0b1a6d0f1c2\"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", strings.TrimPrefix(e.base, "https://"), len(body))
		goOn := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
		if _, err := io.ReadFull(conn, goOn); err != nil || !strings.HasPrefix(string(goOn), "HTTP/1.1 100") {
			t.Errorf("%s: not told to go on: %q %v", c.disposition, goOn, err)
			continue
		}
		_, _ = io.WriteString(conn, body)
		answer, _ := io.ReadAll(conn)
		if got := strings.Contains(string(answer), "8 bytes"); got != c.taken {
			t.Errorf("%s: %s", c.disposition, answer)
		}
	}
}

// resume uploads in pieces, loses the connection in the middle of one, asks how far
// it got and goes on from there.
func (e *clientsEdge) resume(t *testing.T) {
	data := bytes.Repeat([]byte("resumable uploads survive a tunnel. "), 40_000)
	for _, h2 := range []bool{false, true} {
		c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: e.tls.Clone(), ForceAttemptHTTP2: h2}}
		send := func(method, path string, body io.Reader, header ...string) (*http.Response, error) {
			r, err := http.NewRequest(method, e.base+path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Tus-Resumable", "1.0.0")
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			res, err := c.Do(r)
			if err == nil {
				_ = res.Body.Close()
			}
			return res, err
		}
		res, err := send("POST", "/resumable/", nil, "Upload-Length", fmt.Sprint(len(data)), "Upload-Metadata", "filename UsOpc3Vtw6kucGRm,is_confidential")
		if err != nil || res.StatusCode != http.StatusCreated {
			t.Fatalf("creation: %v %v", res, err)
		}
		location, interruptions := res.Header.Get("Location"), 0
		for at, tries := 0, 0; at < len(data) && tries < 20; tries++ {
			piece := data[at:min(at+500_000, len(data))]
			var body io.Reader = bytes.NewReader(piece)
			if interruptions == 0 && at > 0 {
				interruptions++
				body = io.MultiReader(bytes.NewReader(piece[:200_000]), brokenReader{})
			}
			res, err := send("PATCH", location, body, "Content-Type", "application/offset+octet-stream", "Upload-Offset", fmt.Sprint(at))
			if err == nil && res.StatusCode == http.StatusNoContent {
				at += len(piece)
				continue
			}
			if res, err = send("HEAD", location, nil); err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("HEAD: %v %v", res, err)
			}
			now, _ := strconv.Atoi(res.Header.Get("Upload-Offset"))
			t.Logf("h2 %v: interrupted, on from %d", h2, now)
			at = now
		}
		e.app.mu.Lock()
		if interruptions != 1 || !bytes.Equal(e.app.kept, data) {
			t.Errorf("%d interruptions, %d bytes of %d", interruptions, len(e.app.kept), len(data))
		}
		e.app.mu.Unlock()
		c.CloseIdleConnections()
	}
}

// brokenReader is where a client loses its connection.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
