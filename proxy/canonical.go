package proxy

import (
	"crypto/rand"
	"encoding/base32"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// canonicalHost is the host in a Host header in the one form everything else
// uses: a name in lower case without port and without the dot of the root, or an
// address as it is written shortest (RFC 5952). It is "" for what is neither.
func canonicalHost(host string) string {
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
			return ""
		}
		if host = h; strings.Contains(h, ":") {
			host = "[" + h + "]" // as it was
		}
	}
	if inside, ok := strings.CutPrefix(host, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inside, "]"))
		if err != nil || !ip.Is6() || ip.Zone() != "" || !strings.HasSuffix(inside, "]") {
			return ""
		}
		return ip.Unmap().String()
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return ip.String()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" {
		return ""
	}
	return host
}

// authority is the Host the application is sent, and the one that is inspected: the
// canonical host, and its port where that is not the one of https.
func (x *exchange) authority() string {
	host := x.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	_, port, _ := net.SplitHostPort(x.r.Host) // without a port there is an error
	if n, _ := strconv.ParseUint(port, 10, 16); n != 0 && n != 443 {
		return host + ":" + strconv.FormatUint(n, 10)
	}
	return host
}

// newID returns the name of a request: 16 letters and digits, 80 random bits, in
// an alphabet that can be read out over the telephone.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return ids.EncodeToString(b[:])
}

var ids = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)
