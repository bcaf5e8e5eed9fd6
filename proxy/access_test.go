package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edge/access"
	"edge/blocklog"
	"edge/config"
	"edge/rules"
)

// accessRules are the policy of an app with these rules, and with an app that
// trusts these addresses.
func accessRules(t *testing.T, text, trust string) *access.Policy {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"rules.yaml": "access: [" + text + "]\n",
		"edge.yaml": "tls: {files: [{cert: a, key: a}]}\ntrust: [" + trust + "]\n" +
			"apps: [{name: hr, hosts: [hr.test], upstream: \"http://127.0.0.1:1\", rules: [rules.yaml]}]\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(filepath.Join(dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load(c.Apps[0].Rules)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := new(access.Lists).Load(c, map[string]rules.Set{"hr": set})
	if err != nil {
		t.Fatal(err)
	}
	return policies["hr"]
}

// govern puts the edge under other access rules, as a reload does.
func (e *edge) govern(p *access.Policy) {
	e.t.Helper()
	old := e.current.Load()
	next := &Snapshot{generation: old.generation + 1, exact: map[string]*app{}, wild: map[string]*app{}, redact: old.redact, origin: old.origin}
	next.uses.Store(1)
	for host, a := range old.exact {
		b := *a
		b.access, b.waf, b.mode = p, nil, rules.Off
		next.exact[host] = &b
	}
	e.Swap(next)
}

// An address that is taken off a list is refused at the next request on a
// connection that is open, over both protocols.
func TestRemovedAddress(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		e := start(t, ok, rules.Off)
		e.govern(accessRules(t, "{name: only-us, allow: [127.0.0.1]}", ""))
		front := httptest.NewUnstartedServer(e)
		front.EnableHTTP2 = h2
		front.StartTLS()
		t.Cleanup(front.Close)
		ask := func() (res *http.Response, reused bool) {
			req, err := http.NewRequest("GET", front.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "hr.test"
			req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}))
			res, err = front.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			return res, reused
		}
		if res, _ := ask(); res.StatusCode != http.StatusOK {
			t.Fatalf("before: %s", res.Status)
		}
		e.govern(accessRules(t, "{name: only-us, allow: [127.0.0.2]}", ""))
		if res, reused := ask(); res.StatusCode != http.StatusForbidden || !reused || (res.ProtoMajor == 2) != h2 {
			t.Errorf("after: %s %s, the same connection %v", res.Proto, res.Status, reused)
		}
	}
}

// A refusal comes before limits and the body, and whatever the method; it says
// neither which rule it is nor that it looks like an attack.
func TestAddressRefused(t *testing.T) {
	seen := false
	e := start(t, func(http.ResponseWriter, *http.Request) { seen = true }, rules.Off)
	e.govern(accessRules(t, `{name: no-locals, deny: ["127.0.0.0/8 # quite near"]}`, ""))
	for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "DELETE", "PROPFIND"} {
		res := e.do(method, "/", strings.NewReader(strings.Repeat("x", 2<<10)))
		text, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusForbidden || strings.Contains(string(text), "attack") || strings.Contains(string(text), "locals") {
			t.Errorf("%s: %s\n%s", method, res.Status, text)
		}
		events := e.events(res.Header.Get("X-Request-Id"))
		ev := events[len(events)-1]
		if ev.Edge.Stage != blocklog.StageAccess || ev.Edge.Reason != blocklog.ReasonDenied || ev.Rule.ID != "no-locals" ||
			ev.Edge.Detail != "127.0.0.1 is in the deny list: 127.0.0.0/8 # quite near" || ev.HTTP.Response.Status != 403 {
			t.Errorf("%+v", ev)
		}
	}
	if seen {
		t.Error("the application was asked")
	}
}

// In detect mode the request passes and the record says what would have been.
func TestAddressNoted(t *testing.T) {
	e := start(t, ok, rules.Off)
	e.govern(accessRules(t, "{name: nobody, mode: detect, allow: []}", ""))
	res := e.do("GET", "/", nil)
	events := e.events(res.Header.Get("X-Request-Id"))
	if res.StatusCode != http.StatusOK || len(events) != 1 || events[0].Edge.Action != blocklog.Detect || events[0].Edge.Reason != blocklog.ReasonNotAllowed {
		t.Errorf("%s, %+v", res.Status, events)
	}
}

func TestTrusted(t *testing.T) {
	p := accessRules(t, "", "10.1.0.0/16, 10.2.0.0/16 until 2027-02-28")
	for client, want := range map[string]bool{"10.1.0.1": true, "::ffff:10.1.0.1": true, "10.2.0.1": false, "10.3.0.1": false} {
		x := &exchange{app: &app{access: p}, client: netip.AddrPortFrom(netip.MustParseAddr(client), 1), started: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)}
		if x.trusted() != want {
			t.Errorf("%s: %v", client, !want)
		}
	}
	if (&exchange{app: &app{access: p}}).trusted() || (&exchange{app: &app{}}).trusted() {
		t.Error("nobody is trusted")
	}
}

// Where an app is relaxed about targets, a rule holds for a path however it may be
// read: as it is written, and as it is resolved.
func TestAccessInEveryReading(t *testing.T) {
	e := start(t, ok, rules.Off, relaxed)
	e.govern(accessRules(t, "{name: office, match: {path: \"/admin/**\"}, allow: [192.0.2.1]}", ""))
	for target, want := range map[string]int{
		"/admin/x": 403, "/admin/..;/x": 403, "/admin/%2e%2e/x": 403, "/admin/..%2fx": 403, "/admin/..%5cx": 403, "/admin/%2e%2e%3bz/x": 403,
		"/x/../admin/y": 403, "/x;/%2e%2e/admin": 403, "/%61dmin/": 403, "/x/../y": 200, "/administration": 200,
	} {
		res := exchangeRaw(t, e.url, "GET "+target+" HTTP/1.1\r\nHost: hr.test\r\nConnection: close\r\n\r\n", false)
		if !strings.HasPrefix(res, fmt.Sprintf("HTTP/1.1 %d ", want)) {
			t.Errorf("%s: %.40q, want %d", target, res, want)
		}
	}
}
