package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"edge/config"
)

func origin(t testing.TB, header string, trusted ...string) Origin {
	t.Helper()
	o := Origin{header: header, list: header == config.ForwardedFor}
	for _, s := range trusted {
		var p config.Prefix
		if err := p.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		o.trusted = append(o.trusted, p)
	}
	return o
}

func TestClient(t *testing.T) {
	xff := origin(t, config.ForwardedFor, "10.0.0.0/8", "2001:db8::7", "::ffff:192.0.2.0/120")
	realIP := origin(t, "X-Real-Ip", "10.0.0.0/8")
	nobody := origin(t, config.ForwardedFor)
	for _, c := range []struct {
		name  string
		o     Origin
		peer  string
		lines []string
		want  string
		via   bool
	}{
		{"stranger", xff, "203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7", false},
		{"nobody_trusted", nobody, "10.0.0.1:1", []string{"198.51.100.1"}, "10.0.0.1", false},
		{"nothing_passed_on", xff, "10.0.0.1:1", nil, "10.0.0.1", true},
		{"one", xff, "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1", true},
		{"spoofed_in_front", xff, "10.0.0.1:1", []string{"1.2.3.4, 198.51.100.1, 10.2.2.2"}, "198.51.100.1", true},
		{"several_lines", xff, "10.0.0.1:1", []string{"1.2.3.4", "198.51.100.1", "10.2.2.2"}, "198.51.100.1", true},
		{"tabs", xff, "10.0.0.1:1", []string{"1.2.3.4,\t198.51.100.1\t,10.2.2.2 "}, "198.51.100.1", true},
		{"garbage_last", xff, "10.0.0.1:1", []string{"198.51.100.1, garbage"}, "10.0.0.1", true},
		{"garbage_behind_a_proxy", xff, "10.0.0.1:1", []string{"198.51.100.1, garbage, 10.2.2.2"}, "10.2.2.2", true},
		{"garbage_in_front", xff, "10.0.0.1:1", []string{"garbage, 198.51.100.1"}, "198.51.100.1", true},
		{"empty_element", xff, "10.0.0.1:1", []string{"198.51.100.1,"}, "10.0.0.1", true},
		{"empty_line", xff, "10.0.0.1:1", []string{"198.51.100.1", ""}, "10.0.0.1", true},
		{"short_form", xff, "10.0.0.1:1", []string{"127.1"}, "10.0.0.1", true},
		{"number", xff, "10.0.0.1:1", []string{"2130706433"}, "10.0.0.1", true},
		{"octal", xff, "10.0.0.1:1", []string{"010.0.0.1"}, "10.0.0.1", true},
		{"port", xff, "10.0.0.1:1", []string{"198.51.100.1:4711"}, "198.51.100.1:4711", true},
		{"ipv6_port", xff, "10.0.0.1:1", []string{"[2001:db8::1]:443"}, "[2001:db8::1]:443", true},
		{"port_of_a_proxy", xff, "10.0.0.1:1", []string{"198.51.100.1, 10.2.2.2:80"}, "198.51.100.1", true},
		{"mapped_port", xff, "10.0.0.1:1", []string{"[::ffff:198.51.100.1]:80"}, "198.51.100.1:80", true},
		{"bad_port", xff, "10.0.0.1:1", []string{"198.51.100.1:65536"}, "10.0.0.1", true},
		{"brackets", xff, "10.0.0.1:1", []string{"[198.51.100.1]:80"}, "10.0.0.1", true},
		{"zone", xff, "10.0.0.1:1", []string{"fe80::1%eth0"}, "10.0.0.1", true},
		{"zone_port", xff, "10.0.0.1:1", []string{"[fe80::1%eth0]:80"}, "10.0.0.1", true},
		{"mapped_peer", xff, "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1", true},
		{"mapped_range", xff, "192.0.2.5:1", []string{"198.51.100.1"}, "198.51.100.1", true},
		{"ipv6_peer", xff, "[2001:db8::7]:1", []string{"2001:db8::8"}, "2001:db8::8", true},
		{"peer_with_zone", xff, "[fe80::1%eth0]:1", []string{"198.51.100.1"}, "fe80::1", false},
		{"all_trusted", xff, "10.0.0.1:1", []string{"10.1.1.1, 10.2.2.2"}, "10.1.1.1", true},
		{"one_value", realIP, "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1", true},
		{"one_value_trusted_itself", realIP, "10.0.0.1:1", []string{"10.9.9.9"}, "10.9.9.9", true},
		{"two_values", realIP, "10.0.0.1:1", []string{"198.51.100.1, 198.51.100.2"}, "10.0.0.1", true},
		{"two_lines", realIP, "10.0.0.1:1", []string{"198.51.100.1", "198.51.100.2"}, "10.0.0.1", true},
		{"no_value", realIP, "10.0.0.1:1", nil, "10.0.0.1", true},
		{"value_of_a_stranger", realIP, "203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.peer
			for _, line := range c.lines {
				r.Header.Add(c.o.Header(), line)
			}
			want, ok := parseHop(c.want)
			got, via := c.o.client(r)
			if !ok || got.Addr() != want.Addr() || want.Port() != 0 && got.Port() != want.Port() || via != c.via {
				t.Errorf("%s, %v", got, via)
			}
		})
	}
}

