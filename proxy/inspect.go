package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"edge/blocklog"
	"edge/form"
	"edge/rules"
	"edge/waf"
)

// judge runs the WAF over the request, once. size is of the body.
func (x *exchange) judge(body io.Reader, size int64) blocklog.Decision {
	d := x.verdict(blocklog.ReasonWAFRule, func() (*waf.Interruption, error) {
		x.tx = x.app.waf.Begin(waf.Request{
			ID: x.id, Client: x.client, ServerName: x.host,
			Target: x.target.Raw, Proto: x.r.Proto, Host: x.authority(),
			Request: x.asked(), Header: x.r.Header, TransferEncoding: x.framing,
			JSON:       x.body != nil && (x.kind.Kind == form.JSON || disguisedJSON(x.r.Header.Get("Content-Type"), x.body.reader())),
			Lines:      x.body != nil && x.kind.Kind == form.NDJSON,
			XML:        x.body != nil && x.kind.Kind == form.XML,
			Raw:        x.kind.Kind == form.Other && x.body != nil && (x.sampled || !isText(x.body.reader())),
			PartsRead:  x.kind.Kind == form.Multipart && x.checksBody() && !x.oddCoding.Load(),
			PlainNames: x.kind.Kind == form.Multipart && x.checksBody() && !x.oddNames.Load(),
		})
		if it := x.tx.RequestHeaders(); it != nil {
			return it, nil
		}
		return x.tx.RequestBody(body, size)
	})
	if d.Reason != blocklog.ReasonWAFError {
		x.inspection = cmp.Or(x.reach, blocklog.InspectedFull)
	}
	return d
}

// isText says that a body of a type that does not say so may be text. As such it is
// looked at as if it were a form, since some applications would take it for one; an
// image or an archive would be one field with control characters in its name.
func isText(body io.Reader) bool {
	head := make([]byte, 64<<10)
	n, err := io.ReadFull(body, head)
	if head = head[:n]; err == nil && n > utf8.UTFMax { // there is more, and a character may be cut
		for cut := 1; cut < utf8.UTFMax && !utf8.Valid(head); cut++ {
			head = head[:n-cut]
		}
	}
	return utf8.Valid(head) && bytes.IndexByte(head, 0) < 0
}

// disguisedJSON says that a body that is given out as plain text may be JSON, which
// many applications would read it as, some of them with less care than a parser
// should have. (A body of no type at all is refused by a rule.)
func disguisedJSON(kind string, body io.Reader) bool {
	kind, _, _ = strings.Cut(kind, ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "text/plain") {
		return false
	}
	head := make([]byte, 512)
	n, _ := io.ReadFull(body, head) // held: it is short, or it is all there
	text := bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(head[:n]), []byte("\uFEFF")))
	return len(text) > 0 && (text[0] == '{' || text[0] == '[')
}

// judgeResponse runs the WAF over the head of the answer, and before that over a
// request whose body has flowed by in the meantime. Where the policy has bodies
// of this kind inspected, the beginning of the body is held and judged as well;
// in detect mode a copy is, when the answer is through.
func (x *exchange) judgeResponse(res *http.Response) (pass blocklog.Decision) {
	if x.tee != nil && x.tee.complete() {
		x.judgeTee()
	}
	if x.tx == nil || len(x.decisions) > 0 { // no WAF, or it has said what it has to say
		return pass
	}
	defer x.spent(blocklog.StageWAF, time.Now())
	return x.verdict(blocklog.ReasonWAFResponse, func() (*waf.Interruption, error) {
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
		var err error
		if x.heldAnswer, err = io.ReadAll(io.LimitReader(res.Body, want)); err != nil {
			return nil, brokenAnswer{err}
		}
		return x.tx.ResponseBody(x.heldAnswer)
	})
}

// brokenAnswer is an answer that ended before it was held.
type brokenAnswer struct{ error }

