package proxy

import (
	"net/http"
	"slices"
	"strings"

	"edge/config"
)

// spoofable are headers by which applications recognise who is calling, over what,
// or what was asked for. Only the edge may set them: whatever sends one, a client or
// a proxy that passes on what clients send, it is taken out.
//
// Left alone are what applications verify themselves (Authorization, Cookie), what
// names nobody (Via, Accept-*, Sec-*, tracing), and names that applications make up
// for themselves, such as X-User-Id.
var spoofable = []string{
	// The client's address.
	"Forwarded", "X-Forwarded", "X-Forward-For", "X-Forwared-For", "X-Ip", "X-Proxyuser-Ip", "Cdn-Src-Ip", "Ali-Cdn-Real-Ip", "X-Originating-Ip",
	"X-Sucuri-Clientip", "X-Custom-Ip-Authorization", "X-Coming-From",
	// Who is calling, as a gateway that signs people in says it.
	"Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups", "X-Authenticated-User", "X-Authenticated-Userid", "X-Authenticated-Groups",
	"X-Consumer-Id", "X-Consumer-Username", "X-Consumer-Custom-Id", "X-Credential-Identifier", "X-Anonymous-Consumer", "X-Goog-Authenticated-User-Email",
	"X-Goog-Authenticated-User-Id", "X-Proxy-User", "Proxy-User",
	"Auth-User", "X-Auth-User", "X-Auth-Username", "X-Auth-Name", "X-Auth-Email", "X-Auth-Groups", "X-Sso-User",
	// The client's certificate (RFC 9440 and what was there before).
	"Client-Cert", "Client-Cert-Chain", "X-Client-Cert", "X-Client-Certificate", "X-Client-Verify", "X-Client-Dn",
	// What was asked for, and how.
	"X-Host", "X-Http-Destinationurl", "X-Scheme", "X-Url-Scheme", "X-Url", "X-Http-Method", "X-Script-Name", "X-Replaced-Path", "X-Proxy-Url",
	"Proxy-Url", "Proxy-Host", "Base-Url", "Http-Url", "Request-Uri", "Front-End-Https", "Http2-Settings",
	// What programs take for their own surroundings: HTTP_PROXY of CGI, a framework's own sub-requests.
	"Proxy", "X-Middleware-Subrequest",
}

// spoofableFamilies are such headers by what their names begin with.
var spoofableFamilies = []string{
	"X-Forwarded-", "X-Original-", "X-Real-", "X-Accel-", "X-Sendfile", "X-Envoy-", "X-Arr-", "Cf-", "Fastly-", "X-Azure-", "Wl-Proxy-",
	"X-Remote-User", "X-Remote-Group", "X-Remote-Extra-", "X-Auth-Request-", "X-Webauth-", "X-Authentik-", "X-Vouch-", "X-Pomerium-", "Tailscale-User-",
	"X-Ms-Client-Principal", "X-Amzn-Oidc-", "X-Amzn-Mtls-", "X-Ssl-", "Ssl-Client-", "X-Tls-Client-",
}

// spoofableEndings are such headers by what their names end with, whoever it is they
// are put in front of: X-, HTTP-X-, Proxy- or the name of a product.
var spoofableEndings = []string{
	"Forwarded-For", "Client-Ip", "Remote-Ip", "Remote-Addr", "Remote-User", "Source-Ip", "User-Ip", "True-Ip", "Trusted-Ip", "Host-Ip", "Via-Ip",
	"Method-Override", "Path-Override", "Host-Override", "Url-Override", "Original-Url", "Rewrite-Url",
}

// spoofs says that a header, by its canonical name, is for the edge to set. Names
// with an underscore are, since many applications take X_Real_Ip for X-Real-Ip.
func spoofs(name string) bool {
	return strings.Contains(name, "_") || slices.Contains(spoofable, name) ||
		slices.ContainsFunc(spoofableFamilies, func(family string) bool { return strings.HasPrefix(name, family) }) ||
		slices.ContainsFunc(spoofableEndings, func(end string) bool { return strings.HasSuffix(name, end) })
}

// stripIdentity takes out of h, which goes to the application, what clients say
// about who they are: what spoofs, what the operator says holds their address, and
// a tenant's name that no trusted proxy has sent.
func (x *exchange) stripIdentity(h http.Header) {
	for name := range h {
		if spoofs(http.CanonicalHeaderKey(name)) {
			delete(h, name)
		}
	}
	h.Del(x.snap.origin.header)
	if x.app.tenant.From == config.Header && !x.proxied {
		h.Del(x.app.tenant.Header)
	}
}
