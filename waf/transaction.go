package waf

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"edge/rules"
)

// Request is what a transaction is told about a request.
type Request struct {
	rules.Request // its method, and what exclusions match

	ID         string
	Client     netip.AddrPort
	ServerName string      // the host, canonical, without port
	Target     string      // the request target exactly as sent
	Proto      string      // HTTP/1.1, HTTP/2.0
	Host       string      // the Host header or :authority as sent
	Header     http.Header // as received
	JSON       bool        // the body is JSON, whatever its type says
	Lines      bool        // so it is, a document on each line
	XML        bool        // it is XML, whatever its type says
	Raw        bool        // the body is bytes that no application takes apart: no parameters are looked for in it
	PartsRead  bool        // no part of it is encoded in any way
	PlainNames bool        // the names of files have been read in the one way there is, and quotes in them are nothing else
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
	lines  bool // the body is JSON lines
}

// Begin starts the inspection of a request.
func (e *Engine) Begin(r Request) *Transaction {
	tx := e.waf.NewTransactionWithID(r.ID)
	tx.ProcessConnection(r.Client.Addr().Unmap().WithZone("").String(), int(r.Client.Port()), "", 0)
	tx.ProcessURI(r.Target, r.Method, r.Proto)
	tx.SetServerName(r.ServerName)
	addHeaders(tx.AddRequestHeader, r.Header)
	addHeaders(tx.AddRequestHeader, http.Header{"Host": {r.Host}, "Transfer-Encoding": r.TransferEncoding})
	t := &Transaction{engine: e, tx: tx, lines: r.Lines || isLines(r.Header.Get("Content-Type"))}
	for name, is := range map[string]bool{"edge_json": r.JSON || r.Lines, "edge_xml": r.XML, "edge_raw": r.Raw, "edge_plain_names": r.PlainNames, "edge_parts_read": r.PartsRead} {
		if is {
			t.state().Variables().TX().Set(name, []string{"1"})
		}
	}
	t.exclude(r.Request)
	return t
}

// exclude tells the rules which exclusions apply to this request.
func (t *Transaction) exclude(r rules.Request) {
	for i, e := range t.engine.policy.Exclusions {
		if e.Match.MatchesAll(r) {
			t.state().Variables().TX().Set(excludes(i), []string{"1"})
		}
	}
}

func addHeaders(add func(key, value string), h http.Header) {
	for k, values := range h {
		for _, v := range values {
			add(k, v)
		}
	}
}

// RequestHeaders judges the head of the request.
func (t *Transaction) RequestHeaders() *Interruption {
	return t.interruption(t.tx.ProcessRequestHeaders())
}

// RequestBody judges the whole request, whose body has size bytes, maybe none. It
// comes after RequestHeaders, once. An error means that no verdict was reached.
func (t *Transaction) RequestBody(body io.Reader, size int64) (*Interruption, error) {
	if t.lines && size > 0 {
		lines, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		lines = joinLines(lines)
		body, size = bytes.NewReader(lines), int64(len(lines))
	}
	if size > 0 {
		if it, n, err := t.tx.ReadRequestBodyFrom(body); err != nil || it != nil {
			return t.interruption(it), err
		} else if int64(n) != size {
			return nil, fmt.Errorf("the engine took %d of %d body bytes", n, size)
		}
	}
	it, err := t.tx.ProcessRequestBody()
	return t.interruption(it), err
}

// isLines says that a body of this type is JSON lines. Parameters do not count.
func isLines(kind string) bool {
	kind, _, _ = strings.Cut(kind, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "application/x-ndjson" || kind == "application/ndjson"
}

// joinLines makes one JSON array of JSON lines, which is a form the engine reads.
func joinLines(body []byte) []byte {
	lines := bytes.FieldsFunc(body, func(r rune) bool { return r == '\n' || r == '\r' })
	return slices.Concat([]byte("["), bytes.Join(lines, []byte(",")), []byte("]"))
}

// ResponseHeaders judges the head of the answer, once, after RequestBody.
func (t *Transaction) ResponseHeaders(status int, proto string, h http.Header) *Interruption {
	addHeaders(t.tx.AddResponseHeader, h)
	return t.interruption(t.tx.ProcessResponseHeaders(status, proto))
}

// WantsResponseBody says how much of the answer's body is to be inspected, in
// bytes, 0 for none. It comes after ResponseHeaders.
func (t *Transaction) WantsResponseBody() int64 {
	if !t.tx.IsResponseBodyAccessible() || !t.tx.IsResponseBodyProcessable() {
		return 0
	}
	return int64(t.engine.policy.Responses.Max)
}

// ResponseBody judges the whole answer, once, after ResponseHeaders; body is its
// beginning, empty where it is not inspected.
func (t *Transaction) ResponseBody(body []byte) (*Interruption, error) {
	if len(body) > 0 {
		if it, _, err := t.tx.WriteResponseBody(body); err != nil || it != nil {
			return t.interruption(it), err
		}
	}
	it, err := t.tx.ProcessResponseBody()
	return t.interruption(it), err
}

// Finish runs the rules of the last phase, which judge nothing and correlate what
// the others found. It is worth its time only where they found something.
func (t *Transaction) Finish() { t.tx.ProcessLogging() }

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
		return out, t.engine.policy.Thresholds.Outbound
	}
	return t.variable("blocking_inbound_anomaly_score"), t.engine.policy.Thresholds.Inbound
}

func (t *Transaction) variable(name string) int {
	values := t.state().Variables().TX().Get(name)
	if len(values) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(values[0]) // a variable of the rules' own arithmetic: a number or unset
	return n
}

// state is the engine's wider view of a transaction, which all of its transactions offer.
func (t *Transaction) state() plugintypes.TransactionState {
	return t.tx.(plugintypes.TransactionState)
}

// RuleIDs are the numbers of all rules that matched and are written to be logged,
// bookkeeping included, in the order in which they did.
func (t *Transaction) RuleIDs() []int {
	var ids []int
	for _, m := range t.tx.MatchedRules() {
		logged, ok := m.(interface{ Log() bool })
		if id := m.Rule().ID(); (!ok || logged.Log()) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
