package form

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	jsonv2 "github.com/go-json-experiment/json"
)

func typed(t testing.TB, value string) Type {
	t.Helper()
	got, f := ContentType([]string{value}, []string{"utf-8", "us-ascii", "iso-8859-1"})
	if f != nil {
		t.Fatal(f)
	}
	return got
}

// judge has a body read in one piece, byte by byte, and in halves: the verdict
// must not depend on how it arrives.
func judge(t testing.TB, kind Type, body string, l Limits) *Fault {
	t.Helper()
	var verdicts []error
	for _, r := range []io.Reader{
		strings.NewReader(body), iotest.OneByteReader(strings.NewReader(body)),
		iotest.DataErrReader(iotest.HalfReader(strings.NewReader(body))),
	} {
		verdicts = append(verdicts, Body(kind, r, l))
	}
	for _, v := range verdicts[1:] {
		if (v == nil) != (verdicts[0] == nil) {
			t.Fatalf("%q: %v in one piece, %v in several", body, verdicts[0], v)
		}
	}
	var f *Fault
	if verdicts[0] != nil && !errors.As(verdicts[0], &f) {
		t.Fatal(verdicts[0])
	}
	return f
}

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

func nested(n int, open, inner, end string) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
}

func TestBodies(t *testing.T) {
	for kind, bodies := range map[string][]string{
		jsonType: {
			`{}`, `[]`, " {\"a\":1}\r\n", `{"a":1,"b":[true,false,null,-1.5e-3,"x"]}`, `{"name":"O'Brien & Söhne 😀 50 %"}`,
			`{"a":"\ud83d\ude00 \u00e9 \\ \" \/"}`, `[{"a":1},{"a":1}]`, `{"a":{"a":{"a":1}}}`, `{"a":{"b":1},"b":{"a":1}}`, `{"a.b":1,"a":{"c":2}}`,
			`{"":1}`, `{"a":"{\"a\":1}"}`, `{"a":[[1],[1]]}`, nested(64, "[", "", "]"), nested(63, `{"a":`, "{}", "}"),
			`["` + strings.Repeat("é", 1<<15) + `"]`, `{"` + strings.Repeat("a", 1024) + `":1}`, `{"` + strings.Repeat(`\u0061`, 1024) + `":1}`,
			"[" + strings.Repeat("1,", 19_998) + "1]", "[" + strings.Repeat(" ", 1<<16) + "]", `{"a":1,"b":"a","c":"\u0000"}`,
			`[123456789012345678901234567890]`,
		},
		"application/x-ndjson": {"{}", "{}\n", "{\"a\":1}\n{\"a\":1}\r\n[2]\n", "\n{}\n\n{}\n", strings.Repeat("{}\n", 1000)},
		"application/ld+json":  {`{"@id":1}`},
		formType: {
			"", "a=b", "a=b&c=d&a=b", "a", "token", "a&b", "123", "a-b.c~d*e+f", "abc123==", "=", "&", "a=b%26c%3D%25", "a=O%27Brien+%26+S%C3%B6hne+50+%25",
			"a=Müller", "a=%F0%9F%98%80", "a=%0D%0A%09", "a=b;c", "a=b c", "a[]=1&a[]=2", "a={\"x\":[1,2]}", "r=https://a/?b=c%2526d", "a=<b>",
			"%C3%A4", strings.Repeat("a&", 999) + "a",
		},
		formType + "; charset=iso-8859-1": {"a=%E9", "a=\xe9"},
		"text/plain": {
			"", "hello", "Grüße\r\n", "\uFEFFtext", "  text", "a {b}", ` {"a":1}`, "[1]", "😀",
		},
		"text/plain; charset=iso-8859-1": {"\xe9"},
		"application/pdf":                {"", "%PDF\x00\xff", "{"},
		"application/xml": {
			`<a/>`, `<?xml version="1.0"?><a/>`, "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone='yes' ?>\n<a>\n</a>\n", "\uFEFF<a/>", "\uFEFF<?xml version='1.0' encoding='us-ascii'?><a/>",
			`<a b="1" c='2'>x &amp; &lt; &#65; &#x20AC; ü<!-- c --></a>`, "<a> <![CDATA[ <x> ]]> <!-- c --> <b>x</b> y</a>", "<a><!-- c -->x</a>", `<s:E xmlns:s="urn:x"><s:B a="1" s:a="2"/></s:E>`,
			nested(64, "<a>", "", "</a>"), "<a>" + strings.Repeat("<b/>", 19_999) + "</a>", "<!-- x --><a/><!-- y -->", "<?xml version='1.0'?>\r\n\r\n<a/>\r\n", "<a>" + strings.Repeat("text ", 10_000) + "</a>",
		},
	} {
		for _, body := range bodies {
			if f := judge(t, typed(t, kind), body, Limits{}); f != nil {
				t.Errorf("%s: %s: %v", kind, quoted(body), f)
			}
		}
	}
}

