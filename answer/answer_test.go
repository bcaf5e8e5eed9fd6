package answer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestParseHead(t *testing.T) {
	for name, c := range map[string]struct{ head, wrong string }{
		"plain":             {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer:\tx\r\n\r\n", ""},
		"old":               {"HTTP/1.0 404 Not Found\r\n\r\n", ""},
		"no_reason":         {"HTTP/1.1 200\r\n\r\n", ""},
		"latin1":            {"HTTP/1.1 200 OK\r\nX: Jos\xe9\r\n\r\n", ""},
		"chunked":           {"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\n\r\n", ""},
		"junk":              {"SSH-2.0-OpenSSH\r\n\r\n", "no status line"},
		"http09":            {"<html>\r\n\r\n", "no status line"},
		"http2":             {"HTTP/2.0 200 OK\r\n\r\n", "no status line"},
		"http12":            {"HTTP/1.2 200 OK\r\n\r\n", "no status line"},
		"lower_case":        {"http/1.1 200 OK\r\n\r\n", "no status line"},
		"two_digits":        {"HTTP/1.1 20 OK\r\n\r\n", "three digits"},
		"four_digits":       {"HTTP/1.1 2000 OK\r\n\r\n", "no status line"},
		"status_000":        {"HTTP/1.1 000 OK\r\n\r\n", "no status 0"},
		"status_600":        {"HTTP/1.1 600 OK\r\n\r\n", "no status 600"},
		"reason_nul":        {"HTTP/1.1 200 O\x00K\r\n\r\n", "no status line"},
		"two_lengths":       {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", "several Content-Lengths"},
		"list_of_lengths":   {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n", "Content-Length is"},
		"signed":            {"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n", "Content-Length is"},
		"negative":          {"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n", "Content-Length is"},
		"hex":               {"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n", "Content-Length is"},
		"empty_length":      {"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "Content-Length is"},
		"huge_length":       {"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n", "Content-Length is"},
		"length_and_te":     {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "both"},
		"te_and_length":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", "both"},
		"te_identity":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", "not chunked"},
		"te_list":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not chunked"},
		"te_twice":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "several Transfer"},
		"te_vertical_tab":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: \vchunked\r\n\r\n", "control"},
		"te_old":            {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"},
		"blank_colon":       {"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n", "no name"},
		"no_colon":          {"HTTP/1.1 200 OK\r\nX\r\n\r\n", "without a colon"},
		"no_name":           {"HTTP/1.1 200 OK\r\n: x\r\n\r\n", "without a name"},
		"fold":              {"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "folded"},
		"fold_first":        {"HTTP/1.1 200 OK\r\n X: a\r\n\r\n", "folded"},
		"nul":               {"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", "control"},
		"bare_cr":           {"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "control"},
		"del":               {"HTTP/1.1 200 OK\r\nX: a\x7f\r\n\r\n", "control"},
		"bare_lf":           {"HTTP/1.1 200 OK\nX: a\r\n\r\n", "no end"},
		"bare_lf_inside":    {"HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n", "no end"},
		"many":              {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", MaxLines) + "\r\n", ""},
		"too_many":          {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", MaxLines+1) + "\r\n", "more than 200"},
		"more_than_a_head":  {"HTTP/1.1 200 OK\r\n\r\nx", "behind the head"},
		"less_than_a_head":  {"HTTP/1.1 200 OK\r\nX: y\r\n", "no end"},
		"name_not_ascii":    {"HTTP/1.1 200 OK\r\nX\xe9: y\r\n\r\n", "no name"},
		"nothing":           {"", "no end"},
		"only_a_blank_line": {"\r\n", "no status line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseHead([]byte(c.head))
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("%v, want %q", err, c.wrong)
			}
		})
	}
}

func TestChunks(t *testing.T) {
	for name, c := range map[string]struct{ body, wrong string }{
		"plain":          {"5\r\nhello\r\n0\r\n\r\n", ""},
		"hex":            {"0005\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n", ""},
		"extension":      {"5;a=\"b\"\r\nhello\r\n0;x\r\n\r\n", ""},
		"trailers":       {"0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", ""},
		"no_size":        {"\r\nhello\r\n0\r\n\r\n", "no number"},
		"prefix":         {"0x5\r\nhello\r\n0\r\n\r\n", "no number"},
		"sign":           {"+5\r\nhello\r\n0\r\n\r\n", "no number"},
		"blank":          {"5 \r\nhello\r\n0\r\n\r\n", "no number"},
		"overflow":       {"10000000000000005\r\nhello\r\n0\r\n\r\n", "no number"},
		"bare_lf":        {"5\nhello\r\n0\r\n\r\n", "no number"},
		"cr_alone":       {"5\rxhello\r\n0\r\n\r\n", "CRLF"},
		"too_long":       {"5\r\nhello!\r\n0\r\n\r\n", "not as long"},
		"too_short":      {"5\r\nhell\r\n0\r\n\r\n", "not as long"},
		"lf_in_ext":      {"5;a\nb\r\nhello\r\n0\r\n\r\n", "extension"},
		"long_ext":       {"5;" + strings.Repeat("a", 300) + "\r\nhello\r\n0\r\n\r\n", "extension"},
		"bad_trailer":    {"0\r\nX : 1\r\n\r\n", "no name"},
		"lf_trailer":     {"0\r\nX: 1\n\r\n", "CRLF"},
		"framing":        {"0\r\nContent-Length: 1\r\n\r\n", "called content-length"},
		"large_trailers": {"0\r\n" + strings.Repeat("X: 1\r\n", 2000) + "\r\n", "trailers of more"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 3, len(c.body)} {
				var got chunks
				var err error
				for rest := []byte(c.body); len(rest) > 0 && err == nil; rest = rest[min(size, len(rest)):] {
					_, err = got.pass(rest[:min(size, len(rest))])
				}
				if c.wrong == "" && (err != nil || got.step != atEnd) || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
					t.Errorf("in pieces of %d: %v, want %q", size, err, c.wrong)
				}
			}
		})
	}
}

// script is a connection on which pieces come, and then its end.
type script struct {
	net.Conn
	data  []byte
	piece int
}

func (s *script) Write(p []byte) (int, error) { return len(p), nil }

func (s *script) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data[:min(s.piece, len(s.data))])
	s.data = s.data[n:]
	return n, nil
}

// drain asks for one answer and returns what is handed out of data.
func drain(t testing.TB, data []byte, method string, piece, size int) (out []byte, c *Conn, err error) {
	s := &script{data: data, piece: piece}
	c = Guard(s, s)
	c.Begin(method)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for p := make([]byte, size); ; {
		n, err := c.Read(p)
		if out = append(out, p[:n]...); err != nil {
			return out, c, err
		}
		if n == 0 {
			t.Fatal("nothing, and no error")
		}
	}
}

// Whatever comes, in whatever pieces, the same is handed out; and where net/http
// takes it for a whole answer, it ends where the guard says it does.
func FuzzConn(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: 1\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nto the end", "HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 101 S\r\n\r\nabc", "HTTP/1.1 200 OK\n\nx", "", "H",
	} {
		f.Add([]byte(s), false, uint8(1))
		f.Add([]byte(s), true, uint8(7))
	}
	f.Fuzz(func(t *testing.T, data []byte, head bool, piece uint8) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		whole, c, err := drain(t, data, method, len(data)+1, len(data)+1)
		parts, _, partsErr := drain(t, data, method, int(piece)+1, int(piece)/2+1)
		if bad := (*Malformed)(nil); !errors.As(err, &bad) && (!bytes.Equal(whole, parts) || err != partsErr) { //nolint:errorlint // the very same
			t.Fatalf("at once %q, %v; in pieces %q, %v", whole, err, parts, partsErr)
		} else if !bytes.HasPrefix(data, whole) && string(whole) != "H" {
			t.Fatalf("%q was made of %q", whole, data)
		}
		if bytes.Equal(whole, data) && err == io.EOF || len(whole) == 0 { //nolint:errorlint // the very same
			return // it ended with the connection, or did not begin
		}
		br := bufio.NewReader(bytes.NewReader(whole))
		var res *http.Response
		for err := error(nil); res == nil || res.StatusCode < 200 && res.StatusCode != 101; {
			if res, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
				return
			}
		}
		if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode == 101 {
			return
		}
		if c.turn != nobodys && c.at != inRaw {
			t.Fatalf("net/http takes %q for whole", whole)
		}
	})
}

