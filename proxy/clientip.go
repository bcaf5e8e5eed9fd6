package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"edge/config"
)

// peer is who is at the other end of the connection, IPv4 as IPv4 and without
// an interface's zone.
func peer(r *http.Request) netip.AddrPort {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{} // no address is on no list
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// client is where a request comes from: the peer, unless that is a trusted proxy.
// Then the addresses it passed on are walked from the last to the first, over all
// lines, until one that is not a trusted proxy. What cannot be parsed ends the
// walk at the last address that could.
func client(r *http.Request, trusted []config.Prefix) (addr netip.AddrPort, viaProxy bool) {
	addr = peer(r)
	if !contains(trusted, addr.Addr()) {
		return addr, false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		ip, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil || ip.Zone() != "" {
			break
		}
		addr = netip.AddrPortFrom(ip.Unmap(), 0) // proxies do not pass on ports
		if !contains(trusted, addr.Addr()) {
			break
		}
	}
	return addr, true
}

func contains(list []config.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p config.Prefix) bool { return p.Contains(a) })
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
