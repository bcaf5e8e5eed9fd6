package proxy

import (
	"net/http"
	"net/netip"
)

// peer is who is at the other end of the connection, IPv4 as IPv4 and without
// an interface's zone. Nothing a request says about itself changes it.
func peer(r *http.Request) netip.AddrPort {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{} // no address is on no list
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// clientKey is what one client is counted as: an IPv4 address, or an IPv6 /64,
// within which everybody can have as many addresses as they like.
func clientKey(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
