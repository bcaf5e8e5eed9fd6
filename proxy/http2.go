package proxy

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// http2Form says what is wrong with the form of an HTTP/2 request, or "". Most
// that is malformed net/http has refused by then: headers of a connection, te,
// names and values that could be taken for lines, pseudo headers that are missing
// or there twice; form.ParseTarget looks at the path. This is the rest of RFC 9113
// §8.2 and §8.3: what an application behind HTTP/1 could take for something else
// than the edge does.
func http2Form(r *http.Request) (detail string) {
	if r.ProtoMajor != 2 {
		return ""
	}
	hosts, lengths := r.Header["Host"], r.Header["Content-Length"]
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method): // both are tokens
		return fmt.Sprintf("%q is no method", r.Method)
	case len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host):
		return fmt.Sprintf("Host %q is not :authority %q", hosts, r.Host)
	case len(lengths) > 1 || len(lengths) == 1 && lengths[0] != strconv.FormatInt(r.ContentLength, 10):
		return fmt.Sprintf("Content-Length %q is none, or not that of the body", lengths)
	}
	return ""
}
