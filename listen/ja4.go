package listen

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"slices"
)

// Extensions that JA4 treats apart (RFC 6066, RFC 7301).
const (
	extensionServerName = 0x0000
	extensionALPN       = 0x0010
)

// ja4 is the JA4 fingerprint of a ClientHello over TCP, as FoxIO defines it
// (technical_details/JA4.md): what a client's TLS library offers, in a form that
// does not change when the client shuffles it. GREASE values (RFC 8701) do not
// count. It is 36 characters, each a letter, a digit or "_", whatever was sent.
func ja4(hello *tls.ClientHelloInfo) string {
	ciphers := withoutGrease(hello.CipherSuites)
	extensions := withoutGrease(hello.Extensions)
	sni := 'i' // the client named nobody
	if slices.Contains(extensions, extensionServerName) {
		sni = 'd'
	}
	head := fmt.Sprintf("t%s%c%02d%02d%s", ja4Version(hello.SupportedVersions), sni,
		min(99, len(ciphers)), min(99, len(extensions)), ja4Protocol(hello.SupportedProtos))

	slices.Sort(ciphers)
	slices.Sort(extensions)
	extensions = slices.DeleteFunc(extensions, func(e uint16) bool { return e == extensionServerName || e == extensionALPN })
	offered := hexList(extensions)
	if schemes := withoutGrease(hello.SignatureSchemes); len(schemes) > 0 && len(offered) > 0 {
		offered = append(append(offered, '_'), hexList(schemes)...)
	}
	return head + "_" + ja4Hash(hexList(ciphers)) + "_" + ja4Hash(offered)
}

// ja4Version is the newest version that is offered.
func ja4Version(offered []uint16) string {
	names := map[uint16]string{0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
	versions := withoutGrease(offered)
	if len(versions) == 0 {
		return "00"
	}
	if name, ok := names[slices.Max(versions)]; ok {
		return name
	}
	return "00"
}

// ja4Protocol is the first and the last character of the first protocol of ALPN,
// of its hexadecimal form where one of the two is no letter or digit.
func ja4Protocol(offered []string) string {
	if len(offered) == 0 || offered[0] == "" {
		return "00"
	}
	p := offered[0]
	if !isAlnum(p[0]) || !isAlnum(p[len(p)-1]) {
		p = fmt.Sprintf("%x", p)
	}
	return string([]byte{p[0], p[len(p)-1]})
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// ja4Hash is the first 12 digits of the SHA-256 of a list, zeros for none.
func ja4Hash(list []byte) string {
	if len(list) == 0 {
		return "000000000000"
	}
	sum := sha256.Sum256(list)
	return fmt.Sprintf("%x", sum[:6])
}

// hexList writes values as JA4 does: 1301,1302,c02b.
func hexList[T ~uint16](values []T) []byte {
	var b []byte
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%04x", uint16(v)) // signature schemes have names
	}
	return b
}

// withoutGrease is a copy of values without those that clients send for servers
// to stumble over: 0x0a0a, 0x1a1a, …, 0xfafa.
func withoutGrease[T ~uint16](values []T) []T {
	return slices.DeleteFunc(slices.Clone(values), func(v T) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff })
}
