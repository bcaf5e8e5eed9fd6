// Package proxy is the request path. Read this file top to bottom: a request
// begins, passes the checks in order, is forwarded or refused, and is finished.
//
// A check returns a decision. It never writes to the client, never logs and
// never calls the next one: [Server.refuse] is the only place that answers in
// the edge's own name, [Server.finish] the only one that logs. What a check
// needs to know of a room (the WAF, the limiter) it asks for and turns into a
// decision, so that every refusal the edge can give is in this package.
//
// No ResponseWriter is wrapped. WebSockets, event streams, 1xx answers and long
// downloads are the reverse proxy's business and are left to it.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"edge/answer"
	"edge/blocklog"
	"edge/config"
	"edge/form"
	"edge/ratelimit"
	"edge/rules"
	"edge/waf"
)

// check is a named step that may refuse a request.
type check struct {
	stage blocklog.Stage
	run   func(*Server, *exchange) blocklog.Decision
}

// checks are all of them, in order: what the head alone can decide comes first,
// because an address over its limit must not cost a regular expression.
var checks = []check{
	{blocklog.StageHTTP, (*Server).checkForm},
	{blocklog.StageHost, (*Server).checkHost},
	{blocklog.StageAccess, (*Server).checkAccess},
	{blocklog.StageHTTP, (*Server).checkApp},
	{blocklog.StageLimit, (*Server).checkLimits},
	{blocklog.StageBody, (*Server).readBody},
	{blocklog.StageLoad, (*Server).checkLoad},
	{blocklog.StageWAF, (*Server).inspect},
}

// Server is the edge as an http.Handler. What it knows of policy is in its
// current snapshot; what the world did is in the stores it was given.
type Server struct {
	current  atomic.Pointer[Snapshot]
	limits   ratelimit.Store
	load     *load
	spool    *Spool
	sockets  sockets
	pieces   pieces
	log      *blocklog.Log
	observe  Observer
	logger   *zap.Logger
	stdLog   *log.Logger // for the reverse proxy
	stall    time.Duration
	checks   []check
	crowd    *Crowd
	underWay sync.WaitGroup
}

// Observer learns of a request that is over. The event carries the last decision.
type Observer func(e *blocklog.Event, decisions []blocklog.Decision)

// New returns a Server under the policy of snap, which it closes when a Swap has
// replaced it. observe is called with every request when it is over, and what was
// decided about it.
func New(snap *Snapshot, limits ratelimit.Store, spool *Spool, records *blocklog.Log, observe Observer, logger *zap.Logger) *Server {
	s := &Server{limits: limits, load: newLoad(), spool: spool, log: records, observe: observe, logger: logger, stdLog: zap.NewStdLog(logger), stall: writeStall, checks: checks, crowd: NewCrowd(logger)}
	s.current.Store(snap)
	return s
}

// Swap makes next the policy of all requests that begin from now on. Those under
// way end as they began, and the last of them closes the old snapshot.
func (s *Server) Swap(next *Snapshot) { s.current.Swap(next).Close() }

// pin returns the current snapshot, held for one request.
func (s *Server) pin() *Snapshot {
	for {
		if snap := s.current.Load(); snap.acquire() {
			return snap
		}
	}
}

// exchange is one request and its answer.
type exchange struct {
	w http.ResponseWriter
	r *http.Request

	id      string
	started time.Time
	snap    *Snapshot // the policy that judges it, to the end
	unpin   sync.Once // lets go of snap
	client  netip.AddrPort
	proxied bool   // by a trusted one
	host    string // canonical
	app     *app   // nil where nobody answers to host
	tenant  string
	target  form.Target // what is asked for; its path is what rules match
	misread *form.Fault // what is wrong with that, or nil
	kind    form.Type   // of the body
	coding  string      // of the body: gzip, deflate or none
	framing []string    // the Transfer-Encoding the client used
	expect  string      // what it expects, which net/http has answered
	upgrade bool        // a WebSocket is asked for
	socket  func()      // gives back the place of a WebSocket; nil where there is none

	body      *held            // held for inspection, in block mode
	unread    bool             // the client may have more of a body to send than was held
	upload    *paced           // the body as it comes
	sampled   bool             // it is an upload, of which the beginning is judged
	oddNames  atomic.Bool      // a file in it has a name that not everybody reads as one
	oddCoding atomic.Bool      // a part of it is encoded, or so it says
	tee       *tee             // the copy of it, in detect mode
	tx        *waf.Transaction // nil before inspection and where the WAF is off
	answer    *tee             // the copy of an answer's body that flows by, in detect mode
	load      *load
	leave     func() // the place among the requests under way; nil before it has one, and after

	reach      string // how much of it the WAF can see; "" is all
	inspection string // how much of it the WAF has seen; "" is none

	rules            []int // what matched, whether or not anything came of it
	score, threshold int

	decisions []blocklog.Decision // all that did not pass; the last one is final if refused is set
	refused   bool
	status    int // what the client was or will be told; 0: nothing yet
	fault     blocklog.Fault
	forwarded time.Time // when the application was asked

	watch      *watch // over the body of the answer
	heldAnswer []byte // the beginning of it, which was inspected

	took blocklog.Timings
}