func TestNoBodies(t *testing.T) {
	for kind, bodies := range map[string][]string{
		jsonType: {
			"", " ", `"a"`, "1", "null", "true", "{", "[", `{"a"`, `{"a":`, `{"a":1`, "]", `{"a":1,}`, "[1,]", "[,1]", "{a:1}", "{'a':1}", `{"a" 1}`, "[1 2]",
			"{}{}", "{} x", "[]]", "{}\x00", "// c\n{}", "/* c */{}", "{}//", "\uFEFF{}", "[NaN]", "[Infinity]", "[01]", "[+1]", "[.5]", "[1.]", "[0x1]", "[True]", "[nul]",
			"[\"\x00\"]", "[\"\n\"]", "[\"\t\"]", "[\"\xff\"]", "[\"\xc0\xaf\"]", "[\"\xed\xa0\x80\"]", `["\ud800"]`, `["\udc00\ud800"]`, `["\ud800\u0041"]`, `["\x41"]`, `["\u004"]`, `["\`, `["\u00`,
			`{"a":1,"a":2}`, `{"a":1,"A":2}`, `{"a":1,"\u0061":2}`, `{"straße":1,"STRAßE":2}`, `{"k":1,"\u212a":2}`, `{"s":1,"ſ":2}`, `{"a":1,"b":2,"a":3}`, `[{"a":1,"a":1}]`,
			`{"a.b":1,"a":{"b":2}}`, `{"a":{"b":2},"A.B":1}`, `{"a.b.c":1,"a.b":{"c":1}}`, `{"a":[1],"a.0":2}`, `{"":{"b":1},".b":2}`,
			nested(65, "[", "", "]"), nested(64, `{"a":`, "{}", "}"), nested(100_000, "[", "", ""), "[" + strings.Repeat("1,", 20_000) + "1]",
			`{"` + strings.Repeat("a", 1025) + `":1}`, `{"` + strings.Repeat(`\u0061`, 1025) + `":1}`, `{"` + strings.Repeat("a", 100_000) + `":1}`,
			"[" + strings.Repeat("1", 5000) + "]", "--b\r\n\r\n--b--", "a=b", "<a/>", "\xff\xfe{\x00}\x00", `["` + strings.Repeat("a", 9000) + `\x", "]`, `["` + strings.Repeat("a", 9000) + "\xff\", \"]",
			"\f{}", "\v{}", "\u00a0{}", "{}\u2028",
		},
		"application/x-ndjson": {"", "\n", "1\n", "{}{}\n", "{\"a\":\n1}", "{} {}", "\x1e{}\n", "{}\n{", "{}\nx", strings.Repeat("{}\n", 20_001)},
		formType: {
			`{"a":1}`, `{"a":"b=c"}`, `["a=b"]`, `"a=b"`, `<?xml version="1.0"?>`, "<a b=\"c\"/>", " {\"a\":\"=\"}", "a=%", "a=%4", "a=%zz", "a=%u0041", "%=a", "a=%2", "a=\x00", "a=%00", "a=b\r\n", "a=\tb", "a=\x7f",
			"a=%ff", "a=%c0%af", "a=%ED%A0%80", "a=\xff", "a=%C3", "a=%C3&b=c", "a=\xc3%A9\xc3", "--b--!", "a,b", "a:b", "a/b", "a b", strings.Repeat("&", 1000), "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n",
		},
		"text/plain": {"\x00", "a\x00", "\xff", "\xc3", "a\xed\xa0\x80", "{", "{a}", "[x]", " \r\n\t{'a':1}", "\uFEFF{", "\uFEFF [", strings.Repeat(" ", 10_000) + "{", `{"a":1,"a":2}`},
		"application/xml": {
			"", " ", "text", "<a>", "<a></b>", "</a>", "<a/><b/>", "<a/>x", "x<a/>", "<a/>&#32;", "<![CDATA[ ]]><a/>", "<a/ >", "< a/>", "<a></ a>", "<a><?xml version='1.0'?></a>", "\uFEFF\uFEFF<a/>", "<a b=1/>", "<a b/>", `<a b="1" b="2"/>`, `<a b="<"/>`, "<a>]]></a>", "<a><!-- -- --></a>", "<a>uni<!-- -->on</a>", "<a>uni<![CDATA[on]]></a>", "<a><![CDATA[uni]]>on</a>", "<a>s<!-- --> <!-- -->t</a>", "<a>&x;</a>", "<a>&</a>", "<a>& b</a>",
			`<!DOCTYPE a><a/>`, `<!DOCTYPE a SYSTEM "http://x"><a/>`, `<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>`, "<!doctype a><a/>", "<a><!ENTITY x></a>", "<?php x?><a/>", "<a><?x y?></a>", `<?xml-stylesheet href="x"?><a/>`,
			` <?xml version="1.0"?><a/>`, `<a/><?xml version="1.0"?>`, `<?xml version="1.1"?><a/>`, `<?xml version="1.0" encoding="utf-16"?><a/>`, `<?xml version="1.0" encoding = "utf-7"?><a/>`, `<?xml version="1.0" encoding="iso-8859-1"?><a/>`,
			`<?xml encoding="utf-8"?><a/>`, `<?xml?><a/>`, `<?xml version="1.0" x="y"?><a/>`, `<?xml version="1.0"encoding="utf-8"?><a/>`, `<?xml version="1.0" version="1.0"?><a/>`,
			"\xff\xfe<\x00a\x00/\x00>\x00", "\xfe\xff\x00<", "<a>\xff</a>", "<a>\x00</a>", "<a>&#0;</a>", "<a>&#xD800;</a>", "<a>&#x110000;</a>", "<a>&#xFFFE;</a>", "<a>&#000000000000000055296;</a>", "<a>&#-1;</a>", "<a>&#;</a>", "<a>&#x;</a>",
			nested(65, "<a>", "", "</a>"), "<a>" + strings.Repeat("<b/>", 20_000) + "</a>", "<a " + strings.Repeat(`b="" `, 100_000) + "/>", "<" + strings.Repeat("a", 2000) + "/>", "<a>" + strings.Repeat("x", 1100<<10) + "</a>", "{}", "<a>\u0001</a>",
		},
	} {
		for _, body := range bodies {
			if f := judge(t, typed(t, kind), body, Limits{}); f == nil || f.Status != 400 || f.Reason != "body_form" {
				t.Errorf("%s: %s: %v", kind, quoted(body), f)
			}
		}
	}
	if f := judge(t, Type{}, "a", Limits{}); f == nil || f.Status != 415 {
		t.Errorf("a body of no type: %v", f)
	}
	if f := judge(t, Type{}, "", Limits{}); f != nil {
		t.Errorf("no body of no type: %v", f)
	}
}

// A reader that fails is not a fault of the body, and a fault that comes first is.
func TestBodyReadErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, kind := range []string{jsonType, formType, "text/plain", "text/xml", "application/x-ndjson", "application/pdf", "multipart/form-data; boundary=b"} {
		for _, begin := range []string{"", "{", "a", "<a>", "--b\r\n", "--b--"} {
			err := Body(typed(t, kind), io.MultiReader(strings.NewReader(begin), iotest.ErrReader(broken)), Limits{})
			var f *Fault
			if !errors.Is(err, broken) && !errors.As(err, &f) {
				t.Errorf("%s: %q: %v", kind, begin, err)
			}
		}
		if err := Body(typed(t, kind), iotest.ErrReader(broken), Limits{}); !errors.Is(err, broken) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Details name no values.
func TestBodyFaultsKeepSecrets(t *testing.T) {
	for kind, bodies := range map[string][]string{
		jsonType:                          {`{"a":"geheim`, `{"a":"geheim\x"}`, `{"a":geheim}`, `["geheim"]geheim`, `{"b":"geheim","b":1}`},
		formType:                          {"a=geheim%zz", "{geheim", "gehe/im", "a=geheim\x00"},
		"text/plain":                      {"geheim\x00", "{geheim"},
		"text/xml":                        {"<a>geheim", "<a>geheim</b>", "<a b='geheim' b='geheim'/>", "geheim", "<a>&geheim;</a>"},
		"multipart/form-data; boundary=b": {"geheim", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\ngeheim", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\ngeheim\n--b--"},
	} {
		for _, body := range bodies {
			if f := judge(t, typed(t, kind), body, Limits{}); f == nil || strings.Contains(f.Detail, "geheim") || len(f.Detail) > 200 {
				t.Errorf("%s: %q: %v", kind, body, f)
			}
		}
	}
}

// endless yields pattern again and again, n bytes in all, between begin and end.
func endless(begin, pattern, end string, n int) io.Reader {
	return io.MultiReader(strings.NewReader(begin), io.LimitReader(&repeated{s: pattern}, int64(n/len(pattern)*len(pattern))), strings.NewReader(end))
}

type repeated struct {
	s  string
	at int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.s[r.at:])
	r.at = (r.at + n) % len(r.s)
	return n, nil
}

func TestBodiesInLittleMemory(t *testing.T) {
	const size = 2 << 20
	part := "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n"
	for name, c := range map[string]struct {
		kind string
		r    io.Reader
	}{
		"string":    {jsonType, endless(`["`, "abcdefg", `"]`, size)},
		"escapes":   {jsonType, endless(`["`, `\ud83d\ude00\u0041\n`, `"]`, size)},
		"unicode":   {jsonType, endless(`["`, "äöü€😀", `"]`, size)},
		"blanks":    {jsonType, endless("[", " \n", "]", size)},
		"form":      {formType, endless("a=", "abc%20", "", size)},
		"text":      {"text/plain", endless("", "text ", "", size)},
		"multipart": {"multipart/form-data; boundary=b", endless(part, "data\r\n", "\r\n--b--", size)},
		"dashes":    {"multipart/form-data; boundary=b", endless(part, "x--b", "\r\n--b--", size)},
		"other":     {"application/pdf", endless("", "data", "", size)},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := Body(typed(t, c.kind), c.r, Limits{})
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; err != nil || n > 256<<10 {
				t.Errorf("%v, %d bytes", err, n)
			}
		})
	}
}

