package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"edge/blocklog"
	"edge/rules"
	"edge/waf"
)

// judge runs the WAF over the request, once.
func (x *exchange) judge(body []byte) blocklog.Decision {
	x.tx = x.app.waf.Begin(waf.Request{
		ID: x.id, Client: x.client, ServerName: x.host,
		Method: x.r.Method, Target: x.r.RequestURI, Proto: x.r.Proto, Host: x.r.Host,
		Tenant: x.tenant, Path: x.path, Header: x.r.Header, TransferEncoding: x.framing,
	})
	return x.verdict(func() (*waf.Interruption, error) {
		if it := x.tx.RequestHeaders(); it != nil {
			return it, nil
		}
		return x.tx.RequestBody(body)
	})
}

// judgeResponse runs the WAF over the head of the answer, and before that over a
// request whose body has flowed by in the meantime. Where the policy has bodies
// of this kind inspected, the beginning of the body is held and judged as well;
// in detect mode a copy is, when the answer is through.
func (x *exchange) judgeResponse(res *http.Response) blocklog.Decision {
	if x.tee != nil && x.tee.complete() {
		if d := x.judgeTee(); d.Action != blocklog.Pass {
			return d
		}
	}
	if x.tx == nil {
		return blocklog.Decision{}
	}
	return x.verdict(func() (*waf.Interruption, error) {
		if it := x.tx.ResponseHeaders(res.StatusCode, res.Proto, res.Header); it != nil {
			return it, nil
		}
		want := x.tx.WantsResponseBody()
		if want == 0 || x.r.Method == http.MethodHead || res.StatusCode == http.StatusSwitchingProtocols {
			return x.tx.ResponseBody(nil)
		}
		if x.app.mode == rules.Detect {
			x.answer = &tee{ReadCloser: res.Body, limit: int(want), partial: true}
			res.Body = x.answer
			return nil, nil
		}
		held, err := hold(res, want)
		if err != nil {
			return nil, err
		}
		return x.tx.ResponseBody(held)
	})
}

// brokenAnswer is an answer that ended before it was held.
type brokenAnswer struct{ error }

// hold reads the first n bytes of an answer's body and puts them back.
func hold(res *http.Response, n int64) ([]byte, error) {
	held, err := io.ReadAll(io.LimitReader(res.Body, n))
	if err != nil {
		return nil, brokenAnswer{err}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(held), res.Body), res.Body}
	return held, nil
}

// judgeTee judges a request by the copy of its body.
func (x *exchange) judgeTee() blocklog.Decision {
	seen, over := x.tee.take()
	x.tee = nil
	if over {
		return blocklog.Decision{
			Action: blocklog.Detect, Stage: blocklog.StageBody, Reason: blocklog.ReasonBodyTooLarge,
			Detail: fmt.Sprintf("the body is larger than %s and was not inspected", x.app.maxBody),
		}
	}
	return x.judge(seen)
}

// verdict turns what the WAF says into a decision, in the mode of the app. An
// engine that fails, in whatever way, refuses: it has not seen what it would
// have had to.
func (x *exchange) verdict(ask func() (*waf.Interruption, error)) (d blocklog.Decision) {
	it, err := recovering(ask)
	var broken brokenAnswer
	switch {
	case errors.As(err, &broken):
		x.fault = blocklog.Fault{Message: x.snap.redact.Text(err.Error())}
		return brokenOff(http.StatusBadGateway)
	case err != nil:
		x.fault = blocklog.Fault{Message: x.snap.redact.Text(err.Error())}
		d = blocklog.Decision{
			Action: blocklog.Fail, Reason: blocklog.ReasonWAFError, Status: http.StatusServiceUnavailable,
			Detail: "the request could not be inspected",
		}
	case it != nil:
		d = blocklog.Decision{
			Action: blocklog.Deny, Reason: blocklog.ReasonWAFRule, Status: it.Status,
			Rule: x.tx.Rule(it.RuleID),
		}
		d.Matches, d.Omitted = x.tx.Matches(x.snap.redact)
		if it.Score {
			d.Reason = blocklog.ReasonWAFScore
			d.Score, d.Threshold = x.tx.Score()
			if len(d.Matches) > 0 { // the rule that adds up is nobody's answer to "which rule was it?"
				d.Rule = d.Matches[0].Rule
			}
		}
	}
	d.Stage = blocklog.StageWAF
	if d.Action != blocklog.Pass && x.app.mode == rules.Detect {
		d.Action = blocklog.Detect
	}
	return d
}

// recovering calls ask and turns a panic of the engine into an error.
func recovering(ask func() (*waf.Interruption, error)) (it *waf.Interruption, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the engine panicked: %v", p)
		}
	}()
	return ask()
}

// endInspection judges what is still unjudged and frees the transaction.
func (x *exchange) endInspection() {
	if x.tee != nil {
		if d := x.judgeTee(); d.Action != blocklog.Pass {
			x.decisions = append(x.decisions, d)
		}
	}
	if x.answer != nil && x.tx != nil {
		seen, _ := x.answer.take()
		if d := x.verdict(func() (*waf.Interruption, error) { return x.tx.ResponseBody(seen) }); d.Action != blocklog.Pass {
			x.decisions = append(x.decisions, d)
		}
	}
	x.closeTransaction()
}

// closeTransaction notes what the rules found, whatever came of it, and frees
// the transaction and with it the policy it was judged by.
func (x *exchange) closeTransaction() {
	defer x.unpin.Do(x.snap.Close)
	if x.tx == nil {
		return
	}
	if x.rules = x.tx.RuleIDs(); len(x.rules) > 0 {
		x.tx.Finish()
		x.rules = x.tx.RuleIDs()
	}
	x.score, x.threshold = x.tx.Score()
	if err := x.tx.Close(); err != nil && x.fault.Message == "" {
		x.fault.Message = err.Error()
	}
	x.tx = nil
}
