package config

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"edge/internal/strictyaml"
)

// Upstream is where an application is. The short form is the URL of its server.
type Upstream struct {
	// Servers are asked in turn. One that cannot be connected to is passed over
	// for a while, and the request goes to the next if none of it has been sent.
	Servers []Server `yaml:"servers"`
	// Protocol is http1 (default) or h2c, HTTP/2 without TLS.
	Protocol Protocol `yaml:"protocol"`
	// TLS is for servers whose URL is https.
	TLS UpstreamTLS `yaml:"tls"`
	// ConnectTimeout is for connecting, TLS included. Default 5s.
	ConnectTimeout strictyaml.Duration `yaml:"connect_timeout"`
	// AnswerTimeout is from the end of a request to the head of its answer. Default 60s.
	AnswerTimeout strictyaml.Duration `yaml:"answer_timeout"`
	// IdleTimeout is how long an application may pause within an answer, but for
	// event streams and WebSockets. Default 5m.
	IdleTimeout strictyaml.Duration `yaml:"idle_timeout"`
}

// UpstreamTLS says whom to believe to be the application.
type UpstreamTLS struct {
	// CA is a file with the certificates to trust, PEM. Default: the system's.
	CA string `yaml:"ca"`
	// Name is the name in the server's certificate. Default: the host of its URL.
	Name string `yaml:"name"`
}

// Protocol is what is spoken to an application.
type Protocol string

// The protocols.
const (
	HTTP1 Protocol = "http1"
	H2C   Protocol = "h2c"
)

// UnmarshalText accepts exactly the protocols there are.
func (p *Protocol) UnmarshalText(text []byte) error {
	return strictyaml.OneOf(p, text, "protocol", HTTP1, H2C)
}

// UnmarshalText takes the short form.
func (u *Upstream) UnmarshalText(text []byte) error {
	u.Servers = make([]Server, 1)
	return u.Servers[0].UnmarshalText(text)
}

// String is the servers' URLs.
func (u Upstream) String() string {
	var all []string
	for _, s := range u.Servers {
		all = append(all, s.URL.String())
	}
	return strings.Join(all, " ")
}

// Server is the URL of a server: http or https, host and port.
type Server struct{ URL *url.URL }

// UnmarshalText reads the URL.
func (s *Server) UnmarshalText(text []byte) (err error) {
	u, err := url.Parse(string(text))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("%q is no server; write http://host:port or https://host:port", text)
	}
	if _, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16); err != nil || strings.HasSuffix(u.Host, ":") {
		return fmt.Errorf("%q has no port a server could have", text)
	}
	s.URL = u
	return nil
}

func (u *Upstream) complete(resolve func(*string)) {
	resolve(&u.TLS.CA)
	u.Protocol = cmp.Or(u.Protocol, HTTP1)
	u.ConnectTimeout = cmp.Or(u.ConnectTimeout, strictyaml.Duration(5*time.Second))
	u.IdleTimeout = cmp.Or(u.IdleTimeout, strictyaml.Duration(5*time.Minute))
	u.AnswerTimeout = cmp.Or(u.AnswerTimeout, strictyaml.Duration(time.Minute))
}

func (u *Upstream) check(doc *strictyaml.Document, path string) {
	if len(u.Servers) == 0 {
		doc.Faultf(path, "upstream: there is none; write upstream: http://host:port")
	}
	for i, s := range u.Servers {
		if s.URL.Scheme == "https" && u.Protocol == H2C {
			doc.Faultf(fmt.Sprintf("%s.servers[%d]", path, i), "upstream: h2c is without TLS, and %s is with", s.URL)
		}
	}
}