func part(headers, content string) string {
	return "--b\r\n" + headers + "\r\n\r\n" + content + "\r\n"
}

const field = `Content-Disposition: form-data; name="a"`

func file(name string) string {
	return part(`Content-Disposition: form-data; name="f"; filename="`+name+`"`+"\r\nContent-Type: application/pdf", "%PDF\x00\r\n\xff") + "--b--\r\n"
}

func TestMultipart(t *testing.T) {
	kind := typed(t, "multipart/form-data; boundary=b")
	for _, body := range []string{
		"--b--\r\n", "--b--",
		part(field, "") + "--b--\r\n",
		part(field, "x") + "--b--",
		part(field, "x") + part(field, "y") + "--b--\r\n",
		part(field, "\r\n") + "--b--",
		part(field, "a\rb\nc\r\n\r\n-- --b a--b --b--\r\n-") + "--b--",
		part(strings.ToUpper(field[:19])+field[19:], "x") + "--b--",
		part("content-disposition:form-data;name=a", "x") + "--b--",
		part(field+"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 1\r\nX-Own: y", "x") + "--b--",
		part(field+"\r\nContent-Transfer-Encoding: binary", "x") + "--b--",
		part(field+`; filename=""`+"\r\nContent-Type: application/octet-stream", "") + "--b--",
		file("a.pdf"), file("O'Brien – Lohnzettel Mai (1).pdf"), file("Müller & Söhne; 50 %.pdf"), file("😀 a%22b.pdf"), file("a=b,c.tar.gz"), file("Überweisung…x"), file(".gitignore"),
		part(`Content-Disposition: form-data; name=file; filename=a.pdf; filename*=utf-8''a.pdf`, "x") + "--b--", // .NET
		part(`Content-Disposition: form-data; name=file; filename="=?utf-8?B?UsOpc3Vtw6kucGRm?="; filename*=utf-8''R%C3%A9sum%C3%A9.pdf`, "x") + "--b--",
		strings.Repeat(part(field, "x"), 200) + "--b--",
		part(field, strings.Repeat("x\r\n", 10_000)) + "--b--",
		part(field, strings.Repeat("\r\n--", 10_000)) + "--b--",
	} {
		if f := judge(t, kind, body, Limits{}); f != nil {
			t.Errorf("%s: %v", quoted(body), f)
		}
	}
}

