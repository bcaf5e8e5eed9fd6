package proxy

import (
	"net/http"

	"edge/blocklog"
	"edge/rules"
)

// readings are the requests that x may be to its application, for rules to match:
// one, unless the app is relaxed about targets and this one has several.
func (x *exchange) readings() []rules.Request {
	r := rules.Request{Method: x.r.Method, Tenant: x.tenant, Path: x.target.Path}
	if x.target.Plain == r.Path || x.target.Plain == "" {
		return []rules.Request{r}
	}
	plain := r
	plain.Path = x.target.Plain
	return []rules.Request{r, plain}
}

// checkAccess refuses addresses that may not ask for this, in any reading of it.
func (s *Server) checkAccess(x *exchange) (first blocklog.Decision) {
	for _, r := range x.readings() {
		d := x.judgeAccess(r)
		if d.Action == blocklog.Deny {
			return d
		}
		if first.Action == blocklog.Pass {
			first = d
		}
	}
	return first
}

func (x *exchange) judgeAccess(r rules.Request) (pass blocklog.Decision) {
	v := x.app.access.Judge(r, x.client.Addr(), x.started)
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