// spent adds the time since from to what stage has taken.
func (x *exchange) spent(stage blocklog.Stage, from time.Time) {
	if x.took == nil {
		x.took = blocklog.Timings{}
	}
	x.took[stage] += time.Since(from)
}

// ServeHTTP takes a request along the path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.begin(w, r)
	defer s.finish(x)
	for _, c := range s.checks {
		from := time.Now()
		d := c.run(s, x)
		d.Stage = cmp.Or(d.Stage, c.stage)
		x.spent(c.stage, from)
		switch d.Action {
		case blocklog.Pass:
		case blocklog.Detect:
			x.note(d)
		default:
			s.refuse(x, d)
			return
		}
	}
	s.forward(x)
}

// Refuse answers a request that was refused before it was one. What r lacks could
// not be read.
func (s *Server) Refuse(w http.ResponseWriter, r *http.Request, d blocklog.Decision) {
	x := s.begin(w, r)
	defer s.finish(x)
	s.refuse(x, d)
}

// Trusts reports whether addr is one of the proxies that are believed about where
// requests come from.
func (s *Server) Trusts(addr netip.Addr) bool {
	snap := s.pin()
	defer snap.Close()
	_, trusted := config.In(snap.origin.trusted, addr.Unmap())
	return trusted
}

// begin pins the policy and finds out who is asking whom.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) *exchange {
	s.underWay.Add(1)
	r = r.WithContext(r.Context()) // the other is net/http's, which looks at its body when all is over
	x := &exchange{w: w, r: r, id: newID(), started: time.Now(), snap: s.pin(), load: s.load, framing: r.TransferEncoding, expect: r.Header.Get("Expect")}
	x.unread = r.Body != nil && r.ContentLength != 0 // HTTP/2 requests always have a Body
	x.upgrade = upgrades(r)
	x.host = canonicalHost(r.Host)
	x.client, x.proxied = x.snap.origin.client(r)
	var subdomain string
	x.app, subdomain = x.snap.find(x.host)
	x.readTarget()
	if x.app != nil {
		x.tenant = x.findTenant(subdomain, x.proxied)
		s.crowd.note(x.peer(), x.proxied, r.Header, x.started)
	}
	r.Header.Del("Expect")
	r.Trailer = nil // trailers end here
	return x
}

// checkHost refuses what no app answers to, for there is no default app, and what
// is asked of another app than the connection was opened for.
func (s *Server) checkHost(x *exchange) (pass blocklog.Decision) {
	if x.app == nil {
		return deny(blocklog.ReasonUnknownHost, http.StatusMisdirectedRequest, "no app answers to %q", x.host)
	}
	if x.r.TLS == nil || x.r.TLS.ServerName == "" {
		return pass
	}
	if opened, _ := x.snap.find(canonicalHost(x.r.TLS.ServerName)); opened != x.app {
		return deny(blocklog.ReasonOtherHost, http.StatusMisdirectedRequest, "the connection was opened for %q, which is not the same app", x.r.TLS.ServerName)
	}
	return pass
}

// checkLimits counts the request against every limit that is about it, or, if
// one of them refuses, against none.
func (s *Server) checkLimits(x *exchange) (pass blocklog.Decision) {
	var limits []rules.RateLimit
	var draws []ratelimit.Draw
	asked := x.asked()
	for _, l := range x.app.limits {
		if l.Match.Matches(asked) {
			limits = append(limits, l)
			draws = append(draws, ratelimit.Draw{Key: x.limitKey(l), Limit: ratelimit.Limit{Rate: l.Limit.PerSecond, Burst: l.Burst}})
		}
	}
	if len(draws) == 0 {
		return pass
	}
	res, err := s.limits.Take(x.r.Context(), draws, x.started)
	if err != nil { // a store that cannot count must not stop the day's work
		s.logger.Error("rate limits not counted", zap.String("id", x.id), zap.Error(err))
		return pass
	}
	if res.Allowed {
		return pass
	}
	l := limits[res.Refused]
	d := deny(blocklog.ReasonRateLimited, http.StatusTooManyRequests, "more than %s", l.Limit)
	d.RetryAfter, d.Rule.ID = res.RetryAfter, l.Name
	return d
}

