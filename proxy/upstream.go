package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	"edge/answer"
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
			pr.Out.Host = x.authority()
			x.stripIdentity(pr.Out.Header)
			if x.socket == nil {
				pr.Out.Header.Del("Connection")
				pr.Out.Header.Del("Upgrade")
			}
			if x.app.readsAnswers {
				pr.Out.Header.Del("Accept-Encoding") // what is to be inspected must be readable
			}
			x.introduce(pr.Out.Header)
		},
		ModifyResponse: func(res *http.Response) error { return s.answered(x, res) },
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { s.failed(x, err) },
		ErrorLog:       s.stdLog,
		BufferPool:     &s.pieces,
	}
}

// introduce tells the application who is calling, and what the request is called here.
func (x *exchange) introduce(h http.Header) {
	client := x.client.Addr().String()
	values := [...]string{client, x.authority(), "https", client, x.id}
	for i, name := range [...]string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "X-Request-Id"} {
		h[name] = values[i : i+1 : i+1]
	}
}

// pieces are what answers are copied through. Anew for each, they would be two thirds
// of the memory a request takes. The zero pieces are ready.
type pieces struct{ pool sync.Pool }

const pieceSize = 32 << 10

// Get implements httputil.BufferPool.
func (p *pieces) Get() []byte {
	if b, ok := p.pool.Get().(*[pieceSize]byte); ok {
		return b[:]
	}
	return make([]byte, pieceSize)
}

// Put implements httputil.BufferPool.
func (p *pieces) Put(b []byte) { p.pool.Put((*[pieceSize]byte)(b)) }

// statusClientGone is what nginx, and so every log reader, calls a request whose
// client left. Nobody is there to receive it.
const statusClientGone = 499

// refusal carries a decision through what takes an error: ModifyResponse, and the
// reading of a body. It is used by its address, because net/http compares errors, and
// a decision cannot be compared.
type refusal struct{ blocklog.Decision }

func (r *refusal) Error() string { return string(r.Reason) }

// Refusal returns the decision.
func (r *refusal) Refusal() blocklog.Decision { return r.Decision }

// answered looks at the head of an answer before the client gets it.
func (s *Server) answered(x *exchange, res *http.Response) error {
	x.spent(blocklog.StageUpstream, x.forwarded)
	switched := res.StatusCode == http.StatusSwitchingProtocols
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	endless := switched || kind == "text/event-stream"
	if endless {
		x.left() // it may be open for days, and most of the time nothing happens
	}
	if !switched {
		idle := x.app.idle
		if endless {
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
		return &refusal{d}
	}
	res.Header.Set("X-Request-Id", x.id)
	if switched {
		x.closeTransaction() // a socket may live for days; its inspection ends here
		return x.switched(res)
	}
	x.headers().apply(res.Header) // but not to a handshake, which stays as the two agree on it
	x.watch.giveTo(x.heldAnswer)
	x.leaveBody(res.Header)
	x.leaveUpgrade(res.Header)
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
	var refused *refusal
	var timeout net.Error
	var bad *answer.Malformed
	switch {
	case errors.As(err, &refused):
		d = refused.Decision
	case asRefusal(err, &d): // the body, on its way through
	case x.upload.broke() != nil:
		d = x.brokenBody(x.upload.broke(), x.upload.received())
		d.Stage = blocklog.StageBody
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
