package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"edge/blocklog"
)

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
			pr.Out.URL = x.target.URL() // what was inspected, and not what net/url would make of it
			pr.Out.Host = x.r.Host
			x.stripIdentity(pr.Out.Header)
			if x.socket == nil {
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

// Refusal returns the decision.
func (r refusal) Refusal() blocklog.Decision { return r.Decision }

// answered looks at the head of an answer before the client gets it.
func (s *Server) answered(x *exchange, res *http.Response) error {
	x.spent(blocklog.StageUpstream, x.forwarded)
	if kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";"); res.StatusCode != http.StatusSwitchingProtocols && kind != "text/event-stream" {
		x.pause = &idling{ReadCloser: res.Body, limit: x.app.idle}
		res.Body = x.pause
	} else {
		x.left() // it may be open for days, and most of the time nothing happens
	}
	switch d := x.judgeResponse(res); d.Action {
	case blocklog.Pass:
	case blocklog.Detect:
		x.note(d)
	default:
		return refusal{d}
	}
	res.Header.Set("X-Request-Id", x.id)
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.closeTransaction() // a socket may live for days; its inspection ends here
		x.status = res.StatusCode
		return x.switched(res)
	}
	x.leaveBody(res.Header)
	x.leaveUpgrade(res.Header)
	x.status = res.StatusCode
	return nil
}

// idling is an answer's body in which the application must not pause for longer
// than limit: then it is closed, and so breaks off.
type idling struct {
	io.ReadCloser
	limit time.Duration
	fired atomic.Bool
}

func (b *idling) Read(p []byte) (int, error) {
	if b.limit > 0 {
		timer := time.AfterFunc(b.limit, func() {
			b.fired.Store(true)
			_ = b.Close() // which ends the read
		})
		defer timer.Stop()
	}
	return b.ReadCloser.Read(p)
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
	switch {
	case errors.As(err, &refused):
		d = refused.Decision
	case asRefusal(err, &d): // the body, on its way through
	case x.upload.broke() != nil:
		d = x.brokenBody(x.upload.broke(), x.upload.got)
		d.Stage = blocklog.StageBody
	case errors.Is(err, context.Canceled) && x.r.Context().Err() != nil:
		d.Reason, d.Detail = blocklog.ReasonClientGone, "the client left before the application answered"
		d.Status = statusClientGone
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
