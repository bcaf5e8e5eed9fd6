package proxy

import (
	"net/http"

	"edge/blocklog"
	"edge/rules"
)

// asked is x as rules match it: with both readings of its path, where the app is
// relaxed about targets and it has two.
func (x *exchange) asked() rules.Request {
	r := rules.Request{Method: x.r.Method, Tenant: x.tenant, Path: x.target.Path}
	if x.target.Plain != r.Path {
		r.Plain = x.target.Plain
	}
	return r
}

// checkAccess refuses addresses that may not ask for this.
func (s *Server) checkAccess(x *exchange) (pass blocklog.Decision) {
	v := x.app.access.Judge(x.asked(), x.client.Addr(), x.started)
	if v.Rule == "" {
		return pass
	}
	d := deny(blocklog.ReasonNotAllowed, http.StatusForbidden, "%s", v.Detail)
	if d.Rule.ID = v.Rule; v.Denied {
		d.Reason = blocklog.ReasonDenied
	}
	if !v.Enforce {
		d.Action = blocklog.Detect
	}
	return d
}

// trusted says that the client is never to be banned. It lets it do nothing else.
func (x *exchange) trusted() bool { return x.app.access.Trusts(x.client.Addr(), x.started) }
