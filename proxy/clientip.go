package proxy

import (
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"edge/config"
	"edge/internal/ranges"
)

// peer is who is at the other end of the connection, IPv4 as IPv4 and without
// an interface's zone.
func peer(r *http.Request) netip.AddrPort {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{} // no address is on no list
	}
	return plain(ap)
}

// plain is an address as all of them are compared and recorded.
func plain(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// Origin says where requests come from, by whom the operator trusts to know. It
// is the zero Origin that trusts nobody.
type Origin struct {
	trusted []config.Prefix
	header  string // canonical; what trusted proxies say it in
	list    bool   // to which each adds its peer
}

// NewOrigin returns the Origin of a configuration.
func NewOrigin(c config.ClientIP) Origin {
	return Origin{trusted: c.Proxies(), header: c.Header, list: c.ListsHops()}
}

// Header is what trusted proxies name the client in.
func (o Origin) Header() string { return o.header }

// Hop is one station on the way a request says it took, and what came of it.
type Hop struct {
	Text    string         // as the header has it; empty for the peer
	Addr    netip.AddrPort // the zero AddrPort where Text is no address; the port is 0 where none was passed on
	Verdict Verdict
	Range   config.Prefix // the trusted range that Addr is in, where the verdict is Trusted
}

// Verdict is what a hop means for the walk.
type Verdict int

// The verdicts. All but Trusted end the walk.
const (
	Trusted   Verdict = iota // what it passed on is looked at next
	Stranger                 // not trusted, so this is the client
	Named                    // a trusted proxy named it in a header for the client alone
	Garbage                  // no address: the client is the last hop that was one
	Ambiguous                // more values than the header can have: as Garbage
)

// Why says in words what came of the hop.
func (h Hop) Why() string {
	switch h.Verdict {
	case Trusted:
		return fmt.Sprintf("trusted proxy, in client_ip.trusted_proxies %s", h.Range)
	case Stranger:
		return "not a trusted proxy: this is the client"
	case Named:
		return "named by a trusted proxy: this is the client"
	case Ambiguous:
		return "not a single value, and nothing says which is right: the walk ends here"
	}
	return "not an address: the walk ends here"
}

// Walk follows a request back from its peer, through what lines, those of the
// header, say, to the first address that nobody trusted vouches for. The client is
// the last hop that has an address.
func (o Origin) Walk(from netip.AddrPort, lines []string) iter.Seq[Hop] {
	return func(yield func(Hop) bool) {
		h := o.judge(plain(from), "")
		if !yield(h) || h.Verdict != Trusted {
			return
		}
		if !o.list {
			if len(lines) > 0 {
				yield(named(lines))
			}
			return
		}
		for _, line := range slices.Backward(lines) {
			for more := true; more; {
				var text string
				line, text, more = cutLast(line)
				addr, ok := parseHop(text)
				h := Hop{Text: text, Verdict: Garbage}
				if ok {
					h = o.judge(addr, text)
				}
				if !yield(h) || h.Verdict != Trusted {
					return
				}
			}
		}
	}
}

// judge says whether the proxy at addr is trusted.
func (o Origin) judge(addr netip.AddrPort, text string) Hop {
	if in, ok := config.In(o.trusted, addr.Addr()); ok {
		return Hop{Text: text, Addr: addr, Verdict: Trusted, Range: in}
	}
	return Hop{Text: text, Addr: addr, Verdict: Stranger}
}

// named is the client of a header that holds just that.
func named(lines []string) Hop {
	if len(lines) > 1 {
		return Hop{Text: strings.Join(lines, ", "), Verdict: Ambiguous}
	}
	if addr, ok := parseHop(lines[0]); ok {
		return Hop{Text: lines[0], Addr: addr, Verdict: Named}
	}
	return Hop{Text: lines[0], Verdict: Garbage}
}

// cutLast takes the last element off a list (RFC 9110 §5.6.1). more is whether
// there is anything before it.
func cutLast(list string) (rest, last string, more bool) {
	i := strings.LastIndexByte(list, ',')
	return list[:max(i, 0)], strings.Trim(list[i+1:], " \t"), i >= 0
}

// parseHop reads an address as proxies pass it on: 192.0.2.1 or 2001:db8::1, and,
// since some add the port, 192.0.2.1:4711 or [2001:db8::1]:4711. Zones mean
// something to one machine only.
func parseHop(text string) (netip.AddrPort, bool) {
	text = strings.Trim(text, " \t")
	var ap netip.AddrPort
	var err error
	if strings.HasPrefix(text, "[") || strings.Count(text, ":") == 1 {
		ap, err = netip.ParseAddrPort(text)
	} else {
		var ip netip.Addr
		ip, err = netip.ParseAddr(text)
		ap = netip.AddrPortFrom(ip, 0)
	}
	if err != nil || ap.Addr().Zone() != "" {
		return netip.AddrPort{}, false
	}
	return plain(ap), true
}

// peer is who is at the other end of x's connection.
func (x *exchange) peer() netip.Addr {
	if x.proxied {
		return peer(x.r).Addr()
	}
	return x.client.Addr()
}

// client is where a request comes from, and whether a trusted proxy sent it.
func (o Origin) client(r *http.Request) (addr netip.AddrPort, viaProxy bool) {
	from := peer(r)
	if _, ok := config.In(o.trusted, from.Addr()); !ok {
		return from, false
	}
	for hop := range o.Walk(from, r.Header[o.header]) {
		if hop.Addr.IsValid() {
			addr = hop.Addr
		}
	}
	return addr, true
}

// clientKey is what one client is counted as.
func clientKey(a netip.Addr) string { return ranges.Client(a).String() }
