package config

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/net/http/httpguts"

	"edge/internal/ranges"
	"edge/internal/strictyaml"
)

// ForwardedFor is the header that proxies append the address of their peer to.
const ForwardedFor = "X-Forwarded-For"

// ClientIP says who is believed about where a request comes from.
type ClientIP struct {
	// TrustedProxies are the addresses and ranges of proxies in front of the edge.
	// Of the addresses they pass on in X-Forwarded-For the last that is not one of
	// them is the client. file:NAME is a file of them, list:NAME one of lists. Empty:
	// the peer is the client.
	TrustedProxies []ranges.Item `yaml:"trusted_proxies"`
	// Header is what trusted proxies name the client in: X-Forwarded-For (default),
	// or one that holds a single address, such as X-Real-Ip or CF-Connecting-IP.
	Header string `yaml:"header"`

	proxies []Prefix // all of them, those in files and lists included
}

// Proxies are the trusted proxies, those in files and lists included.
func (c ClientIP) Proxies() []Prefix { return c.proxies }

// maxProxies is how many trusted proxies there may be: every request asks for one
// after the other.
const maxProxies = 1000

// gather fills in the proxies, from lists and files as well.
func (c *ClientIP) gather(doc *strictyaml.Document, lists map[string][]ranges.Item) {
	c.proxies = nil
	for i, item := range c.TrustedProxies {
		at := fmt.Sprintf("client_ip.trusted_proxies[%d]", i)
		items, before := []ranges.Item{item}, len(c.proxies)
		if item.List != "" {
			items = lists[item.List]
		}
		for _, item := range items {
			entries, err := item.Entries()
			if err != nil {
				doc.Faultf(at, "%v", err)
			}
			for _, e := range entries {
				c.proxies = append(c.proxies, Prefix{e.Prefix})
				if !e.Until.IsZero() {
					doc.Faultf(at, "client_ip.trusted_proxies: %s: a proxy that is trusted until some day is a mistake on the day after; leave out until", e.Prefix)
				}
			}
		}
		narrow(doc, "client_ip.trusted_proxies", c.proxies[before:], func(int) string { return at })
		if len(c.proxies) > maxProxies {
			doc.Faultf(at, "client_ip.trusted_proxies: there are more than %d; name ranges", maxProxies)
			return
		}
	}
}

// ListsHops says that the header is a list to which every proxy adds its peer;
// any other names the client alone.
func (c ClientIP) ListsHops() bool { return c.Header == ForwardedFor }

// complete puts the header into the form in which net/http keeps names.
func (c *ClientIP) complete() {
	if c.Header == "" {
		c.Header = ForwardedFor
	}
	c.Header = http.CanonicalHeaderKey(c.Header)
}

// unfit are headers that hold no plain address, or that somebody else sets.
var unfit = []string{"Forwarded", "Via", "Host", "Cookie", "Authorization", "Connection", "X-Request-Id", "X-Forwarded-Host", "X-Forwarded-Proto"}

func (c *ClientIP) check(doc *strictyaml.Document) {
	const at = "client_ip.header"
	switch {
	case !httpguts.ValidHeaderFieldName(c.Header) || strings.Contains(c.Header, "_"):
		doc.Faultf(at, "%s: %q is no name of a header", at, c.Header)
	case named(unfit, c.Header):
		doc.Faultf(at, "%s: %s does not hold a plain address; write X-Forwarded-For, X-Real-Ip or what the proxy documents", at, c.Header)
	case !c.ListsHops() && len(c.TrustedProxies) == 0:
		doc.Faultf(at, "%s: it is read only from proxies in client_ip.trusted_proxies, and there is none", at)
	}
}

func named(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// narrow finds the ranges in which there is everybody: who believes everybody
// leaves it to clients who they are. key is where list is, at where an item of it is.
func narrow(doc *strictyaml.Document, key string, list []Prefix, at func(i int) string) {
	for i, p := range list {
		if p.Bits() == 0 {
			doc.Faultf(at(i), "%s: %s is everybody, and so anybody could say who they are; name the proxies", key, p)
		}
	}
}

// Prefix is an address or a range of them, IPv4 as IPv4.
type Prefix struct{ netip.Prefix }

// UnmarshalText reads 10.0.0.7 or 10.0.0.0/8.
func (p *Prefix) UnmarshalText(text []byte) (err error) {
	p.Prefix, err = ranges.ParsePrefix(string(text))
	return err
}

// In returns the first range of list that a, unmapped, is in.
func In(list []Prefix, a netip.Addr) (in Prefix, ok bool) {
	for _, p := range list {
		if p.Contains(a) {
			return p, true
		}
	}
	return Prefix{}, false
}