// judgeTee judges a request by the copy of its body, as far as there is one, and
// notes the decision. Of a body that was not read to its end, by an application
// that answered early or because the client left, nothing can be said.
func (x *exchange) judgeTee() {
	defer x.spent(blocklog.StageWAF, time.Now())
	whole, upload := x.tee.complete(), x.tee.partial
	seen, over := x.tee.take()
	x.tee = nil
	switch {
	case over && upload:
		seen, _ = presentable(x.kind, seen, x.bodyLimits()) // the engine says what is wrong with it, too
		x.reach = blocklog.InspectedPartial
	case over:
		x.note(blocklog.Decision{
			Action: blocklog.Detect, Stage: blocklog.StageBody, Reason: blocklog.ReasonBodyTooLarge,
			Detail: fmt.Sprintf("the body is larger than %s and was not inspected", x.app.maxBody),
		})
		seen, x.reach = nil, blocklog.InspectedHeaders
	case !whole:
		seen, x.reach = nil, blocklog.InspectedHeaders
	}
	x.body = &held{head: seen}
	x.note(x.inLane(x.body.size(), func() blocklog.Decision { return x.judge(x.body.reader(), x.body.size()) }))
}

// note adds a decision that changes nothing. It comes before the one that ended
// the exchange, if there is one.
func (x *exchange) note(d blocklog.Decision) {
	switch n := len(x.decisions); {
	case d.Action == blocklog.Pass:
	case x.refused:
		x.decisions = append(x.decisions[:n-1:n-1], d, x.decisions[n-1])
	default:
		x.decisions = append(x.decisions, d)
	}
}

// verdict turns what the WAF says into a decision, in the mode of the app. An
// engine that fails, in whatever way, refuses: it has not seen what it would
// have had to. reason is for a rule that refuses by itself.
func (x *exchange) verdict(reason blocklog.Reason, ask func() (*waf.Interruption, error)) (d blocklog.Decision) {
	err := recovering(func() error {
		it, err := ask()
		if err == nil && it != nil {
			d = x.interrupted(it, reason)
		}
		return err
	})
	var broken brokenAnswer
	if errors.As(err, &broken) {
		x.blame(err)
		return x.brokenOff(http.StatusBadGateway)
	}
	if err != nil {
		x.blame(err)
		d = blocklog.Decision{
			Action: blocklog.Fail, Reason: blocklog.ReasonWAFError, Status: http.StatusServiceUnavailable,
			Detail: "the request could not be inspected",
		}
	}
	d.Stage = blocklog.StageWAF
	if d.Action != blocklog.Pass && x.app.mode == rules.Detect {
		d.Action = blocklog.Detect
	}
	return d
}

// interrupted describes what made the WAF want to refuse.
func (x *exchange) interrupted(it *waf.Interruption, reason blocklog.Reason) blocklog.Decision {
	d := blocklog.Decision{
		Action: blocklog.Deny, Reason: reason, Status: it.Status, Rule: x.tx.Rule(it.RuleID, x.snap.redact),
	}
	d.Matches, d.Omitted = x.tx.Matches(x.snap.redact)
	if it.Score {
		d.Score, d.Threshold = x.tx.Score()
		if len(d.Matches) > 0 { // the rule that adds up is nobody's answer to "which rule was it?"
			d.Rule = d.Matches[0].Rule
		}
	}
	switch {
	case reason == blocklog.ReasonWAFResponse:
		d.Status = http.StatusBadGateway // it is not the client's fault
	case it.Score:
		d.Reason = blocklog.ReasonWAFScore
	}
	return d
}

// recovering calls f and turns a panic into an error.
func recovering(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// blame records what failed inside, the first time.
func (x *exchange) blame(err error) {
	if x.fault.Message == "" {
		x.fault.Message = x.snap.redact.Text(err.Error())
	}
}

// endInspection judges what is still unjudged and frees the transaction.
func (x *exchange) endInspection() {
	if x.tee != nil {
		x.judgeTee()
	}
	if x.answer != nil && x.tx != nil {
		seen, _ := x.answer.take()
		x.note(x.verdict(blocklog.ReasonWAFResponse, func() (*waf.Interruption, error) { return x.tx.ResponseBody(seen) }))
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
	err := recovering(func() error {
		if x.rules = x.tx.RuleIDs(); len(x.rules) > 0 {
			x.tx.Finish()
			x.rules = x.tx.RuleIDs()
		}
		x.score, x.threshold = x.tx.Score()
		return x.tx.Close()
	})
	if err != nil {
		x.blame(err)
	}
	x.tx = nil
}
