package listen

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edge/blocklog"
	"edge/config"
)

// v2 is a header of version 2: command, family and what follows the length.
func v2(command, family byte, rest string) string {
	return "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const (
	v4Pair = "\xcb\x00\x71\x09\xc0\x00\x02\x01\x12\x67\x01\xbb" // 203.0.113.9:4711 to 192.0.2.1:443
	tlvs   = "\x04\x00\x03abc\x02\x00\x07hr.test"
)

func v6Pair(source string) string {
	a := netip.MustParseAddr(source).As16()
	return string(a[:]) + strings.Repeat("\x00", 15) + "\x01" + "\x12\x67\x01\xbb"
}

// announcements are what load balancers begin connections with, and whom that
// makes the client; "" is the balancer itself.
var announcements = []struct{ name, header, client string }{
	{"v1_ipv4", "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n", "203.0.113.9:4711"},
	{"v1_ipv6", "PROXY TCP6 2001:db8::9 2001:db8::1 4711 443\r\n", "[2001:db8::9]:4711"},
	{"v1_mapped", "PROXY TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 4711 443\r\n", "203.0.113.9:4711"},
	{"v1_unknown", "PROXY UNKNOWN\r\n", ""},
	{"v1_unknown_with_addresses", "PROXY UNKNOWN 203.0.113.9 192.0.2.1 4711 443\r\n", ""},
	{"v2_ipv4", v2(0x21, 0x11, v4Pair), "203.0.113.9:4711"},
	{"v2_ipv4_tlvs", v2(0x21, 0x11, v4Pair+tlvs), "203.0.113.9:4711"},
	{"v2_long_tlv", v2(0x21, 0x11, v4Pair+"\x30\x0b\xb8"+strings.Repeat("x", 3000)), "203.0.113.9:4711"},
	{"v2_ipv6", v2(0x21, 0x21, v6Pair("2001:db8::9")), "[2001:db8::9]:4711"},
	{"v2_mapped", v2(0x21, 0x21, v6Pair("::ffff:203.0.113.9")), "203.0.113.9:4711"},
	{"v2_local", v2(0x20, 0x00, ""), ""},
	{"v2_local_with_addresses", v2(0x20, 0x11, v4Pair), ""},
	{"v2_unix", v2(0x21, 0x31, strings.Repeat("\x00", 216)), ""},
	{"v2_udp", v2(0x21, 0x12, v4Pair), ""},
}

// broken are what no load balancer sends. The connection is dropped.
var broken = []struct{ name, header string }{
	{"nothing", ""},
	{"tls_at_once", "\x16\x03\x01\x00\x05hello"},
	{"garbage", "GET / HTTP/1.1\r\nHost: hr.test\r\n\r\n"},
	{"v1_half", "PROXY TCP4 203.0.113.9 19"},
	{"v1_bare_newline", "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\n"},
	{"v1_no_end", "PROXY TCP4 " + strings.Repeat("1", 200)},
	{"v1_short_address", "PROXY TCP4 127.1 192.0.2.1 4711 443\r\n"},
	{"v1_zone", "PROXY TCP6 fe80::1%eth0 2001:db8::1 4711 443\r\n"},
	{"v1_port", "PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n"},
	{"v1_other_family", "PROXY TCP6 203.0.113.9 192.0.2.1 4711 443\r\n"},
	{"v2_half", v2(0x21, 0x11, v4Pair)[:20]},
	{"v2_short_addresses", v2(0x21, 0x11, v4Pair[:8])},
	{"v2_unspecified", v2(0x21, 0x00, "")},
	{"v2_family", v2(0x21, 0x13, v4Pair)},
	{"v2_command", v2(0x22, 0x11, v4Pair)},
	{"v2_huge", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + v4Pair},
}

func prefixes(list ...string) (all []config.Prefix) {
	for _, s := range list {
		all = append(all, config.Prefix{Prefix: netip.MustParsePrefix(s)})
	}
	return all
}

func believing(list ...string) func(*Server) {
	return func(s *Server) { s.Believe(prefixes(list...)) }
}

// whoami answers with the address a request is from.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })

// ask connects, sends before, and asks over TLS who it is.
func ask(l net.Listener, conf *tls.Config, before string) (answer string, err error) {
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer raw.Close()
	if _, err := io.WriteString(raw, before); err != nil {
		return "", err
	}
	c := tls.Client(raw, conf)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: hr.test\r\n\r\n"); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	if strings.HasPrefix(string(body), "127.0.0.1:") && string(body) == raw.LocalAddr().String() {
		return "", err // the peer itself
	}
	return string(body), err
}

// A listed peer says who the client is.
func TestAnnounced(t *testing.T) {
	_, l, conf := serve(t, whoami, believing("127.0.0.0/8"))
	for _, c := range announcements {
		t.Run(c.name, func(t *testing.T) {
			if got, err := ask(l, conf, c.header); got != c.client || err != nil {
				t.Errorf("%q, %v; want %q", got, err, c.client)
			}
		})
	}
}

