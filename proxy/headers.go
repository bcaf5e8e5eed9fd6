package proxy

import (
	"maps"
	"net/http"
	"slices"

	"edge/config"
)

// defaultHeaders are on every answer that does not have its own: they take the
// client's word for nothing, and cost an application nothing that is served over
// TLS and says what its content is.
var defaultHeaders = map[string]string{
	"Strict-Transport-Security": "max-age=31536000",
	"X-Content-Type-Options":    "nosniff",
}

// headers is what is done to the heads of answers. The zero value does nothing.
type headers struct {
	hide     []string // taken from what the application answers
	set      []field  // in place of what it answers
	defaults []field  // where it answers nothing
}

// field is a header, its name canonical. Its values are shared by all answers.
type field struct {
	name   string
	values []string
}

// newHeaders compiles what an app has to say about it.
func newHeaders(c config.HTTP) headers {
	var h headers
	for _, name := range c.Hide {
		h.hide = append(h.hide, http.CanonicalHeaderKey(name))
	}
	slices.Sort(h.hide)
	own := map[string]string{}
	for name, value := range c.Headers {
		own[http.CanonicalHeaderKey(name)] = value
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if own[name] != "" {
			h.set = append(h.set, field{name, []string{own[name]}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(defaultHeaders)) {
		if _, said := own[name]; !said {
			h.defaults = append(h.defaults, field{name, []string{defaultHeaders[name]}})
		}
	}
	return h
}

// apply changes the head of an answer.
func (h *headers) apply(to http.Header) {
	for _, name := range h.hide {
		delete(to, name)
	}
	for _, f := range h.set {
		to[f.name] = f.values
	}
	for _, f := range h.defaults {
		if _, has := to[f.name]; !has {
			to[f.name] = f.values
		}
	}
}

// headers is what is done to the answer x gets, whoever gives it.
func (x *exchange) headers() *headers {
	if x.app == nil {
		return &x.snap.headers
	}
	return &x.app.headers
}
