package form

import (
	"strings"
	"testing"
)

var utf8Only = []string{"utf-8", "us-ascii"}

func TestContentType(t *testing.T) {
	for value, want := range map[string]Type{
		"application/json":                                           {"application/json", JSON, "", ""},
		"Application/JSON; charset=UTF-8":                            {"application/json", JSON, "", "utf-8"},
		"application/json;charset=utf8":                              {"application/json", JSON, "", "utf-8"},
		`application/json ; charset="utf-8"`:                         {"application/json", JSON, "", "utf-8"},
		"application/json;":                                          {"application/json", JSON, "", ""},
		"application/json; charset=utf-8;":                           {"application/json", JSON, "", "utf-8"},
		"text/json":                                                  {"text/json", JSON, "", ""},
		"application/vnd.api+json":                                   {"application/vnd.api+json", JSON, "", ""},
		"application/x-json":                                         {"application/x-json", JSON, "", ""},
		"application/csp-report":                                     {"application/csp-report", JSON, "", ""},
		"application/merge-patch+json":                               {"application/merge-patch+json", JSON, "", ""},
		"application/x-ndjson":                                       {"application/x-ndjson", NDJSON, "", ""},
		"application/jsonl":                                          {"application/jsonl", NDJSON, "", ""},
		"application/json-seq":                                       {"application/json-seq", NDJSON, "", ""},
		"text/xml; charset=us-ascii":                                 {"text/xml", XML, "", "us-ascii"},
		`application/soap+xml; charset=utf-8; action="urn:x#y"`:      {"application/soap+xml", XML, "", "utf-8"},
		"text/plain":                                                 {"text/plain", Text, "", ""},
		"application/x-www-form-urlencoded; charset=UTF-8":           {"application/x-www-form-urlencoded", Form, "", "utf-8"},
		"multipart/form-data; boundary=----WebKitFormBoundaryx7":     {"multipart/form-data", Multipart, "----WebKitFormBoundaryx7", ""},
		`multipart/form-data; boundary="----=_Part_1:2"`:             {"multipart/form-data", Multipart, "----=_Part_1:2", ""},
		`multipart/form-data; boundary="e5d1-a"`:                     {"multipart/form-data", Multipart, "e5d1-a", ""},
		"multipart/form-data; charset=utf-8; boundary=a":             {"multipart/form-data", Multipart, "a", "utf-8"},
		"multipart/mixed; boundary=a":                                {"multipart/mixed", Other, "", ""},
		`multipart/related; type="application/xop+xml"; start="<a>"`: {"multipart/related", Other, "", ""},
		"application/pdf":                                            {"application/pdf", Other, "", ""},
		"application/vnd.openxmlformats-officedocument.x.document":   {"application/vnd.openxmlformats-officedocument.x.document", Other, "", ""},
		"image/svg+xml":                                              {"image/svg+xml", XML, "", ""},
	} {
		if got, f := ContentType([]string{value}, utf8Only); f != nil || got != want {
			t.Errorf("%s = %+v, %v", value, got, f)
		}
	}
	if got, f := ContentType(nil, nil); f != nil || got.Kind != None {
		t.Errorf("no Content-Type = %+v, %v", got, f)
	}
	if got, f := ContentType([]string{"text/plain; charset=ISO-8859-1"}, []string{"iso-8859-1"}); f != nil || got.Charset != "iso-8859-1" {
		t.Errorf("an accepted charset = %+v, %v", got, f)
	}
}

func TestNoContentType(t *testing.T) {
	for value, status := range map[string]int{
		"": 400, "a/b ": 400, "a/b; x=y ": 400, "a": 400, "a/": 400, "/b": 400, "a/b/c": 400, "a/b, application/json": 400, "a/b,": 400, "a /b": 400,
		" a/b": 400, "a/b\t": 400, "\ta/b": 400, "a/b;\tx=y": 400, "a/b\x00": 400, "a/b  ; x=y": 400, "a/b;;x=y": 400,
		"a/b; x": 400, "a/b; x=": 400, "a/b; =y": 400, "a/b; x =y": 400, "a/b; x= y": 400, "a/b; x=y z": 400,
		`a/b; x="y`: 400, `a/b; x="y"z`: 400, `a/b; x="\y"`: 400, "a/b; x=y; X=z": 400, "a/b; x=é": 400,
		"a/b; charset=utf-8; charset=utf-16": 400, "a/b; charset=utf-8, c/d": 400, "a/b; charset*=utf-8''x": 400, "a/b; charset*0=utf": 400,
		"a/b; charset=utf-16": 415, "application/json; charset=UTF-7": 415, "text/xml; charset=ibm037": 415, `a/b; charset=""`: 415,
		"a/b; charset=' utf-8'":                                    400,
		`a/b; charset=" utf-8"`:                                    415,
		"multipart/form-data":                                      400,
		"multipart/form-data; boundary=":                           400,
		`multipart/form-data; boundary=""`:                         400,
		`multipart/form-data; boundary="x y "`:                     400,
		`multipart/form-data; boundary=" x"`:                       400,
		`multipart/form-data; boundary="x,y"`:                      400,
		"multipart/form-data; boundary=a=b":                        400,
		"multipart/form-data; boundary=a; boundary=b":              400,
		"multipart/form-data; boundary*=utf-8''a":                  400,
		"multipart/form-data; boundary*0=a":                        400,
		"multipart/form-data; boundary=a; charset=x":               415,
		"multipart/form-data; boundary=a{b}":                       400,
		"multipart/form-data, text/plain; boundary=a":              400,
		"multipart/form-data; boundary=" + strings.Repeat("a", 71): 400,
	} {
		if got, f := ContentType([]string{value}, utf8Only); f == nil || f.Status != status || len(f.Detail) > 160 {
			t.Errorf("%q = %+v, %v", value, got, f)
		}
	}
	if got, f := ContentType([]string{"a/b", "a/b"}, nil); f == nil {
		t.Errorf("two lines = %+v", got)
	}
}
