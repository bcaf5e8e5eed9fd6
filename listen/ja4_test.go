package listen

import (
	"crypto/tls"
	"encoding/binary"
	"regexp"
	"strings"
	"testing"
)

// What browsers offer, by what is published about them.
var (
	chromeCiphers = []uint16{0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035}
	chromeOffers  = []uint16{0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015}
	chromeSchemes = []tls.SignatureScheme{0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601}

	firefoxCiphers = []uint16{0x1301, 0x1303, 0x1302, 0xc02b, 0xc02f, 0xcca9, 0xcca8, 0xc02c, 0xc030, 0xc00a, 0xc009, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035}
	firefoxOffers  = []uint16{0x0000, 0x0017, 0xff01, 0x000a, 0x000b, 0x0023, 0x0010, 0x0005, 0x0022, 0x0033, 0x002b, 0x000d, 0x001c, 0x002d, 0xfe0d}
	firefoxSchemes = []tls.SignatureScheme{0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201}
)

func TestJA4(t *testing.T) {
	many := make([]uint16, 120)
	for i := range many {
		many[i] = 0x1101 + uint16(i)
	}
	both, h2 := []uint16{0x0304, 0x0303}, []string{"h2", "http/1.1"}
	for _, c := range []struct {
		name  string
		hello tls.ClientHelloInfo
		want  string
	}{
		{"chrome", tls.ClientHelloInfo{CipherSuites: chromeCiphers, Extensions: chromeOffers, SignatureSchemes: chromeSchemes, SupportedVersions: both, SupportedProtos: h2},
			"t13d1516h2_8daaf6152771_e5627efa2ab1"},
		{"grease", tls.ClientHelloInfo{
			CipherSuites: append([]uint16{0x0a0a}, chromeCiphers...), Extensions: append(append([]uint16{0xfafa}, chromeOffers...), 0x2a2a),
			SignatureSchemes: append([]tls.SignatureScheme{0x1a1a}, chromeSchemes...), SupportedVersions: append([]uint16{0x8a8a}, both...), SupportedProtos: h2,
		}, "t13d1516h2_8daaf6152771_e5627efa2ab1"},
		{"firefox", tls.ClientHelloInfo{CipherSuites: firefoxCiphers, Extensions: firefoxOffers, SignatureSchemes: firefoxSchemes, SupportedVersions: both, SupportedProtos: h2},
			"t13d1715h2_5b57614c22b0_5c2c66f702b0"},
		{"nothing", tls.ClientHelloInfo{}, "t00i000000_000000000000_000000000000"},
		{"no_schemes", tls.ClientHelloInfo{CipherSuites: []uint16{0x1301}, Extensions: []uint16{5}, SupportedVersions: []uint16{0x0303}}, "t12i010100_0f2cb44170f4_1ed8eb363bcd"},
		{"only_names", tls.ClientHelloInfo{Extensions: []uint16{0, 0x10}, SignatureSchemes: chromeSchemes, SupportedVersions: []uint16{0x0302}}, "t11d000200_000000000000_000000000000"},
		{"many", tls.ClientHelloInfo{CipherSuites: many, Extensions: many, SupportedVersions: []uint16{0x7f1c}}, "t00i999900_"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ja4(&c.hello); !strings.HasPrefix(got, c.want) || len(got) != 36 {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestJA4Protocol(t *testing.T) {
	for p, want := range map[string]string{
		"": "00", "h2": "h2", "http/1.1": "h1", "x": "xx", "\xab": "ab", "\xab\xcd": "ad", "0\xab": "3b", "01\xab\xcd": "3d", "0\xab\xcd1": "01", "\x0a\x0a": "0a", "-a": "21",
	} {
		if got := ja4Protocol([]string{p}); got != want {
			t.Errorf("%q: %q, want %q", p, got, want)
		}
	}
}

var ja4Form = regexp.MustCompile(`^t(13|12|11|10|s3|s2|00)[di][0-9]{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$`)

// A fingerprint has its form whatever a client offers, and the order of offers does
// not matter.
func FuzzJA4(f *testing.F) {
	f.Add([]byte("\x13\x01\x0a\x0a\xc0\x2b\x00\x00\x00\x10\x03\x04"), "h2")
	f.Fuzz(func(t *testing.T, data []byte, protocol string) {
		var values, turned []uint16
		for ; len(data) >= 2; data = data[2:] {
			v := binary.BigEndian.Uint16(data)
			values, turned = append(values, v), append([]uint16{v}, turned...)
		}
		hello := tls.ClientHelloInfo{CipherSuites: values, Extensions: values, SupportedVersions: values, SupportedProtos: []string{protocol}}
		got := ja4(&hello)
		hello.CipherSuites, hello.Extensions = turned, turned
		if again := ja4(&hello); !ja4Form.MatchString(got) || again != got {
			t.Errorf("%q, in another order %q", got, again)
		}
	})
}

func BenchmarkJA4(b *testing.B) {
	hello := &tls.ClientHelloInfo{CipherSuites: chromeCiphers, Extensions: chromeOffers, SignatureSchemes: chromeSchemes,
		SupportedVersions: []uint16{0x0304, 0x0303}, SupportedProtos: []string{"h2", "http/1.1"}}
	b.ReportAllocs()
	for b.Loop() {
		ja4(hello)
	}
}