func TestNoMultipart(t *testing.T) {
	kind := typed(t, "multipart/form-data; boundary=b")
	for name, body := range map[string]string{
		"empty":         "",
		"preamble":      "x\r\n" + part(field, "x") + "--b--",
		"newline":       "\r\n" + part(field, "x") + "--b--",
		"epilogue":      part(field, "x") + "--b--\r\nx",
		"newlines":      part(field, "x") + "--b--\r\n\r\n",
		"blank":         part(field, "x") + "--b-- \r\n",
		"dashes":        part(field, "x") + "--b---",
		"lf-end":        part(field, "x") + "--b--\n",
		"unended":       part(field, "x"),
		"half-ended":    part(field, "x") + "--b-",
		"truncated":     part(field, "x")[:40],
		"header-only":   "--b\r\n" + field + "\r\n\r\n",
		"lf":            strings.ReplaceAll(part(field, "x")+"--b--", "\r\n", "\n"),
		"lf-header":     "--b\r\n" + field + "\n\r\nx\r\n--b--",
		"lf-boundary":   "--b\r\n" + field + "\r\n\r\nx\n--b\r\n" + field + "\r\n\r\ny\r\n--b--",
		"cr-boundary":   "--b\r\n" + field + "\r\n\r\nx\r--b\r\n" + field + "\r\n\r\ny\r\n--b--",
		"at-once":       "--b\r\n" + field + "\r\n\r\n--b--",
		"no-blank-line": "--b\r\n" + field + "\r\n--b--",
		"longer":        part(field, "x\r\n--bb\r\ny") + "--b--",
		"padded":        part(field, "x\r\n--b \r\ny") + "--b--",
		"json":          `{"a":1}`,
		"form":          "a=b",
		"no-headers":    "--b\r\n\r\nx\r\n--b--",
		"no-position":   part("Content-Type: text/plain", "x") + "--b--",
		"no-name":       part("Content-Disposition: form-data", "x") + "--b--",
		"empty-name":    part(`Content-Disposition: form-data; name=""`, "x") + "--b--",
		"two-names":     part(field+`; name="b"`, "x") + "--b--",
		"case-names":    part(field+`; NAME="b"`, "x") + "--b--",
		"attachment":    part(`Content-Disposition: attachment; name="a"`, "x") + "--b--",
		"two-positions": part(field+"\r\n"+field, "x") + "--b--",
		"twice":         part(field+"\r\nX-A: 1\r\nx-a: 2", "x") + "--b--",
		"two-types":     part(field+"\r\nContent-Type: a/b\r\nContent-Type: a/b", "x") + "--b--",
		"fold":          part("Content-Disposition: form-data;\r\n name=a", "x") + "--b--",
		"tab":           part("Content-Disposition: form-data;\tname=a", "x") + "--b--",
		"nul":           part(field+"\r\nX-A: \x00", "x") + "--b--",
		"bare-cr":       part(field+"\r\nX-A: a\rb", "x") + "--b--",
		"blank-colon":   part("Content-Disposition : form-data; name=a", "x") + "--b--",
		"no-colon":      part(field+"\r\nX-A", "x") + "--b--",
		"extended":      part(field+`; filename*=utf-8''x`, "x") + "--b--",
		"both":          part(field+`; filename="y"; filename*=utf-8''x`, "x") + "--b--",
		"encoded_path":  part(field+`; filename="=?utf-8?B?Li4vYQ==?="; filename*=utf-8''..%2Fa`, "x") + "--b--",
		"other_charset": part(field+`; filename="y"; filename*=iso-8859-1''y`, "x") + "--b--",
		"bad_escape":    part(field+`; filename="y%"; filename*=utf-8''y%`, "x") + "--b--",
		"continued":     part(field+`; filename*0="x"; filename*1="y"`, "x") + "--b--",
		"two-files":     part(field+`; filename="y"; filename="x"`, "x") + "--b--",
		"escaped":       part(`Content-Disposition: form-data; name="a\"b"`, "x") + "--b--",
		"unquoted":      part(`Content-Disposition: form-data; name=a b`, "x") + "--b--",
		"open":          part(`Content-Disposition: form-data; name="a`, "x") + "--b--",
		"base64":        part(field+"\r\nContent-Transfer-Encoding: base64", "x") + "--b--",
		"qp":            part(field+"\r\nContent-Transfer-Encoding: Quoted-Printable", "x") + "--b--",
		"nested":        part(field+"\r\nContent-Type: multipart/mixed; boundary=c", "x") + "--b--",
		"bad-type":      part(field+"\r\nContent-Type: text", "x") + "--b--",
		"latin1":        part("Content-Disposition: form-data; name=\"\xe9\"", "x") + "--b--",
		"large-header":  part(field+"\r\nX-A: "+strings.Repeat("a", 9<<10), "x") + "--b--",
		"huge-header":   part(field+"\r\nX-A: "+strings.Repeat("a", 90<<10), "x") + "--b--",
		"many-headers":  part(field+strings.Repeat("\r\nX-A: a", 16), "x") + "--b--",
		"delimiter":     part(field+"\r\n--b: x", "x") + "--b--",
		"path":          file("../a"), "slash": file("a/b"), "backslash": file(`a\b`), "encoded": file("a%2Fb"), "encoded-nul": file("a.php%00.pdf"),
		"dot": file("a.pdf."), "dots": file(".."), "space": file("a.php "), "spaced": file(" a"), "nbsp": file("a.php\u00a0"), "c1": file("a\u0085b"), "quote": file(`a"b`),
	} {
		if f := judge(t, kind, body, Limits{}); f == nil || f.Status != 400 || f.Reason != "body_form" {
			t.Errorf("%s: %v", name, f)
		}
	}
	if f := judge(t, kind, strings.Repeat(part(field, "x"), 201)+"--b--", Limits{}); f == nil || f.Reason != "body_parts" {
		t.Errorf("201 parts: %v", f)
	}
	if f := judge(t, kind, part(field+"\r\nContent-Type: text/plain; charset=utf-7", "x")+"--b--", Limits{}); f == nil || f.Status != 415 {
		t.Errorf("charset of a part: %v", f)
	}
}

