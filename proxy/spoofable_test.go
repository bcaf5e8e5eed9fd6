package proxy

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"edge/config"
	"edge/rules"
)

// What the application is told about the client is what the edge knows; what does
// not name anybody arrives.
func TestForwardedHeaders(t *testing.T) {
	var got http.Header
	e := start(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }, rules.Off) // the WAF stops some of these by itself
	taken := append([]string{
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Port", "X-Forwarded-Scheme",
		"X-Forwarded-Ssl", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Access-Token", "X-Forwarded-Client-Cert",
		"X-Original-Url", "X-Original-Uri", "X-Original-Host", "X-Original-Forwarded-For", "X-Original-Method", "X-Real-Ip", "X-Real-Port",
		"X-Accel-Redirect", "X-Accel-Mapping", "X-Accel-Internal", "X-Sendfile-Type", "X-Envoy-External-Address", "X-Envoy-Internal", "X-Envoy-Original-Path",
		"X-Arr-Clientcert", "X-Arr-Ssl", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Ipcountry", "Cf-Visitor", "Cf-Access-Authenticated-User-Email",
		"Fastly-Client-Ip", "Fastly-Ssl", "X-Azure-Clientip", "X-Azure-Socketip", "Wl-Proxy-Client-Ip", "Wl-Proxy-Client-Cert", "Wl-Proxy-Ssl",
		"X-Remote-User", "X-Remote-Group", "X-Remote-Extra-Scopes", "X-Auth-Request-User", "X-Auth-Request-Email", "X-Webauth-User", "X-Authentik-Username",
		"X-Vouch-User", "X-Pomerium-Claim-Email", "Tailscale-User-Login", "X-Ms-Client-Principal", "X-Ms-Client-Principal-Name",
		"X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Data", "X-Amzn-Mtls-Clientcert", "X-Ssl-Client-Cert", "X-Ssl-Client-Verify", "X-Ssl-Client-S-Dn", "X-Ssl-Cipher",
		"Ssl-Client-Cert", "X-Tls-Client-Cert", "X-Request-Id", "X_Real_Ip", "X_Forwarded_For", "X-Forwarded_For", "Remote_user", "X-Tenant", "X-Address",
	}, spoofable...)
	kept := []string{
		"Via", "Authorization", "Cookie", "X-Amz-Cf-Id", "X-Amzn-Trace-Id", "Traceparent", "X-User-Id", "X-Requested-With", "X-Csrf-Token", "X-Api-Key",
		"X-Client-Id", "X-Client-Version", "Origin", "Referer", "Accept", "User-Agent", "Idempotency-Key", "X-Custom",
	}
	snap := e.current.Load()
	snap.origin = origin(t, "X-Address", "10.0.0.0/8")
	snap.exact["hr.test"].tenant = config.Tenant{From: config.Header, Header: "X-Tenant", Known: []string{"acme"}}
	for names := range slices.Chunk(taken, 30) { // a head has at most so many lines
		req, _ := http.NewRequest("GET", e.url+"/", nil)
		req.Host = "hr.test"
		for _, name := range names {
			req.Header[name] = []string{"evil", "evil=2"}
		}
		for _, name := range kept {
			req.Header.Set(name, "honest=1")
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatalf("status %d", res.StatusCode)
		}
		for name, values := range got {
			if strings.Contains(strings.Join(values, ""), "evil") {
				t.Errorf("%s: %v", name, values)
			}
		}
		for _, name := range kept {
			if got.Get(name) != "honest=1" {
				t.Errorf("%s: %q", name, got.Values(name))
			}
		}
		for name, want := range map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "hr.test", "X-Forwarded-Proto": "https",
			"X-Real-Ip": "127.0.0.1", "X-Request-Id": res.Header.Get("X-Request-Id"),
		} {
			if v := got.Values(name); len(v) != 1 || v[0] != want {
				t.Errorf("%s: %q, want %q", name, v, want)
			}
		}
	}
}

// A trusted proxy says whom a request is from, but not who that is or what it asked for.
func TestForwardedHeadersOfAProxy(t *testing.T) {
	var got http.Header
	e := start(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }, rules.Off)
	snap := e.current.Load()
	snap.origin = origin(t, config.ForwardedFor, "127.0.0.0/8")
	snap.exact["hr.test"].tenant = config.Tenant{From: config.Header, Header: "X-Tenant", Known: []string{"acme"}}
	req, _ := http.NewRequest("GET", e.url+"/", nil)
	req.Host = "hr.test"
	req.Header = http.Header{
		"X-Forwarded-For": {"1.2.3.4", "203.0.113.9:4711"}, "X-Forwarded-User": {"root"}, "X-Original-Url": {"/admin"}, "X-Tenant": {"acme"}, "X-Real-Ip": {"1.2.3.4"},
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for name, want := range map[string]string{
		"X-Forwarded-For": "203.0.113.9", "X-Real-Ip": "203.0.113.9", "X-Tenant": "acme", "X-Forwarded-User": "", "X-Original-Url": "",
	} {
		if v := strings.Join(got.Values(name), "|"); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
}