// A listed peer that says nothing sensible is dropped.
func TestBrokenAnnouncements(t *testing.T) {
	_, l, conf := serve(t, whoami, believing("127.0.0.0/8"))
	for _, c := range broken {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, err := ask(l, conf, c.header); err == nil {
				t.Errorf("it got an answer: %q", got)
			}
		})
	}
}

// Nobody else is believed, however right the header.
func TestAnnouncedByStrangers(t *testing.T) {
	_, l, conf := serve(t, whoami, believing("10.0.0.0/8", "::1/128"))
	for _, c := range announcements {
		t.Run(c.name, func(t *testing.T) {
			if got, err := ask(l, conf, c.header); err == nil {
				t.Errorf("it got an answer: %q", got)
			}
		})
	}
	if got, err := ask(l, conf, ""); got != "" || err != nil {
		t.Errorf("without a header: %q, %v", got, err)
	}
}

// HTTP/2 requests are from the announced client, too, and both protocols carry the fingerprint.
func TestAnnouncedOverHTTP2(t *testing.T) {
	fingerprints := make(chan string, 2)
	_, l, conf := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fingerprints <- blocklog.ConnOf(r.Context()).JA4
		whoami(w, r)
	}), believing("127.0.0.0/8"))
	for _, h2 := range []bool{false, true} {
		c := clientFor(l, conf.Clone(), h2)
		dial := c.Transport.(*http.Transport).DialContext
		c.Transport.(*http.Transport).DialContext = nil
		c.Transport.(*http.Transport).Dial = func(network, addr string) (net.Conn, error) { //nolint:staticcheck // the context is of no use here
			raw, err := dial(t.Context(), network, addr)
			if err == nil {
				_, err = io.WriteString(raw, v2(0x21, 0x11, v4Pair))
			}
			return raw, err
		}
		res, err := c.Get("https://hr.test/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(body) != "203.0.113.9:4711" || (res.ProtoMajor == 2) != h2 {
			t.Errorf("%s over %s", body, res.Proto)
		}
		if got := <-fingerprints; len(got) != 36 || !strings.HasPrefix(got, "t13d") || (got[8:10] == "h2") != h2 {
			t.Errorf("fingerprint %q over %s", got, res.Proto)
		}
		c.CloseIdleConnections()
	}
}

// Who has nothing to say is not waited for longer than two seconds, and the wait is
// not in the way of others.
func TestSilentBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		s := &Server{balancers: prefixes("10.0.0.0/8")}
		from := time.Now()
		_, err := s.announced(peerConn{ours, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}})
		if took := time.Since(from); !errors.Is(err, os.ErrDeadlineExceeded) || took != announceTimeout {
			t.Errorf("%v after %s", err, took)
		}
	})
	_, l, conf := serve(t, whoami, believing("127.0.0.0/8"))
	for range 20 {
		silent, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	from := time.Now()
	if _, err := ask(l, conf, "PROXY UNKNOWN\r\n"); err != nil || time.Since(from) > announceTimeout {
		t.Errorf("%v after %s", err, time.Since(from))
	}
}

// peerConn is a connection from an address of the test's choice.
type peerConn struct {
	net.Conn
	from net.Addr
}

func (c peerConn) RemoteAddr() net.Addr { return c.from }

// The connections of a balancer are counted as those of whom they are for.
func TestAnnouncedAreCounted(t *testing.T) {
	_, l, conf := serve(t, whoami, believing("127.0.0.0/8"), func(s *Server) { s.door.limits.PerClient = 2 })
	open := func(who string) error {
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		if _, err := io.WriteString(raw, "PROXY TCP4 "+who+" 192.0.2.1 4711 443\r\n"); err != nil {
			t.Fatal(err)
		}
		return tls.Client(raw, conf).Handshake()
	}
	for _, c := range []struct {
		who    string
		passes bool
	}{{"203.0.113.1", true}, {"203.0.113.1", true}, {"203.0.113.2", true}, {"203.0.113.1", false}, {"203.0.113.2", true}, {"203.0.113.2", false}} {
		if err := open(c.who); (err == nil) != c.passes {
			t.Errorf("%s: %v", c.who, err)
		}
	}
}

// Whatever a listed peer sends, what is behind its header comes out whole, and the
// address is one that rules can be about.
func FuzzAnnounced(f *testing.F) {
	for _, c := range announcements {
		f.Add([]byte(c.header + "rest"))
	}
	for _, c := range broken {
		f.Add([]byte(c.header))
	}
	s := &Server{balancers: prefixes("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, data []byte) {
		raw := &script{in: data}
		c, err := s.announced(raw)
		if err != nil {
			return
		}
		if a := addrOf(c.RemoteAddr()).Addr(); !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			t.Errorf("%q: %v", data, a)
		}
		rest, err := io.ReadAll(c)
		if err != nil || !strings.HasSuffix(string(data), string(rest)) || len(rest) == len(data) {
			t.Errorf("%q leaves %q, %v", data, rest, err)
		}
	})
}

// script is a connection on which in arrives.
type script struct {
	net.Conn
	in []byte
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1} }
func (s *script) SetReadDeadline(time.Time) error { return nil }
