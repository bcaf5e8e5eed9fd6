package main_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"edge/blocklog"
	"edge/internal/demo"
	edgetls "edge/tls"
)

// Two hundred reloads under load: no request fails, no WebSocket drops, every
// event is of the generation it says, and one engine is left.
func TestReloadUnderLoad(t *testing.T) {
	app := httptest.NewServer(demo.Apps()[1].Handler)
	t.Cleanup(app.Close)
	dir := t.TempDir()
	ca, err := edgetls.OpenLocalCA(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue("edge", "track.test"); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rules.yaml", "waf: {mode: block}\n")
	write("edge.yaml", fmt.Sprintf(`
listen: {https: "127.0.0.1:0", admin: "127.0.0.1:0"}
tls: {files: [{cert: ca/edge.pem, key: ca/edge.key}]}
state: {dir: state}
apps: [{name: track, hosts: [track.test], upstream: "%s", rules: [rules.yaml], http: {websocket: on}}]
`, app.URL))
	p, err := launch("edge", dir, nil, "run", "--config", "edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{ServerName: "track.test", RootCAs: ca.Pool()}
	visitor := func(h2 bool) *http.Client {
		return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			TLSClientConfig: conf.Clone(), ForceAttemptHTTP2: h2,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, p.addr)
			},
		}}
	}

	var stop atomic.Bool
	var served atomic.Int64
	var visitors sync.WaitGroup
	for i := range 4 {
		c := visitor(i%2 == 0)
		visitors.Go(func() {
			for !stop.Load() {
				for _, query := range []string{"?q=hello", "?q=<script>"} {
					res, err := c.Get("https://track.test/" + query)
					if err != nil {
						t.Errorf("a request failed: %v", err)
						return
					}
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if err != nil || res.StatusCode != 200 && (res.StatusCode != 403 || query == "?q=hello") {
						t.Errorf("%s: status %d, %v", query, res.StatusCode, err)
					}
					served.Add(1)
				}
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sockets := make([]*websocket.Conn, 5)
	for i := range sockets {
		if sockets[i], _, err = websocket.Dial(ctx, "wss://track.test/live", &websocket.DialOptions{HTTPClient: visitor(false)}); err != nil {
			t.Fatal(err)
		}
		defer sockets[i].CloseNow()
	}

	const reloads = 200
	before := resident(t, p)
	for n := 2; n < reloads+2; n++ { // odd generations block, even ones detect
		write("rules.yaml", fmt.Sprintf("# %d\nwaf: {mode: %s}\n", n, []string{"detect", "block"}[n%2]))
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if err := p.await(fmt.Sprintf(`"msg":"reloaded".*"generation":%d,"engines":1`, n)); err != nil {
			t.Fatal(err)
		}
		for _, s := range sockets {
			if err := s.Write(ctx, websocket.MessageText, []byte("still here?")); err != nil {
				t.Fatalf("a WebSocket is gone: %v", err)
			}
			if _, _, err := s.Read(ctx); err != nil {
				t.Fatalf("a WebSocket is gone: %v", err)
			}
		}
	}
	stop.Store(true)
	visitors.Wait()
	if after := resident(t, p); after > before*3/2+64<<10 {
		t.Errorf("%d KB resident before, %d after", before, after)
	}
	for _, s := range sockets {
		s.CloseNow()
	}
	if err := p.stop(); err != nil {
		t.Fatalf("%v\n%s", err, p.logged())
	}
	t.Logf("%d requests over %d reloads", served.Load(), reloads)
	checkGenerations(t, filepath.Join(dir, "state", "log", blocklog.BlockFile), reloads+1)
}

// resident is the memory of an edge in KB.
func resident(t *testing.T, p *process) (kb int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(after, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}

// checkGenerations holds each event against what its generation does.
func checkGenerations(t *testing.T, path string, last uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	seen := map[uint64]bool{}
	for lines.Scan() {
		var e blocklog.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		g := e.Edge.Generation
		want := []blocklog.Action{blocklog.Detect, blocklog.Deny}[g%2]
		status := map[blocklog.Action]int{blocklog.Detect: 200, blocklog.Deny: 403}[want]
		if g == 0 || g > last || e.Edge.Action != want || e.HTTP.Response.Status != status {
			t.Errorf("generation %d: %s with status %d", g, e.Edge.Action, e.HTTP.Response.Status)
		}
		seen[g] = true
	}
	if len(seen) < 10 {
		t.Errorf("events of only %d generations", len(seen))
	}
}