func TestPartsAreTold(t *testing.T) {
	body := part(field, "x") + part(`Content-Disposition: form-data; name="f"; filename="a.pdf"`+"\r\nContent-Type: Application/PDF", "data") + "--b--\r\n"
	var parts []Part
	if f := Body(typed(t, "multipart/form-data; boundary=b"), strings.NewReader(body), Limits{Part: func(p Part) { parts = append(parts, p) }}); f != nil {
		t.Fatal(f)
	}
	second := int64(strings.LastIndex(body, "Content-Disp"))
	want := []Part{
		{Index: 0, Header: 5, Content: int64(strings.Index(body, "x")), Name: "a"},
		{Index: 1, Header: second, Content: int64(strings.Index(body, "data\r\n--")), Name: "f", Filename: "a.pdf", File: true, Media: "application/pdf"},
	}
	want[0].Content = 5 + int64(len(field)) + 4
	if !reflect.DeepEqual(parts, want) {
		t.Errorf("%+v", parts)
	}
}

func FuzzJSON(f *testing.F) {
	for _, body := range []string{`{}`, `{"a":[1,"\u00e9\ud83d\ude00"]}`, `{"a.b":1,"a":{"b":1}}`, "[1e9]", `["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x"]`, `[                       1]`, "{\"\xff\":1}"} {
		f.Add(body)
	}
	kind := Type{Kind: JSON}
	f.Fuzz(func(t *testing.T, body string) {
		if judge(t, kind, body, Limits{Name: 8}) != nil { // so that strings are shortened early
			return
		}
		if !json.Valid([]byte(body)) {
			t.Fatalf("%q is accepted and no JSON", body)
		}
		dec := json.NewDecoder(strings.NewReader(body))
		var one, two any
		if err, err2 := dec.Decode(&one), jsonv2.Unmarshal([]byte(body), &two); err != nil && strings.Contains(err.Error(), "cannot unmarshal number") {
			return // too large for a float64
		} else if err != nil || err2 != nil || !reflect.DeepEqual(one, two) {
			t.Fatalf("%q is %v (%v) and %v (%v)", body, one, err, two, err2)
		}
	})
}

