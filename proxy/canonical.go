package proxy

import (
	"crypto/rand"
	"encoding/base32"
	"net"
	"strings"
)

// canonicalHost is the name in a Host header in the one form everything else
// uses: lower case, without port and without the dot of the root.
func canonicalHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// newID returns the name of a request: 16 letters and digits, 80 random bits, in
// an alphabet that can be read out over the telephone.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return ids.EncodeToString(b[:])
}

var ids = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)
