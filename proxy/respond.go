package proxy

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"math"
	"net/http"
	"strconv"
	"strings"

	"edge/blocklog"
)

//go:embed refused.html
var pageSource string

var page = template.Must(template.New("refused").Parse(pageSource))

// What a refused client is told, by status. It says what they can do, and
// nothing of rules or machines: that is in the record of the same id.
var texts = map[int]string{
	http.StatusBadRequest:                  "The request was incomplete or could not be understood.",
	http.StatusForbidden:                   "This request was stopped because it looks like an attack on the application. If you meant no harm, tell your administrator the incident number.",
	http.StatusMethodNotAllowed:            "The application does not take requests of this kind.",
	http.StatusRequestURITooLong:           "The address is longer than this service accepts.",
	http.StatusExpectationFailed:           "The request expects something this service does not do.",
	http.StatusNotImplemented:              "The request was sent in a form this service does not know.",
	http.StatusHTTPVersionNotSupported:     "The request was sent in a version of HTTP this service does not know.",
	http.StatusRequestHeaderFieldsTooLarge: "The request's header is larger than this service accepts. Deleting cookies may help.",
	http.StatusRequestTimeout:              "The request took too long to arrive. Please try again.",
	http.StatusRequestEntityTooLarge:       "What you sent is larger than this application accepts.",
	http.StatusUnsupportedMediaType:        "The application does not take content of this kind.",
	http.StatusMisdirectedRequest:          "There is no application at this address.",
	http.StatusTooManyRequests:             "Too many requests. Please wait a moment and try again.",
	http.StatusInternalServerError:         "Something went wrong on our side. Please try again.",
	http.StatusBadGateway:                  "The application does not answer at the moment. Please try again in a minute.",
	http.StatusServiceUnavailable:          "The service is not available at the moment. Please try again in a minute.",
	http.StatusGatewayTimeout:              "The application took too long to answer. Please try again in a minute.",
}

// notHere is what an address is told that the access rules keep out.
const notHere = "This application may not be used from your address, or not this part of it. If it should be, tell your administrator the incident number."

// words are what the client of a refused request is told.
func words(d blocklog.Decision) string {
	switch d.Reason {
	case blocklog.ReasonDenied, blocklog.ReasonNotAllowed:
		return notHere
	case blocklog.ReasonBadUpgrade: // which is no attack, as a 403 is otherwise
		return texts[http.StatusMethodNotAllowed]
	}
	return texts[d.Status]
}

// problem is RFC 9457.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	ID     string `json:"id"` // the incident number
}

// respond writes the refusal d: a page, or problem+json to clients that ask for
// JSON. Nothing of the request is repeated in it.
func respond(w http.ResponseWriter, r *http.Request, id string, d blocklog.Decision) {
	p := problem{Title: http.StatusText(d.Status), Status: d.Status, Detail: words(d), ID: id}
	var body bytes.Buffer
	kind := "text/html; charset=utf-8"
	if wantsJSON(r) {
		kind = "application/problem+json"
		_ = json.NewEncoder(&body).Encode(p) // four plain fields into memory
	} else {
		_ = page.Execute(&body, p)
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Request-Id", id)
	if d.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(d.RetryAfter.Seconds()))))
	}
	w.WriteHeader(d.Status)
	_, _ = w.Write(body.Bytes()) // a client that is gone needs no answer
}

// wantsJSON says that a client asks for JSON and not also for a page.
func wantsJSON(r *http.Request) bool {
	accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
	return strings.Contains(accept, "json") && !strings.Contains(accept, "text/html")
}
