package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"edge/internal/strictyaml"
)

// HTTP is what an application's requests must look like, and what is added to
// its answers. It holds whatever the mode of the WAF. The short form sets all of
// the strictness: http: relaxed.
type HTTP struct {
	// Targets refuses paths and queries that applications read in different ways:
	// escapes that are none, encoded slashes and backslashes, dot segments, doubly
	// encoded paths, control characters, what is not UTF-8.
	Targets Strictness `yaml:"targets"`
	// Methods refuses methods that are not in waf.methods (405), and bodies on GET
	// and HEAD.
	Methods Strictness `yaml:"methods"`
	// Types refuses bodies whose media type is not in waf.content_types, or whose
	// charset is not in charsets (415).
	Types Strictness `yaml:"types"`
	// Charsets are the charsets of request bodies. Default: utf-8 and us-ascii.
	Charsets []string `yaml:"charsets"`
	// Bodies refuses bodies that are not what their type says, or that parsers read
	// in different ways: JSON, XML, forms and multipart.
	Bodies Strictness `yaml:"bodies"`
	// Cookies refuses Cookie headers that parsers read in different ways.
	Cookies Strictness `yaml:"cookies"`
	// WebSocket lets WebSockets through. Default: off.
	WebSocket WebSocket `yaml:"websocket"`
	// Headers are set on every answer, those of the edge included. An empty value
	// keeps one of the defaults from being set. Default: Strict-Transport-Security for a
	// year and X-Content-Type-Options: nosniff, unless the application sends its own.
	Headers map[string]string `yaml:"headers"`
	// Hide are headers of answers that clients do not get to see, such as Server.
	Hide []string `yaml:"hide"`
}

// Strictness is strict (default) or relaxed.
type Strictness string

// Strict and relaxed.
const (
	Strict  Strictness = "strict"
	Relaxed Strictness = "relaxed"
)

// UnmarshalText accepts exactly the two.
func (s *Strictness) UnmarshalText(text []byte) error {
	return strictyaml.OneOf(s, text, "strictness", Strict, Relaxed)
}

// UnmarshalText takes the short form.
func (h *HTTP) UnmarshalText(text []byte) error {
	var s Strictness
	if err := s.UnmarshalText(text); err != nil {
		return err
	}
	h.Targets, h.Methods, h.Types, h.Bodies, h.Cookies = s, s, s, s, s
	return nil
}

// WebSocket says which WebSockets pass. The short form is on or off.
type WebSocket struct {
	// Enabled lets them pass. Default: off, unless another key is set.
	Enabled bool
	// Origins are the origins a handshake may come from, as in
	// https://hr.example.com. Default: https and a host of the app. "*" is any.
	Origins []string `yaml:"origins"`
	// Idle is for how long nothing may be sent either way. Default 10m.
	Idle strictyaml.Duration `yaml:"idle"`
	// Lifetime is how long a WebSocket may be open. Default 24h.
	Lifetime strictyaml.Duration `yaml:"lifetime"`
	// PerClient is how many a client may have open at once. Default 100.
	PerClient int `yaml:"per_client"`
}

// UnmarshalText takes the short form.
func (w *WebSocket) UnmarshalText(text []byte) error {
	switch string(text) {
	case "on", "true":
		w.Enabled = true
	case "off", "false":
	default:
		return fmt.Errorf("%q is not on or off", text)
	}
	return nil
}

// framing are headers that say how an answer is sent, and what its record is.
var framing = []string{
	"connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id",
}

func (h *HTTP) complete() {
	for _, s := range []*Strictness{&h.Targets, &h.Methods, &h.Types, &h.Bodies, &h.Cookies} {
		*s = cmp.Or(*s, Strict)
	}
	if h.Charsets == nil {
		h.Charsets = []string{"utf-8", "us-ascii"}
	}
	w := &h.WebSocket
	w.Enabled = w.Enabled || w.Origins != nil || w.Idle != 0 || w.Lifetime != 0 || w.PerClient != 0
	w.Idle = cmp.Or(w.Idle, strictyaml.Duration(10*time.Minute))
	w.Lifetime = cmp.Or(w.Lifetime, strictyaml.Duration(24*time.Hour))
	w.PerClient = cmp.Or(w.PerClient, 100)
}

func (h *HTTP) check(doc *strictyaml.Document, path string) {
	spelled := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		key := strings.ToLower(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(h.Headers[name]):
			doc.Faultf(path+".headers."+name, "http.headers: %q: %q cannot be sent as a header", name, h.Headers[name])
		case slices.Contains(framing, key):
			doc.Faultf(path+".headers."+name, "http.headers: %s is how an answer is sent, and not for sites to set", name)
		case spelled[key] != "":
			doc.Faultf(path+".headers."+name, "http.headers: %s and %s are one header", spelled[key], name)
		}
		spelled[key] = name
	}
	for i, name := range h.Hide {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			doc.Faultf(fmt.Sprintf("%s.hide[%d]", path, i), "http.hide: %q is no name of a header", name)
		case slices.Contains(framing, strings.ToLower(name)):
			doc.Faultf(fmt.Sprintf("%s.hide[%d]", path, i), "http.hide: %s is how an answer is sent, and cannot be hidden", name)
		}
	}
	for i, c := range h.Charsets {
		if h.Charsets[i] = strings.ToLower(c); c == "" || strings.ContainsAny(c, " ;,\"") {
			doc.Faultf(fmt.Sprintf("%s.charsets[%d]", path, i), "http.charsets: %q is no charset", c)
		}
	}
	for i, o := range h.WebSocket.Origins {
		scheme, host, ok := strings.Cut(strings.ToLower(o), "://")
		if h.WebSocket.Origins[i] = strings.ToLower(o); o != "*" && (!ok || scheme == "" || host == "" || strings.ContainsAny(host, "/ ,")) {
			doc.Faultf(fmt.Sprintf("%s.websocket.origins[%d]", path, i), "http.websocket.origins: %q is no origin; write https://host, or *", o)
		}
	}
	if h.WebSocket.PerClient < 0 {
		doc.Faultf(path+".websocket.per_client", "http.websocket.per_client: must be positive")
	}
}
