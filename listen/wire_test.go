package listen

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// echo answers with what it was asked, so that a test sees what came through.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, "%s %s %s %q", r.Method, r.RequestURI, r.Host, body)
}

// exchange sends raw and returns all answers until the server closes or pauses.
func exchange(t *testing.T, l net.Listener, conf *tls.Config, raw string) (answers []string) {
	t.Helper()
	c, err := tls.Dial("tcp", l.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return answers
		}
		body, _ := io.ReadAll(res.Body)
		answers = append(answers, fmt.Sprintf("%d %s", res.StatusCode, strings.TrimSpace(string(body))))
	}
}

func TestWire(t *testing.T) {
	_, l, conf := serve(t, http.HandlerFunc(echo))
	const get = "GET / HTTP/1.1\r\nHost: hr.test\r\n"
	const post = "POST /p HTTP/1.1\r\nHost: hr.test\r\n"
	ok := `200 POST /p hr.test "hello"`
	for _, test := range []struct{ name, raw, want string }{
		{"plain", get + "\r\n", `200 GET / hr.test ""`},
		{"http10", "GET /a HTTP/1.0\r\nHost: hr.test\r\n\r\n", `200 GET /a hr.test ""`},
		{"options_star", "OPTIONS * HTTP/1.1\r\nHost: hr.test\r\n\r\n", `200 OPTIONS * hr.test ""`},
		{"length", post + "Content-Length: 5\r\n\r\nhello", ok},
		{"chunked", post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", ok},
		{"chunked_capitals", post + "transfer-encoding: Chunked\r\n\r\n005\r\nhello\r\n0\r\n\r\n", ok},
		{"chunk_extension", post + "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\n\r\n", ok},
		{"trailer_dropped", post + "Transfer-Encoding: chunked\r\nTrailer: X-Admin\r\n\r\n5\r\nhello\r\n0\r\nX-Admin: 1\r\n\r\n", ok},
		{"expect", post + "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello", "100 | " + ok},
		{"pipelined", get + "\r\n" + post + "Content-Length: 5\r\n\r\nhello" + get + "\r\n", `200 GET / hr.test "" | ` + ok + ` | 200 GET / hr.test ""`},
		{"blank_line_after_body", post + "Content-Length: 5\r\n\r\nhello\r\n" + get + "\r\n", ok + ` | 200 GET / hr.test ""`},
		{"pipelined_then_bad", get + "\r\nGET / HTTP/1.1\r\nHost: hr.test\r\nX : 1\r\n\r\n", `200 GET / hr.test "" | 400 bad_header`},

		{"two_lengths", post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400 bad_framing"},
		{"length_list", post + "Content-Length: 5,5\r\n\r\nhello", "400 bad_framing"},
		{"length_plus", post + "Content-Length: +5\r\n\r\nhello", "400 bad_framing"},
		{"length_hex", post + "Content-Length: 0x5\r\n\r\nhello", "400 bad_framing"},
		{"length_underscore", post + "Content-Length: 1_0\r\n\r\nhello", "400 bad_framing"},
		{"length_overflow", post + "Content-Length: 18446744073709551621\r\n\r\nhello", "400 bad_framing"},
		{"length_empty", post + "Content-Length:\r\n\r\nhello", "400 bad_framing"},
		{"length_and_chunked", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 bad_framing"},
		{"chunked_and_length", post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400 bad_framing"},
		{"coding_list", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501 bad_framing"},
		{"coding_twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 bad_framing"},
		{"coding_quoted", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "501 bad_framing"},
		{"coding_identity", post + "Transfer-Encoding: identity\r\n\r\n", "501 bad_framing"},
		{"coding_vertical_tab", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400 bad_header"},
		{"coding_empty", post + "Transfer-Encoding:\r\n\r\n0\r\n\r\n", "501 bad_framing"},
		{"http10_body", "POST / HTTP/1.0\r\nHost: hr.test\r\nContent-Length: 5\r\n\r\nhello", "400 bad_framing"},
		{"http10_chunked", "POST / HTTP/1.0\r\nHost: hr.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 bad_framing"},

		{"chunk_bare_lf", post + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", "400 bad_framing: a chunk line ends without a carriage return"},
		{"chunk_hex_prefix", post + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "400 bad_framing: a chunk does not begin with its size"},
		{"chunk_sign", post + "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", "400 bad_framing: a chunk does not begin with its size"},
		{"chunk_blank", post + "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "400 bad_framing: a chunk does not begin with its size"},
		{"chunk_overflow", post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n", "400 bad_framing: a chunk does not begin with its size"},
		{"chunk_too_long", post + "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", "400 bad_framing: a chunk is longer than its size says"},
		{"chunk_bare_cr_end", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r0\r\n\r\n", "400 bad_framing: a chunk is longer than its size says"},
		{"chunk_extensions", post + "Transfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("a", 5000) + "\r\nhello\r\n0\r\n\r\n", "400 bad_framing: a chunk line is too long"},
		{"chunk_many_extensions", post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 90)+"\r\nx\r\n", 50) + "0\r\n\r\n", "400 bad_framing: a chunk does not begin with its size"},
		{"chunk_missing_last", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "400 unexpected EOF"},
		{"trailer_bad", post + "Transfer-Encoding: chunked\r\n\r\n0\r\nX : 1\r\n\r\n", "400 bad_header: a header line does not begin with a name and a colon"},
		{"length_short", post + "Content-Length: 9\r\n\r\nhello", "400 unexpected EOF"},

		{"folded", get + "X-A: 1\r\n 2\r\n\r\n", "400 bad_header"},
		{"nul", get + "X-A: 1\x002\r\n\r\n", "400 bad_header"},
		{"bare_cr", get + "X-A: 1\rX-B: 2\r\n\r\n", "400 bad_header"},
		{"bare_lf", "GET / HTTP/1.1\nHost: hr.test\n\n", "400 bad_header"},
		{"one_bare_lf", get + "X-A: 1\nX-B: 2\r\n\r\n", "400 bad_header"},
		{"blank_before_colon", get + "X-A : 1\r\n\r\n", "400 bad_header"},
		{"no_name", get + ": 1\r\n\r\n", "400 bad_header"},
		{"no_colon", get + "X-A\r\n\r\n", "400 bad_header"},
		{"odd_name", get + "X(A): 1\r\n\r\n", "400 bad_header"},
		{"high_byte_name", get + "X-\xe4: 1\r\n\r\n", "400 bad_header"},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_target"},
		{"control_in_target", "GET /a\x01b HTTP/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_target"},
		{"blank_in_target", "GET /a b HTTP/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_version"},
		{"tab_in_request_line", "GET\t/ HTTP/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_method"},
		{"absolute", "GET http://hr.test/ HTTP/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_target"},
		{"authority", "CONNECT hr.test:443 HTTP/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_target"},
		{"star", "GET * HTTP/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_target"},
		{"bad_escape", "GET /%zz HTTP/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_target"},
		{"http09", "GET /\r\n", "400 bad_version"},
		{"http09_version", "GET / HTTP/0.9\r\nHost: hr.test\r\n\r\n", "505 bad_version"},
		{"http2_preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 bad_target"},
		{"version_case", "GET / http/1.1\r\nHost: hr.test\r\n\r\n", "400 bad_version"},
		{"version_minor", "GET / HTTP/1.10\r\nHost: hr.test\r\n\r\n", "400 bad_version"},
		{"no_host", "GET / HTTP/1.1\r\n\r\n", "400 bad_host"},
		{"two_hosts", get + "Host: hr.test\r\n\r\n", "400 bad_host"},
		{"host_with_blank", "GET / HTTP/1.1\r\nHost: hr test\r\n\r\n", "400 bad_host"},
		{"expect_other", post + "Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", "417 bad_expect"},
		{"early_frames", get + "Upgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x05hello", "400 bad_upgrade"},
		{"long_target", "GET /" + strings.Repeat("a", maxTarget) + " HTTP/1.1\r\nHost: hr.test\r\n\r\n", "414 head_too_large"},
		{"target_at_limit", "GET /" + strings.Repeat("a", maxTarget-1) + " HTTP/1.1\r\nHost: hr.test\r\n\r\n", `200 GET /` + strings.Repeat("a", maxTarget-1) + ` hr.test ""`},
		{"large_head", get + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 33) + "\r\n", "431 head_too_large"},
		{"many_lines", get + strings.Repeat("X-A: 1\r\n", 100) + "\r\n", "431 head_too_large"},
		{"many_lines_at_limit", get + strings.Repeat("X-A: 1\r\n", 99) + "\r\n", `200 GET / hr.test ""`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(exchange(t, l, conf, test.raw), " | "); strings.ReplaceAll(got, "100  |", "100 |") != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// A head that comes byte by byte, beside others on the same connection, is read as
// if it had come at once.
func TestWireInPieces(t *testing.T) {
	_, l, conf := serve(t, http.HandlerFunc(echo))
	c, err := tls.Dial("tcp", l.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw := "POST /p HTTP/1.1\r\nHost: hr.test\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nhe\r\n3\r\nllo\r\n0\r\nT: 1\r\n\r\n"
	r := bufio.NewReader(c)
	for range 3 {
		for i := range len(raw) {
			if _, err := c.Write([]byte(raw[i : i+1])); err != nil {
				t.Fatal(err)
			}
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(res.Body); string(body) != `POST /p hr.test "hello"` {
			t.Fatalf("got %s", body)
		}
	}
}

// What is accepted is read by net/http without complaint, and to the same end.
func FuzzParseHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a?b=%20 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 3\r\n\r\nabc",
		"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"GET / HTTP/1.0\r\nX-A:\tb \r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nUpgrade: websocket\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		end, no := headEnd(b)
		if no != nil || end == 0 {
			return
		}
		h, no := parseHead(b[:end])
		if no != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			t.Fatalf("accepted, but net/http says %v: %q", err, b[:end])
		}
		if r.Method != string(h.method) || r.RequestURI != string(h.target) || (len(r.TransferEncoding) > 0) != h.chunked || !h.chunked && r.ContentLength != h.length {
			t.Fatalf("read differently: %+v, %+v", h, r)
		}
	})
}

// What heads cost, beside what net/http takes to read the same one.
func BenchmarkHead(b *testing.B) {
	raw := []byte("GET /timesheets/7?week=47 HTTP/1.1\r\nHost: acme.hr.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Language: de\r\nAccept-Encoding: gzip, br\r\nCookie: session=0123456789abcdef; theme=dark\r\nReferer: https://acme.hr.example.com/\r\n\r\n")
	b.Run("edge", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			end, _ := headEnd(raw)
			if _, f := parseHead(raw[:end]); f != nil {
				b.Fatal(f)
			}
		}
	})
	b.Run("nethttp", func(b *testing.B) {
		b.ReportAllocs()
		r := bytes.NewReader(raw)
		br := bufio.NewReader(r)
		for b.Loop() {
			r.Reset(raw)
			br.Reset(r)
			if _, err := http.ReadRequest(br); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Of what is not understood nothing is repeated that could be a secret.
func TestScanKeepsSecrets(t *testing.T) {
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nAuthorization Bearer SECRET\r\n\r\n",
		"{\"password\":\"SECRET\"}\r\n\r\n",
		"hello, my SECRET is SECRET\r\n\r\n",
		"GET https://u:SECRET@hr.test/ HTTP/1.1\r\nHost: u:SECRET@hr.test\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: u:SECRET@hr.test\r\n\r\n",
		"SECRET\r\n\r\n", "GET / SECRET\r\n\r\n", "GET / HTTP/1.1\r\nHost: hr.test\r\nContent-Length: SECRET\r\n\r\n",
	} {
		_, f := parseHead([]byte(raw))
		if f == nil {
			t.Errorf("%q is accepted", raw)
			continue
		}
		if told := fmt.Sprintf("%s %+v", f.Detail, scan([]byte(raw))); strings.Contains(told, "SECRET") {
			t.Errorf("%q: %s", raw, told)
		}
	}
}