// What comes before it was asked for, or after it has ended, is never an answer.
func TestStale(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := Guard(a, a)
	if _, err := io.WriteString(b, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); !pending(a) && time.Now().Before(deadline); {
	}
	c.Begin("GET")
	if n, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); n != 0 || !errors.Is(err, ErrStale) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := c.Read(make([]byte, 100)); n != 0 || !errors.Is(err, ErrStale) {
		t.Errorf("%d, %v", n, err)
	}
}

// A round trip beside one without a guard, and a large body the same way.
func BenchmarkRoundTrip(b *testing.B) {
	big := make([]byte, 4<<20)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/plain")
		if r.URL.Path == "/big" || r.URL.Path == "/chunked" {
			if r.URL.Path == "/big" {
				w.Header().Set("Content-Length", "4194304")
			}
			_, _ = w.Write(big)
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	defer srv.Close()
	bare := &http.Transport{}
	strict := NewTransport(&http.Transport{DialContext: new(net.Dialer).DialContext})
	for _, path := range []string{"/small", "/big", "/chunked"} {
		for name, rt := range map[string]http.RoundTripper{"bare": bare, "guarded": strict} {
			b.Run(path[1:]+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				buf := make([]byte, 32<<10)
				for b.Loop() {
					req, _ := http.NewRequest("GET", srv.URL+path, nil)
					res, err := rt.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{res.Body}, buf); err != nil {
						b.Fatal(err)
					}
					res.Body.Close()
				}
			})
		}
	}
	bare.CloseIdleConnections()
	strict.CloseIdleConnections()
}
