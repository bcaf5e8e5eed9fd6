package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"edge/blocklog"
	"edge/config"
	"edge/internal/strictyaml"
	"edge/rules"
)

// uploading lets bodies of up to 1 MiB through at /up, of which the first 8 KiB are inspected.
func uploading(_ *config.App, set *rules.Set) {
	u := rules.Upload{Name: "files", Body: rules.UploadBody{Max: 1 << 20, Inspect: 8 << 10}}
	if err := u.Match.Path.UnmarshalText([]byte("/up")); err != nil {
		panic(err)
	}
	set.Uploads = []rules.Upload{u}
}

// Of an upload the beginning is judged, and the rest flows; what is wrong with either
// keeps the application from getting the whole.
func TestUploadForms(t *testing.T) {
	const attack = "<script>alert(1)</script>"
	part := func(name, content string) string {
		return fmt.Sprintf("--x\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", name, content)
	}
	file := part("f", strings.Repeat("a", 64<<10))
	for _, test := range []struct {
		name, path, body string
		relaxed          bool
		status           int
		reason           blocklog.Reason
		seen             string // how much the WAF saw
	}{
		{"large", "/up", file + "--x--\r\n", false, 200, "", blocklog.InspectedPartial},
		{"small", "/up", part("f", "a") + "--x--\r\n", false, 200, "", blocklog.InspectedFull},
		{"attack_in_the_beginning", "/up", part("q", attack) + file + "--x--\r\n", false, 403, blocklog.ReasonWAFScore, blocklog.InspectedPartial},
		{"attack_in_a_small_one", "/up", part("q", attack) + "--x--\r\n", false, 403, blocklog.ReasonWAFScore, blocklog.InspectedFull},
		{"elsewhere", "/other", file + "--x--\r\n", false, 413, blocklog.ReasonBodyTooLarge, blocklog.InspectedNone},
		{"too_large", "/up", part("f", strings.Repeat("a", 1<<20)) + "--x--\r\n", false, 413, blocklog.ReasonBodyTooLarge, blocklog.InspectedNone},
		{"malformed_beginning", "/up", "text" + part("q", attack) + file + "--x--\r\n", false, 400, blocklog.ReasonBodyForm, blocklog.InspectedNone},
		{"malformed_end", "/up", file + "--x--\r\nmore", false, 400, blocklog.ReasonBodyForm, blocklog.InspectedPartial},
		{"malformed_and_relaxed", "/up", "--x\n" + part("q", attack) + file + "--x--\r\n", true, 400, blocklog.ReasonWAFRule, blocklog.InspectedPartial},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := make(chan string, 1)
			e := start(t, func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					body = nil
				}
				got <- string(body)
			}, rules.Block, uploading, func(a *config.App, _ *rules.Set) {
				a.MaxBody = strictyaml.Size(16 << 10)
				if test.relaxed {
					a.HTTP.Bodies = config.Relaxed
				}
			})
			req, _ := http.NewRequest("POST", e.url+test.path, strings.NewReader(test.body))
			req.Host = "hr.test"
			req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			id := res.Header.Get("X-Request-Id")
			events := e.events(id)
			switch {
			case res.StatusCode != test.status:
				t.Errorf("status %d: %+v", res.StatusCode, events)
			case test.status == 200 && <-got != test.body:
				t.Error("the application got something else")
			case test.reason != "" && (len(events) == 0 || events[0].Edge.Reason != test.reason):
				t.Errorf("%+v", events)
			case !strings.Contains(e.file(blocklog.AccessFile), fmt.Sprintf(`"inspection":%q`, test.seen)):
				t.Errorf("it was not inspected %s: %s", test.seen, e.file(blocklog.AccessFile))
			}
			if test.status != 200 {
				select {
				case body := <-got:
					if body == test.body {
						t.Error("the application got the whole")
					}
				default:
				}
			}
		})
	}
}
