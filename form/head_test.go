package form

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestCookies(t *testing.T) {
	for line, want := range map[string]string{
		"":                           "",
		"a=b":                        "a=b",
		"a=b; c=d":                   "a=b; c=d",
		"a=b;c=d":                    "a=b;c=d",
		"a=b;":                       "a=b",
		"a=b; ":                      "a=b",
		"a=":                         "a=",
		"a==b=":                      "a==b=",
		`a="b"`:                      `a="b"`,
		`a=""`:                       `a=""`,
		`a=b"c"d`:                    `a=b"c"d`,
		`a={"x":[1, 2],"y":"z\\"}`:   `a={"x":[1, 2],"y":"z\\"}`,
		"a=Jürgen Müller, Köln":      "a=Jürgen Müller, Köln",
		"a=1; a=2":                   "a=1; a=2",
		"__Host-s=x.y.z; _ga=GA1.2":  "__Host-s=x.y.z; _ga=GA1.2",
		"a=%22%3B%00; b=`|^":         "a=%22%3B%00; b=`|^",
		strings.Repeat("a=b; ", 200): strings.Repeat("a=b; ", 199) + "a=b",
	} {
		if got, f := Cookies([]string{line}); f != nil || got != want {
			t.Errorf("%s = %q, %v", quoted(line), got, f)
		}
	}
	if got, f := Cookies([]string{"a=b;", "", "c=d", "e=f; g=h"}); f != nil || got != "a=b; c=d; e=f; g=h" {
		t.Errorf("four lines = %q, %v", got, f)
	}
	if got, f := Cookies(nil); f != nil || got != "" {
		t.Errorf("none = %q, %v", got, f)
	}
}

func TestNoCookies(t *testing.T) {
	for _, line := range []string{
		"a", "=b", "a=b; =c", "a=b; c", "a=b;;c=d", "; a=b", "a b=c", "a =b", "a,b=c", "a\"=b", "ü=b",
		"$Version=1; a=b", "a=b; $Path=/", "a=\x00", "a=\tb", "a=b\x7f", "a=b\r\nc", "a=\xff",
		`a="`, `a="b`, `a="b"c`, `a="b;c"`, `a="b\"c"`, `a="b\\"`, `a= "b`, `a="b" "c"`, `a="b\`,
		strings.Repeat("a=b; ", 201),
	} {
		if got, f := Cookies([]string{line}); f == nil || f.Reason != "bad_cookie" || f.Status != 400 {
			t.Errorf("%q = %q, %v", line, got, f)
		}
	}
}

func TestCookieFaultsKeepSecrets(t *testing.T) {
	for _, line := range []string{"a=geheim\x00", "geheim", "a=b; geheim; c=d", `a="geheim`, "a=\xffgeheim"} {
		if _, f := Cookies([]string{line}); f == nil || strings.Contains(f.Detail, "geheim") {
			t.Errorf("%q: %v", line, f)
		}
	}
}

func FuzzCookies(f *testing.F) {
	for _, line := range []string{"a=b; c=d", `a="b"`, `a="b`, "$a=b", "a", "a=b;", "a=ü"} {
		f.Add(line, line)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		joined, fault := Cookies([]string{one, two})
		if fault != nil {
			return
		}
		if again, fault := Cookies([]string{joined}); fault != nil || again != joined {
			t.Fatalf("%q, then %q, %v", joined, again, fault)
		}
		if joined == "" {
			return
		}
		r := http.Request{Header: http.Header{"Cookie": {joined}}}
		for i, pair := range strings.Split(joined, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " "), "=")
			if strings.ContainsFunc(value, func(r rune) bool { return r >= 0x80 || r == '\\' || r == '"' }) || strings.HasPrefix(value, " ") {
				return // net/http passes over these
			}
			if c := r.Cookies(); len(c) <= i || c[i].Name != name || c[i].Value != value {
				t.Fatalf("cookie %d of %q: %q=%q, by net/http %v", i, joined, name, value, c)
			}
		}
	})
}