// Each hop says why it was believed, or not.
func TestWalkSaysWhy(t *testing.T) {
	var got []string
	o := origin(t, config.ForwardedFor, "10.0.0.0/8")
	for h := range o.Walk(netip.MustParseAddrPort("[::ffff:10.0.0.1]:0"), []string{"1.2.3.4, 198.51.100.1", "10.2.2.2"}) {
		got = append(got, h.Addr.Addr().String()+" "+h.Why())
	}
	want := []string{
		"10.0.0.1 trusted proxy, in client_ip.trusted_proxies 10.0.0.0/8",
		"10.2.2.2 trusted proxy, in client_ip.trusted_proxies 10.0.0.0/8",
		"198.51.100.1 not a trusted proxy: this is the client",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for header, lines := range map[string][]string{"not an address": {"x"}, "not a single value": {"1.1.1.1", "1.1.1.1"}, "named by": {"1.1.1.1"}} {
		hops := slices.Collect(origin(t, "X-Real-Ip", "10.0.0.0/8").Walk(netip.MustParseAddrPort("10.0.0.1:0"), lines))
		if last := hops[len(hops)-1]; !strings.HasPrefix(last.Why(), header) {
			t.Errorf("%v: %s", lines, last.Why())
		}
	}
}

// The client is the peer or stands in the header; an untrusted peer is always the
// client; how the peer's address is written makes no difference.
func FuzzClient(f *testing.F) {
	f.Add("10.0.0.1:1", "1.2.3.4, ::1, x", false)
	f.Add("203.0.113.7:1", "1.2.3.4:5678, [2001:db8::1]:443", false)
	f.Add("10.0.0.1:1", "::ffff:1.2.3.4", true)
	lists, single := origin(f, config.ForwardedFor, "10.0.0.0/8"), origin(f, "X-Real-Ip", "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, remote, value string, one bool) {
		o := lists
		if one {
			o = single
		}
		ask := func(remote string) (netip.AddrPort, bool) {
			return o.client(&http.Request{RemoteAddr: remote, Header: http.Header{o.Header(): strings.Split(value, "\n")}})
		}
		from := peer(&http.Request{RemoteAddr: remote})
		got, via := ask(remote)
		if via != strings.HasPrefix(from.Addr().String(), "10.") || got.Addr().Zone() != "" || got.Addr().Is4In6() {
			t.Errorf("%q %q: %s, %v", remote, value, got, via)
		}
		stands := slices.ContainsFunc(strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '\n' }), func(text string) bool {
			addr, ok := parseHop(text)
			return ok && addr == got
		})
		if got != from && (!via || !stands) {
			t.Errorf("%q %q: %s is neither the peer nor in the header", remote, value, got)
		}
		if from.Addr().Is4() {
			mapped := netip.AddrPortFrom(netip.AddrFrom16(from.Addr().As16()), from.Port())
			if again, viaToo := ask(mapped.String()); again != got || viaToo != via {
				t.Errorf("%s: %s, but %s: %s", remote, got, mapped, again)
			}
		}
	})
}

// The plain case, a peer that is no proxy, and one hop behind a proxy, beside what
// it takes to parse the peer's address alone.
func BenchmarkClient(b *testing.B) {
	o := origin(b, config.ForwardedFor, "10.0.0.0/8", "172.16.0.0/12")
	direct := &http.Request{RemoteAddr: "203.0.113.7:4711", Header: http.Header{}}
	proxied := &http.Request{RemoteAddr: "10.0.0.1:4711", Header: http.Header{"X-Forwarded-For": {"1.2.3.4, 198.51.100.1, 172.16.0.2"}}}
	for name, f := range map[string]func(){
		"baseline": func() { peer(direct) },
		"direct":   func() { o.client(direct) },
		"proxied":  func() { o.client(proxied) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
