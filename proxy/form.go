package proxy

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"edge/blocklog"
	"edge/config"
	"edge/form"
)

// This file brings a request into the one form in which it is routed, matched,
// counted, inspected and forwarded, and refuses what has no such form.

// deny is a refusal with a status.
func deny(reason blocklog.Reason, status int, format string, args ...any) blocklog.Decision {
	return blocklog.Decision{Action: blocklog.Deny, Reason: reason, Status: status, Detail: fmt.Sprintf(format, args...)}
}

// faulty is a refusal for what form found, if anything.
func faulty(f *form.Fault) (pass blocklog.Decision) {
	if f == nil {
		return pass
	}
	return deny(f.Reason, f.Status, "%s", f.Detail)
}

// readTarget finds out what is asked for. What is wrong with the target, if anything,
// is for checkForm to say.
func (x *exchange) readTarget() {
	strict := x.app == nil || x.app.http.Targets != config.Relaxed // what no app answers to has no say
	t, f := form.ParseTarget(x.r.RequestURI, strict)
	if f != nil { // it goes nowhere; a record of it still has a path
		t = form.Target{Raw: x.r.RequestURI, Path: path.Clean("/" + x.r.URL.Path), Query: x.r.URL.RawQuery}
	}
	x.target, x.misread = t, f
}

// checkForm refuses requests whose form leaves open what they ask for, whoever
// they are for.
func (s *Server) checkForm(x *exchange) (pass blocklog.Decision) {
	switch {
	case x.r.Method == http.MethodConnect:
		return deny(blocklog.ReasonBadTarget, http.StatusBadRequest, "CONNECT asks for a tunnel, and the edge digs none")
	case x.misread != nil:
		return faulty(x.misread)
	case x.expect != "" && !strings.EqualFold(x.expect, "100-continue"): // which in HTTP/2 nobody has looked at
		return deny(blocklog.ReasonBadExpect, http.StatusExpectationFailed, "Expect is %.40q, and 100-continue is all there is", x.expect)
	case x.target.Raw == "*" && x.r.Method != http.MethodOptions:
		return deny(blocklog.ReasonBadTarget, http.StatusBadRequest, "* is for OPTIONS")
	case nominates(x.r.Header) != "":
		return deny(blocklog.ReasonBadConnection, http.StatusBadRequest, "Connection names %q, which is not for one hop", nominates(x.r.Header))
	case http2Form(x.r) != "":
		return deny(blocklog.ReasonBadHeader, http.StatusBadRequest, "%s", http2Form(x.r))
	case x.host == "":
		return deny(blocklog.ReasonBadHost, http.StatusBadRequest, "the host is none")
	}
	return faulty(form.Headers(x.r.Header, x.r.ProtoMajor))
}

// checkApp holds the head of a request to what the app takes.
func (s *Server) checkApp(x *exchange) (pass blocklog.Decision) {
	for _, check := range []func(*exchange) blocklog.Decision{checkMethod, checkCookies, checkType, s.checkUpgrade} {
		if d := check(x); d.Action != blocklog.Pass {
			return d
		}
	}
	return pass
}

// checkMethod refuses methods the app does not take, and bodies where none has a
// meaning (RFC 9110 §9.3.1).
func checkMethod(x *exchange) (pass blocklog.Decision) {
	if x.app.http.Methods == config.Relaxed {
		return pass
	}
	if !slices.Contains(x.app.methods, x.r.Method) {
		return deny(blocklog.ReasonBadMethod, http.StatusMethodNotAllowed, "the app does not take %.40q (waf.methods)", x.r.Method)
	}
	if x.unread && (x.r.Method == http.MethodGet || x.r.Method == http.MethodHead) {
		return deny(blocklog.ReasonBadMethod, http.StatusBadRequest, "a %s has a body", x.r.Method)
	}
	return pass
}

// checkCookies makes one line of all cookies, in HTTP/2 as in HTTP/1.
func checkCookies(x *exchange) (pass blocklog.Decision) {
	lines := x.r.Header.Values("Cookie")
	if len(lines) == 0 {
		return pass
	}
	joined, f := form.Cookies(lines)
	if f != nil && x.app.http.Cookies != config.Relaxed {
		return faulty(f)
	}
	if f != nil {
		joined = strings.Join(lines, "; ")
	}
	x.r.Header.Set("Cookie", joined)
	return pass
}

// checkType refuses bodies the app does not take, and notes how others are read.
func checkType(x *exchange) (pass blocklog.Decision) {
	if !x.unread {
		return pass
	}
	coding, f := form.Coding(x.r.Header.Values("Content-Encoding"))
	if f != nil {
		return faulty(f)
	}
	x.coding = coding
	x.kind, f = form.ContentType(x.r.Header.Values("Content-Type"), x.app.http.Charsets)
	if x.app.http.Types == config.Relaxed {
		return pass
	}
	switch {
	case f != nil:
		return faulty(f)
	case x.kind.Kind == form.None:
		return deny(blocklog.ReasonBodyType, http.StatusUnsupportedMediaType, "there is a body and no Content-Type")
	case !slices.Contains(x.app.types, x.kind.Media):
		return deny(blocklog.ReasonBodyType, http.StatusUnsupportedMediaType, "the app does not take %.60q (waf.content_types)", x.kind.Media)
	}
	return pass
}
