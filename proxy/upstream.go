package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"

	"edge/answer"
	"edge/blocklog"
)

// spoofable are headers by which applications recognise who is calling or what
// was asked for. Only the edge may set them. The reverse proxy itself takes out
// Forwarded and X-Forwarded-*, and all that is hop by hop.
var spoofable = []string{
	"X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Cluster-Client-Ip",
	"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Prefix", "X-Forwarded-Port", "X-Host", "X-Original-Host",
	"X-Forwarded-User", "Remote-User", "X-Remote-User",
	"Http2-Settings",
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
}

// hops are what a Connection header may name (RFC 9110 §7.6.1): options, and fields
// that are for one hop only.
var hops = []string{"close", "keep-alive", "upgrade", "te", "trailer", "http2-settings", "proxy-connection", "transfer-encoding"}

// nominates returns the first field that a Connection header names though it is
// meant for the application, or "". What is named there is taken out on the way,
// and clients must not choose what the application does not get to see.
func nominates(h http.Header) string {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !slices.Contains(hops, name) {
				return name
			}
		}
	}
	return ""
}

// reverseProxy carries x to its application and back.
func (s *Server) reverseProxy(x *exchange) *httputil.ReverseProxy {
	x.forwarded = time.Now()
	return &httputil.ReverseProxy{
		Transport: x.app.upstream,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.RawQuery = x.r.URL.RawQuery // what was inspected, and not what the proxy would make of it
			pr.Out.Host = x.r.Host
			for _, name := range spoofable {
				pr.Out.Header.Del(name)
			}
			for name := range pr.Out.Header {
				if strings.Contains(name, "_") { // many applications take X_Real_Ip for X-Real-Ip
					delete(pr.Out.Header, name)
				}
			}
			if !strings.EqualFold(pr.Out.Header.Get("Upgrade"), "websocket") {
				pr.Out.Header.Del("Connection")
				pr.Out.Header.Del("Upgrade")
			}
			if x.app.readsAnswers {
				pr.Out.Header.Del("Accept-Encoding") // what is to be inspected must be readable
			}
			pr.Out.Header.Set("X-Forwarded-For", x.client.Addr().String())
			pr.Out.Header.Set("X-Forwarded-Host", x.r.Host)
			pr.Out.Header.Set("X-Forwarded-Proto", "https")
			pr.Out.Header.Set("X-Real-Ip", x.client.Addr().String())
			pr.Out.Header.Set("X-Request-Id", x.id)
		},
		ModifyResponse: func(res *http.Response) error { return s.answered(x, res) },
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { s.failed(x, err) },
		ErrorLog:       s.stdLog,
	}
}

// statusClientGone is what nginx, and so every log reader, calls a request whose
// client left. Nobody is there to receive it.
const statusClientGone = 499

// refusal carries a decision about an answer out of ModifyResponse.
type refusal struct{ blocklog.Decision }

func (r refusal) Error() string { return string(r.Reason) }

// answered looks at the head of an answer before the client gets it.
func (s *Server) answered(x *exchange, res *http.Response) error {
	x.spent(blocklog.StageUpstream, x.forwarded)
	if res.StatusCode != http.StatusSwitchingProtocols {
		idle := x.app.idle
		if kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";"); kind == "text/event-stream" {
			idle = 0
		}
		x.watch = newWatch(res.Body, idle, s.stall, x.w)
		res.Body = x.watch
	}
	switch d := x.judgeResponse(res); d.Action {
	case blocklog.Pass:
	case blocklog.Detect:
		x.note(d)
	default:
		return refusal{d}
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.closeTransaction() // a socket may live for days; its inspection ends here
	} else {
		x.headers().apply(res.Header) // a handshake stays as the two agree on it
		x.watch.giveTo(x.heldAnswer)
	}
	res.Header.Set("X-Request-Id", x.id)
	x.leaveBody(res.Header)
	x.status = res.StatusCode
	return nil
}

// failed answers for an application that did not.
func (s *Server) failed(x *exchange, err error) {
	if x.status == 0 && x.took[blocklog.StageUpstream] == 0 {
		x.spent(blocklog.StageUpstream, x.forwarded)
	}
	d := blocklog.Decision{
		Action: blocklog.Fail, Stage: blocklog.StageUpstream, Reason: blocklog.ReasonUpstream,
		Status: http.StatusBadGateway, Detail: "the application could not be reached",
	}
	var refused refusal
	var timeout net.Error
	var bad *answer.Malformed
	switch {
	case errors.As(err, &refused):
		d = refused.Decision
	case x.upload.broke() != nil:
		d.Action, d.Stage, d.Reason, d.Status = blocklog.Deny, blocklog.StageBody, blocklog.ReasonBodyIncomplete, http.StatusBadRequest
		d.Detail = "the body ended or broke before it was through"
	case errors.Is(err, context.Canceled) && x.r.Context().Err() != nil:
		d.Reason, d.Detail = blocklog.ReasonClientGone, "the client left before the application answered"
		d.Status = statusClientGone
	case errors.As(err, &bad):
		d.Reason, d.Detail = blocklog.ReasonUpstreamMalformed, bad.What
	case errors.As(err, &timeout) && timeout.Timeout():
		d.Reason, d.Status, d.Detail = blocklog.ReasonUpstreamSlow, http.StatusGatewayTimeout, "the application did not begin to answer in time (answer_timeout)"
		if cannotConnect(err) {
			d.Detail = "the application could not be connected to in time (connect_timeout)"
		}
	}
	if d.Action == blocklog.Fail {
		x.blame(err)
	}
	s.refuse(x, d)
}
