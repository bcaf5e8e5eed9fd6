package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"edge/config"
	"edge/rules"
)

// A body is inspected as what form takes it for, by whatever name an app takes it.
func TestKindsAreInspected(t *testing.T) {
	const attack = `"\u003cscript\u003ealert(document.cookie)\u003c/script\u003e"`
	for kind, body := range map[string]string{
		"application/json":            `{"a":` + attack + `}`,
		"application/x-json":          `{"a":` + attack + `}`,
		"application/vnd.own.v2-json": `{"a":` + attack + `}`,
		"application/hal+json":        `{"a":` + attack + `}`,
		"text/x-json":                 `{"a":` + attack + `}`,
		"application/x-ndjson":        "{\"a\":1}\n{\"a\":" + attack + "}\n",
		"application/jsonl":           "{\"a\":1}\n{\"a\":" + attack + "}\n",
		"application/x-jsonlines":     "{\"a\":1}\n{\"a\":" + attack + "}\n",
		"application/xml":             "<a>" + attack + "</a>",
		"application/own+xml":         "<a>" + attack + "</a>",
		"application/xml-own":         "<a>" + attack + "</a>",
		"image/svg+xml":               "<a>" + attack + "</a>",
	} {
		if strings.Contains(kind, "xml") {
			body = strings.ReplaceAll(body, attack, "<b c='&#60;script&#62;alert(document.cookie)&#60;/script&#62;'>&#60;script&#62;alert(document.cookie)&#60;/script&#62;</b>")
		}
		t.Run(strings.ReplaceAll(kind, "/", "_"), func(t *testing.T) {
			e := start(t, ok, rules.Block, func(_ *config.App, set *rules.Set) {
				set.WAF.ContentTypes = append(set.WAF.ContentTypes[:len(set.WAF.ContentTypes):len(set.WAF.ContentTypes)], kind)
			})
			honest := strings.ReplaceAll(body, attack, `"hello, a=b & c"`)
			if strings.Contains(kind, "xml") {
				honest = `<a b="c">hello, a=b &amp; c</a>`
			}
			for send, want := range map[string]int{body: 403, honest: 200} {
				req, _ := http.NewRequest("POST", e.url, strings.NewReader(send))
				req.Host = "hr.test"
				req.Header.Set("Content-Type", kind)
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != want {
					t.Errorf("%q: status %d, want %d: %v", send, res.StatusCode, want, e.events(res.Header.Get("X-Request-Id")))
				}
			}
		})
	}
}

// Where bodies are relaxed the engine sees the beginning of an upload all the same,
// however malformed it is.
func TestMalformedUpload(t *testing.T) {
	app := &sink{}
	e := start(t, app.ServeHTTP, rules.Block, uploads(t), func(a *config.App, _ *rules.Set) { a.HTTP.Bodies = config.Relaxed })
	body := "--x\n--x\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n<script>alert(1)</script>" + strings.Repeat("a", 64<<10) + "\r\n--x--\r\n"
	req, _ := http.NewRequest("POST", e.url+"/files/1", strings.NewReader(body))
	req.Host = "hr.test"
	req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusBadRequest || app.take() != "" {
		t.Errorf("status %d", res.StatusCode)
	}
}