// limitKey names the bucket of l that x draws from.
func (x *exchange) limitKey(l rules.RateLimit) string {
	key := x.app.name + "/" + l.Name
	for _, k := range l.Key {
		switch k {
		case rules.Tenant:
			key += "/" + x.tenant
		case rules.Client:
			key += "/" + clientKey(x.client.Addr())
		}
	}
	return key
}

// inspect lets the WAF judge the request: at once, or, when the mode is detect
// and a body flows by, when the answer comes and the body has been seen.
func (s *Server) inspect(x *exchange) (pass blocklog.Decision) {
	if x.app.waf == nil || x.tee != nil {
		return pass
	}
	if x.body == nil {
		return x.inLane(0, func() blocklog.Decision { return x.judge(http.NoBody, 0) })
	}
	if x.reach == blocklog.InspectedPartial {
		defer x.body.forget() // the rest may flow for hours
	}
	return x.inLane(x.body.size(), func() blocklog.Decision { return x.judge(x.body.reader(), x.body.size()) })
}

// forward sends the request to the application and its answer to the client.
func (s *Server) forward(x *exchange) { s.reverseProxy(x).ServeHTTP(x.w, x.r) }

// refuse answers in the edge's name.
func (s *Server) refuse(x *exchange, d blocklog.Decision) {
	x.end(d)
	x.status = d.Status
	x.headers().apply(x.w.Header())
	x.leaveBody(x.w.Header())
	x.leaveUpgrade(x.w.Header())
	if d.Status == http.StatusMethodNotAllowed {
		x.w.Header().Set("Allow", strings.Join(x.app.methods, ", "))
	}
	if s.stall > 0 {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(s.stall)) // every server we use supports it
	}
	respond(x.w, x.r, x.id, d)
}

// end notes the decision that ends an exchange.
func (x *exchange) end(d blocklog.Decision) {
	x.decisions, x.refused = append(x.decisions, d), true
}

// finish runs on every way out, panics included. It writes what was decided, and
// the access line.
func (s *Server) finish(x *exchange) {
	defer s.underWay.Done()
	defer x.left()
	begun := x.status != 0
	p := recover()
	if p != nil {
		s.recovered(x, p)
	}
	x.watch.stop()
	x.upload.stop()
	x.endInspection()
	x.body.close()
	if x.socket != nil {
		x.socket()
	}
	e := x.event()
	s.log.Record(&e, clientKey(x.client.Addr()), x.decisions)
	s.observe(&e, x.decisions)
	if p != nil && begun {
		panic(http.ErrAbortHandler) // so that an answer that broke off also looks like it
	}
}

// brokenOff says that an application began to answer and did not finish.
func (x *exchange) brokenOff(status int) blocklog.Decision {
	d := blocklog.Decision{
		Action: blocklog.Fail, Stage: blocklog.StageUpstream, Reason: blocklog.ReasonUpstream, Status: status,
		Detail: "the answer broke off",
	}
	late, err := x.watch.gaveUp()
	var bad *answer.Malformed
	switch {
	case late == application:
		d.Reason, d.Detail = blocklog.ReasonUpstreamSlow, fmt.Sprintf("the application paused for %s within its answer (idle_timeout)", x.app.idle)
	case errors.As(err, &bad):
		d.Reason, d.Detail = blocklog.ReasonUpstreamMalformed, bad.What
	}
	return d
}

// recovered deals with a panic: a broken-off answer, which the reverse proxy
// reports this way, or a fault of ours. A client that has not been told anything
// yet is told that.
func (s *Server) recovered(x *exchange, p any) {
	d := blocklog.Decision{Action: blocklog.Fail, Stage: blocklog.StageInternal, Reason: blocklog.ReasonPanic, Status: http.StatusInternalServerError}
	late, _ := x.watch.gaveUp()
	switch {
	case p == http.ErrAbortHandler && late == recipient: //nolint:errorlint // net/http compares it so, too
		d = s.clientSlow(x.status)
	case p == http.ErrAbortHandler && x.r.Context().Err() != nil: //nolint:errorlint // net/http compares it so, too
		return // the client left an answer it had begun to get, as streams end
	case p == http.ErrAbortHandler: //nolint:errorlint // net/http compares it so, too
		d = x.brokenOff(x.status)
	default:
		x.blame(fmt.Errorf("%v", p))
		x.fault.Stack = string(debug.Stack())
		s.logger.Error("panic while serving a request", zap.String("id", x.id), zap.String("panic", x.fault.Message))
	}
	if x.status != 0 {
		x.end(d)
		return
	}
	s.refuse(x, d)
}

// Wait returns when no request is under way, or when ctx ends.
func (s *Server) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.underWay.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