func FuzzForm(f *testing.F) {
	for _, body := range []string{"a=b", "a&b", "a=%41;", "{", "a=%zz", "é=%c3%a9", "a=%00"} {
		f.Add(body)
	}
	kind := Type{Kind: Form}
	f.Fuzz(func(t *testing.T, body string) {
		if judge(t, kind, body, Limits{}) != nil {
			return
		}
		if _, err := url.ParseQuery(body); err != nil && !strings.Contains(body, ";") {
			t.Fatalf("%q: %v", body, err)
		}
	})
}

func FuzzXML(f *testing.F) {
	for _, body := range []string{"<a/>", `<?xml version="1.0" encoding="utf-8"?><a b="c">&#65;<![CDATA[x]]></a>`, "<!DOCTYPE a><a/>", "<a>&x;</a>", `<a b="1" b="2"/>`, "<!-- --><a/>"} {
		f.Add(body)
	}
	kind := Type{Kind: XML}
	f.Fuzz(func(t *testing.T, body string) {
		if judge(t, kind, body, Limits{}) != nil {
			return
		}
		dec := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(body, "\uFEFF")))
		dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
		roots, depth := 0, 0
		for {
			token, err := dec.RawToken()
			if errors.Is(err, io.EOF) {
				break
			}
			switch token.(type) {
			case xml.StartElement:
				if depth++; depth == 1 {
					roots++
				}
			case xml.EndElement:
				depth--
			case xml.Directive:
				t.Fatalf("%q holds a declaration", body)
			}
			if err != nil {
				t.Fatalf("%q: %v", body, err)
			}
		}
		if roots != 1 || depth != 0 {
			t.Fatalf("%q has %d roots", body, roots)
		}
	})
}

