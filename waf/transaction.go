package waf

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
)

// Request is what a transaction is told about a request.
type Request struct {
	ID         string
	Client     netip.AddrPort
	ServerName string      // the host, canonical, without port
	Method     string      //
	Target     string      // the request target exactly as sent
	Proto      string      // HTTP/1.1, HTTP/2.0
	Host       string      // the Host header or :authority as sent
	Header     http.Header // as received
	// TransferEncoding is what net/http took out of the header.
	TransferEncoding []string
}

// Interruption says that a rule wants the request refused.
type Interruption struct {
	RuleID int
	Status int  // the status the rule asks for, 403 where it names none
	Score  bool // the rule is the one that compares the anomaly score with its threshold
}

// Transaction is one request under inspection. It is not safe for concurrent
// use, and must be closed.
type Transaction struct {
	engine *Engine
	tx     types.Transaction
}

// Begin starts the inspection of a request.
func (e *Engine) Begin(r Request) *Transaction {
	tx := e.waf.NewTransactionWithID(r.ID)
	tx.ProcessConnection(r.Client.Addr().Unmap().WithZone("").String(), int(r.Client.Port()), "", 0)
	tx.ProcessURI(r.Target, r.Method, r.Proto)
	tx.SetServerName(r.ServerName)
	addHeaders(tx.AddRequestHeader, r.Header)
	addHeaders(tx.AddRequestHeader, http.Header{"Host": {r.Host}, "Transfer-Encoding": r.TransferEncoding})
	return &Transaction{engine: e, tx: tx}
}

// addHeaders gives every value a key of its own: the engine may remember what it
// did to a value by the identity of its key, and two values must never be taken
// for one.
func addHeaders(add func(key, value string), h http.Header) {
	for k, values := range h {
		for _, v := range values {
			add(strings.Clone(k), v)
		}
	}
}

// RequestHeaders judges the head of the request.
func (t *Transaction) RequestHeaders() *Interruption {
	return t.interruption(t.tx.ProcessRequestHeaders())
}

// RequestBody judges the whole request; body may be empty. It comes after
// RequestHeaders, once. An error means that no verdict was reached.
func (t *Transaction) RequestBody(body []byte) (*Interruption, error) {
	if len(body) > 0 {
		if it, n, err := t.tx.WriteRequestBody(body); err != nil || it != nil {
			return t.interruption(it), err
		} else if n != len(body) {
			return nil, fmt.Errorf("the engine took %d of %d body bytes", n, len(body))
		}
	}
	it, err := t.tx.ProcessRequestBody()
	return t.interruption(it), err
}

// Response judges the head of the answer, once, after RequestBody.
func (t *Transaction) Response(status int, proto string, h http.Header) (*Interruption, error) {
	addHeaders(t.tx.AddResponseHeader, h)
	if it := t.tx.ProcessResponseHeaders(status, proto); it != nil {
		return t.interruption(it), nil
	}
	it, err := t.tx.ProcessResponseBody()
	return t.interruption(it), err
}

// Close ends the inspection and frees what it held. The transaction must not be
// used afterwards.
func (t *Transaction) Close() error { return t.tx.Close() }

func (t *Transaction) interruption(it *types.Interruption) *Interruption {
	if it == nil {
		return nil
	}
	status := it.Status
	if status < 400 || status > 599 { // drop, redirect, or a rule that names none
		status = http.StatusForbidden
	}
	return &Interruption{RuleID: it.RuleID, Status: status, Score: it.RuleID/1000 == 949 || it.RuleID/1000 == 959}
}

// Score returns the anomaly score counted so far and the threshold it is held
// against: the response's once that phase has scored, else the request's.
func (t *Transaction) Score() (score, threshold int) {
	if out := t.variable("blocking_outbound_anomaly_score"); out > 0 {
		return out, t.engine.policy.outbound
	}
	return t.variable("blocking_inbound_anomaly_score"), t.engine.policy.inbound
}

func (t *Transaction) variable(name string) int {
	state, ok := t.tx.(plugintypes.TransactionState)
	if !ok {
		return 0
	}
	values := state.Variables().TX().Get(name)
	if len(values) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(values[0]) // a variable of the rules' own arithmetic: a number or unset
	return n
}