func TestHeaders(t *testing.T) {
	many := http.Header{}
	for i := range 100 {
		many[fmt.Sprintf("X-%d", i)] = []string{"a"}
	}
	for name, h := range map[string]http.Header{
		"none":    {},
		"browser": {"Accept": {"*/*"}, "User-Agent": {"Mozilla/5.0 (Ä)"}, "Accept-Encoding": {"gzip, br"}, "Te": {"trailers"}},
		"token":   {"Authorization": {"Bearer " + strings.Repeat("x", 2048)}, "Cookie": {strings.Repeat("a=b; ", 400), "c=d"}},
		"lists":   {"Accept": {"a/b", "c/d"}, "X-Forwarded-For": {"a", "b"}, "If-None-Match": {`"a"`, `"b"`}},
		"tab":     {"X-A": {"a\tb"}},
		"100":     many,
		"large":   {"X-A": {strings.Repeat("a", 32<<10-7)}},
	} {
		for _, major := range []int{1, 2} {
			if f := Headers(h, major); f != nil {
				t.Errorf("%s: %v", name, f)
			}
		}
	}
	if f := Headers(http.Header{"Te": {"gzip"}, "Connection": {"TE"}}, 1); f != nil {
		t.Error(f)
	}
}

func TestNoHeaders(t *testing.T) {
	many := http.Header{"X-A": make([]string, 101)}
	for name, c := range map[string]struct {
		h      http.Header
		status int
	}{
		"types":      {http.Header{"Content-Type": {"a/b", "a/b"}}, 400},
		"auth":       {http.Header{"Authorization": {"a", "b"}}, 400},
		"agents":     {http.Header{"User-Agent": {"a", "b"}}, 400},
		"hosts":      {http.Header{"Host": {"a", "b"}}, 400},
		"codings":    {http.Header{"Content-Encoding": {"gzip", "gzip"}}, 400},
		"name":       {http.Header{"X A": {"a"}}, 400},
		"colon":      {http.Header{"X:A": {"a"}}, 400},
		"empty":      {http.Header{"": {"a"}}, 400},
		"nul":        {http.Header{"X-A": {"a\x00"}}, 400},
		"newline":    {http.Header{"X-A": {"a\r\nb"}}, 400},
		"te":         {http.Header{"Te": {"gzip"}}, 400},
		"connection": {http.Header{"Connection": {"close"}}, 400},
		"upgrade":    {http.Header{"Upgrade": {"websocket"}}, 400},
		"101":        {many, 431},
		"large":      {http.Header{"X-A": {strings.Repeat("a", 32<<10)}}, 431},
	} {
		if f := Headers(c.h, 2); f == nil || f.Status != c.status {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func TestCoding(t *testing.T) {
	for value, want := range map[string]string{"gzip": "gzip", "GZIP": "gzip", "x-gzip": "gzip", "deflate": "deflate", "identity": ""} {
		if got, f := Coding([]string{value}); f != nil || got != want {
			t.Errorf("%s = %q, %v", value, got, f)
		}
	}
	if got, f := Coding(nil); f != nil || got != "" {
		t.Errorf("none = %q, %v", got, f)
	}
	for _, values := range [][]string{{""}, {"br"}, {"zstd"}, {"gzip, gzip"}, {"identity, gzip"}, {"gzip", "gzip"}, {"gzip,"}, {"gzip\t"}, {"gz ip"}} {
		if got, f := Coding(values); f == nil || f.Status != 415 || f.Reason != "body_encoding" {
			t.Errorf("%q = %q, %v", values, got, f)
		}
	}
}

func BenchmarkCookies(b *testing.B) {
	for _, n := range []int{10, 200, 10_000} {
		lines := []string{strings.Repeat("name=value; ", n)}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Cookies(lines)
			}
		})
	}
}