func FuzzMultipart(f *testing.F) {
	f.Add(part(field, "x")+"--b--\r\n", "b")
	f.Add(file("a b.pdf"), "b")
	f.Add("--b--", "b")
	f.Add(part(field, "--b \r\n--bb")+"--b--", "b")
	f.Add("--b\r\nContent-Disposition: form-data; name=\"é\"; filename=\"\"\r\n\r\n\r\n\r\n--b--", "b")
	f.Fuzz(func(t *testing.T, body, boundary string) {
		kind, fault := ContentType([]string{`multipart/form-data; boundary="` + boundary + `"`}, nil)
		if fault != nil || kind.Kind != Multipart {
			return
		}
		var told []Part
		judge := judge(t, kind, body, Limits{})
		err := Body(kind, strings.NewReader(body), Limits{Part: func(p Part) { told = append(told, p) }})
		if judge != nil || err != nil {
			return
		}
		r := multipart.NewReader(strings.NewReader(body), boundary)
		for i, p := range told {
			read, err := r.NextRawPart()
			if err != nil {
				t.Fatalf("%q: part %d of %d: %v", body, i, len(told), err)
			}
			content, err := io.ReadAll(read)
			if err != nil || !strings.HasPrefix(body[p.Content:], string(content)+"\r\n--"+boundary) {
				t.Fatalf("%q: part %d is %q, %v", body, i, content, err)
			}
			_, params, err := mime.ParseMediaType(read.Header.Get("Content-Disposition"))
			if name, ok := params["filename"]; err != nil || params["name"] != p.Name || name != p.Filename || ok != p.File {
				t.Fatalf("%q: part %d is %v, %v, and %+v", body, i, params, err, p)
			}
		}
		if _, err := r.NextRawPart(); err != io.EOF {
			t.Fatalf("%q has more parts than %d: %v", body, len(told), err)
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	var rows strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&rows, `%s{"id":%d,"employee":"Jürgen O'Brien","hours":7.5,"note":"Besprechung mit dem Team"}`, strings.Repeat(",", min(i, 1)), i)
	}
	for name, body := range map[string]string{
		"rows": "[" + rows.String() + "]", "small": `{"user":"anna","password":"x","remember":true}`,
		"base64": `{"file":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("%PDF-1.7"), 1<<17)) + `"}`,
	} {
		b.Run(name+"/ours", func(b *testing.B) { benchmarkBody(b, Type{Kind: JSON}, body) })
		b.Run(name+"/valid", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				all, _ := io.ReadAll(strings.NewReader(body))
				if !json.Valid(all) {
					b.Fatal("invalid")
				}
			}
		})
	}
}

