package proxy

import (
	"cmp"
	"crypto/tls"
	"strings"
	"time"

	"edge/blocklog"
)

// beginning is the beginning of what a client sent, which is more than a record has room
// for: looking for secrets in 30 KiB would cost more than serving the request.
func beginning(s string) string { return blocklog.Clip(s, 2<<10) }

// event is the facts of x, before any decision is written into them.
func (x *exchange) event() blocklog.Event {
	redact := x.snap.redact
	e := blocklog.Event{
		Time:   x.started.UTC(),
		Event:  blocklog.Meta{ID: x.id, Outcome: "success", Duration: time.Since(x.started)},
		Client: blocklog.Client{Port: x.client.Port()},
		HTTP: blocklog.HTTP{
			Version:  strings.TrimPrefix(x.r.Proto, "HTTP/"),
			Request:  blocklog.Request{Method: x.r.Method, Bytes: max(0, x.r.ContentLength)},
			Response: blocklog.Response{Status: x.status},
		},
		URL:       blocklog.URL{Domain: x.host, Path: redact.Text(beginning(x.target.Path)), Query: redact.Query(beginning(x.r.URL.RawQuery))},
		UserAgent: blocklog.Agent{Original: redact.Text(beginning(x.r.UserAgent()))},
		Edge:      blocklog.Edge{Tenant: x.tenant, Generation: x.snap.generation, Rules: x.rules, Timings: x.took},
		Error:     x.fault,
	}
	e.Edge.Inspection = cmp.Or(x.inspection, blocklog.InspectedNone)
	if x.score > 0 {
		e.Edge.Score, e.Edge.Threshold = x.score, x.threshold
	}
	if x.client.IsValid() {
		e.Client.IP = x.client.Addr().String()
	}
	if x.app != nil {
		e.Edge.App = x.app.name
	}
	if x.refused {
		e.Event.Outcome = "failure"
	}
	if t := x.r.TLS; t != nil {
		e.TLS = blocklog.TLS{
			Version:    strings.TrimPrefix(tls.VersionName(t.Version), "TLS "),
			Cipher:     cipherName(t.CipherSuite),
			ServerName: t.ServerName,
			JA4:        blocklog.ConnOf(x.r.Context()).JA4,
		}
	}
	return e
}

// cipherName is tls.CipherSuiteName, which makes a list of all suites to look into.
func cipherName(id uint16) string {
	if name, ok := cipherNames[id]; ok {
		return name
	}
	return tls.CipherSuiteName(id)
}

// cipherNames are those of the suites the edge can speak.
var cipherNames = func() map[uint16]string {
	names := map[uint16]string{}
	for _, s := range tls.CipherSuites() {
		names[s.ID] = s.Name
	}
	return names
}()
