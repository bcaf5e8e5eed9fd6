package form

import (
	"net/url"
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	for raw, path := range map[string]string{
		"/":                                "/",
		"*":                                "*",
		"/a?x=1":                           "/a",
		"/a//b?x=//":                       "/a/b",
		"//evil/x":                         "/evil/x",
		"///":                              "/",
		"/a/":                              "/a/",
		"/a?":                              "/a",
		"/50%25":                           "/50%",
		"/M%C3%BCller":                     "/Müller",
		"/%61dmin":                         "/admin",
		"/a%20b/c.d":                       "/a b/c.d",
		"/.well-known/x":                   "/.well-known/x",
		"/...a":                            "/...a",
		"/a+b@c:d,e=f&g!$'()*~_-":          "/a+b@c:d,e=f&g!$'()*~_-",
		"/a%3Fb%23c":                       "/a?b#c",
		"/50%25used":                       "/50%used",
		"/q?r=https%3A%2F%2Fa%2F%253":      "/q",
		"/q?r=a%252Fb;c%3Bd":               "/q",
		"/q?t=a%0D%0A%09b":                 "/q",
		"/q?t=%F0%9F%98%80&50%25":          "/q",
		"/q?a[]=1&b={}|\\\"^`<>'":          "/q",
		"/q?../..;/%5c%2f?":                "/q",
		"/q?" + strings.Repeat("a&", 999):  "/q",
		"/" + strings.Repeat("a", 8<<10-1): "/" + strings.Repeat("a", 8<<10-1),
	} {
		for _, strict := range []bool{true, false} {
			got, f := ParseTarget(raw, strict)
			if f != nil || got.Path != path {
				t.Errorf("%s (strict %v) = %+v, %v, want path %s", quoted(raw), strict, got, f, path)
			}
		}
	}
}

func TestTargetIsForwardedAsReceived(t *testing.T) {
	for raw, want := range map[string]Target{
		"/a//b?x=1//2": {"/a/b?x=1//2", "/a/b", "/a/b", "x=1//2"},
		"//evil":       {"/evil", "/evil", "/evil", ""},
		"/%61?":        {"/%61?", "/a", "/a", ""},
		"/a?b?c":       {"/a?b?c", "/a", "/a", "b?c"},
	} {
		if got, f := ParseTarget(raw, true); f != nil || got != want {
			t.Errorf("%s = %+v, %v", raw, got, f)
		}
	}
}

// What cannot be forwarded is refused in either strictness.
func TestNoTarget(t *testing.T) {
	for raw, status := range map[string]int{
		"": 400, "a": 400, "*x": 400, "?x": 400, "http://a/": 400, "a:443": 400, "/#": 400, "/?#": 400,
		"/a b": 400, "/?a b": 400, "/\t": 400, "/\r\n": 400, "/\x00": 400, "/\x7f": 400, " /": 400,
		"/" + strings.Repeat("a", 8<<10): 414,
	} {
		for _, strict := range []bool{true, false} {
			if got, f := ParseTarget(raw, strict); f == nil || f.Status != status || got != (Target{}) || len(f.Detail) > 160 {
				t.Errorf("%s = %+v, %v", quoted(raw), got, f)
			}
		}
	}
}

// Strict refuses what relaxed reads in the worst way there is.
func TestAmbiguousTargets(t *testing.T) {
	for raw, worst := range map[string]string{
		"/M\xc3\xbcller":                  "/Müller",
		"/\xff":                           "/\uFFFD",
		"/%":                              "/%",
		"/%2":                             "/%2",
		"/%zz/a":                          "/%zz/a",
		"/%u0061dmin":                     "/admin",
		"/%c0%afadmin":                    "/admin",
		"/x/%c0%ae%c0%ae/admin":           "/admin",
		"/%ff":                            "/\uFFFD",
		"/%ed%a0%80":                      "/\uFFFD\uFFFD\uFFFD",
		"/a%00.jpg":                       "/a",
		"/a%0ab":                          "/ab",
		"/a%7f":                           "/a",
		`/x\..\admin`:                     "/admin",
		"/x/..%5cadmin":                   "/admin",
		"/x%2f..%2Fadmin":                 "/admin",
		"/%252e%252e/admin":               "/admin",
		"/x/%25252e%25252e/a":             "/a",
		"/%25u0061":                       "/a",
		"/..":                             "/",
		"/.":                              "/",
		"/x/../admin":                     "/admin",
		"/./admin/":                       "/admin/",
		"/x/%2e%2E/admin":                 "/admin",
		"/x/..;/admin":                    "/admin",
		"/x/..;a=b/admin":                 "/admin",
		"/admin;x":                        "/admin",
		"/admin%3bx":                      "/admin",
		"/admin%20":                       "/admin",
		"/%20admin":                       "/admin",
		"/admin%c2%a0":                    "/admin",
		"/admin.":                         "/admin",
		"/admin./x":                       "/admin/x",
		"/admin...":                       "/admin",
		"/admin/..%20/x":                  "/x",
		"/a?%":                            "/a",
		"/a?%zz":                          "/a",
		"/a?x=%u0041":                     "/a",
		"/a?x=%ff":                        "/a",
		"/a?x=%c0%af":                     "/a",
		"/a?x=%00":                        "/a",
		"/a?\xc3\xbc":                     "/a",
		"/a?" + strings.Repeat("&", 1000): "/a",
	} {
		if got, f := ParseTarget(raw, true); f == nil || f.Status != 400 || f.Reason != "bad_target" {
			t.Errorf("strict: %s = %+v, %v", quoted(raw), got, f)
		}
		got, f := ParseTarget(raw, false)
		if f != nil || got.Path != worst || got.Raw != raw {
			t.Errorf("relaxed: %s = %+v, %v, want path %q", quoted(raw), got, f, worst)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, raw := range []string{"/", "*", "//a//b?c=d", "/a%20b", "/%25", "/a/%2e%2e/b", "/a;b", "/%c0%af", "/a?%00", "/%u0041", `/\`} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		strict, fault := ParseTarget(raw, true)
		relaxed, soft := ParseTarget(raw, false)
		if soft != nil && fault == nil {
			t.Fatalf("strict passes %q, and relaxed refuses it: %v", raw, soft)
		}
		if soft == nil {
			if again, fault := ParseTarget(relaxed.Raw, false); fault != nil || again != relaxed {
				t.Fatalf("%q relaxed: %+v, then %+v", raw, relaxed, again)
			}
		}
		if fault != nil {
			return
		}
		if strict != relaxed {
			t.Fatalf("%q is %+v, relaxed %+v", raw, strict, relaxed)
		}
		if again, fault := ParseTarget(strict.Raw, true); fault != nil || again != strict {
			t.Fatalf("%q: %+v, then %+v", raw, strict, again)
		}
		u, err := url.ParseRequestURI(strict.Raw)
		if err != nil || u.Path != strict.Path || u.RawQuery != strict.Query {
			t.Fatalf("%q: %+v, and by net/url %+v, %v", raw, strict, u, err)
		}
	})
}

func BenchmarkTarget(b *testing.B) {
	const raw = "/api/v2/employees/4711/timesheets?from=2027-03-01&to=2027-03-31"
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, f := ParseTarget(raw, true); f != nil {
				b.Fatal(f)
			}
		}
	})
	b.Run("neturl", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := url.ParseRequestURI(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