func benchmarkBody(b *testing.B, kind Type, body string) {
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Body(kind, strings.NewReader(body), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMultipart(b *testing.B) {
	body := part(field, "x") + part(`Content-Disposition: form-data; name="f"; filename="a.pdf"`, strings.Repeat("0123456789\r\n-abcdef\x00\xff", 50_000)) + "--b--\r\n"
	b.Run("ours", func(b *testing.B) { benchmarkBody(b, Type{Kind: Multipart, Boundary: "b"}, body) })
	b.Run("mime", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			r := multipart.NewReader(strings.NewReader(body), "b")
			for {
				p, err := r.NextPart()
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, p)
			}
		}
	})
}

func BenchmarkForm(b *testing.B) {
	body := strings.Repeat("name=O%27Brien+%26+S%C3%B6hne&", 900) + "a=b"
	b.Run("ours", func(b *testing.B) { benchmarkBody(b, Type{Kind: Form}, body) })
	b.Run("neturl", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			_, _ = url.ParseQuery(body)
		}
	})
}

func BenchmarkXML(b *testing.B) {
	body := "<a>" + strings.Repeat(`<row id="1"><name>Jürgen O'Brien</name></row>`, 1000) + "</a>"
	b.Run("ours", func(b *testing.B) { benchmarkBody(b, Type{Kind: XML}, body) })
	b.Run("unmarshal", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			var v struct {
				Rows []struct {
					ID   string `xml:"id,attr"`
					Name string `xml:"name"`
				} `xml:"row"`
			}
			_ = xml.Unmarshal([]byte(body), &v)
		}
	})
}
