package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"edge/blocklog"
	"edge/config"
	"edge/form"
	"edge/rules"
)

// However a body comes and is read, what is read is the body.
func TestCheckedHandsOutEverything(t *testing.T) {
	type way = func(io.Reader) io.Reader
	reads := map[string]way{"one": iotest.OneByteReader, "half": iotest.HalfReader}
	sends := map[string]way{"one": iotest.OneByteReader, "half": iotest.HalfReader, "with_end": iotest.DataErrReader}
	for _, text := range []string{`{}`, `[1]`, `{"note":"hello"}`} {
		for comes, sent := range sends {
			for asked, read := range reads {
				t.Run(comes+"_"+asked, func(t *testing.T) {
					c := checking(io.NopCloser(sent(strings.NewReader(text))), form.Type{Kind: form.JSON}, form.Limits{})
					if got, err := io.ReadAll(read(c)); string(got) != text || err != nil {
						t.Errorf("%q and %v of %q", got, err, text)
					}
				})
			}
		}
	}
}

// A body that is refused before anybody reads it leaves nothing behind.
func TestCheckedUnread(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100 {
		checking(io.NopCloser(strings.NewReader("{}")), form.Type{Kind: form.JSON}, form.Limits{})
	}
	if after := runtime.NumGoroutine(); after >= before+100 {
		t.Errorf("%d goroutines, and %d before", after, before)
	}
}

// What is closed or broken off ends its check.
func TestCheckedEnds(t *testing.T) {
	c := checking(io.NopCloser(strings.NewReader(`{"a":1}`)), form.Type{Kind: form.JSON}, form.Limits{})
	if _, err := c.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.verdict:
	case <-time.After(10 * time.Second):
		t.Error("the check goes on")
	}
}

// The time that a slow client has does not run out because it has sent much.
func TestPaceOfLargeBodies(t *testing.T) {
	begun := time.Now()
	p := &paced{begun: begun, got: 10 << 30}
	if slow := p.tooSlow(); slow.Before(begun.Add(bodyGrace)) {
		t.Errorf("10 GiB are too slow at %s", slow)
	}
}

// What an app is relaxed about passes, and nothing else does.
func TestRelaxedInOneThing(t *testing.T) {
	var mu sync.Mutex // the application may still be reading when a refusal is here
	seen := ""
	upstream := func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = r.RequestURI + " " + r.Header.Get("Cookie") + " " + string(body)
	}
	for _, test := range []struct {
		relax                    string
		path, cookie, kind, body string
		want                     int
		reason                   blocklog.Reason
	}{
		{"targets", "/a;b=c", "", "", "", 200, ""},
		{"cookies", "/", "a", "", "", 200, ""},
		{"types", "/", "", "", "text", 200, ""},
		{"types", "/", "", "application/x-own", "text", 200, ""},
		{"bodies", "/", "", "application/json", `{"a":1,"a":2}`, 200, ""},
		{"targets", "/", "a", "", "", 400, blocklog.ReasonBadCookie},
		{"cookies", "/a;b=c", "", "", "", 400, blocklog.ReasonBadTarget},
		{"types", "/", "", "application/json", `{"a":1,"a":2}`, 400, blocklog.ReasonBodyForm},
		{"bodies", "/", "", "application/x-own", "text", 415, blocklog.ReasonBodyType},
	} {
		e := start(t, upstream, rules.Off, func(a *config.App, _ *rules.Set) {
			*map[string]*config.Strictness{"targets": &a.HTTP.Targets, "cookies": &a.HTTP.Cookies, "types": &a.HTTP.Types, "bodies": &a.HTTP.Bodies}[test.relax] = config.Relaxed
		})
		req, _ := http.NewRequest("POST", e.url, strings.NewReader(test.body))
		req.URL.Opaque, req.Host = test.path, "hr.test"
		for name, value := range map[string]string{"Cookie": test.cookie, "Content-Type": test.kind} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		mu.Lock()
		seen = ""
		mu.Unlock()
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		mu.Lock()
		seen := seen
		mu.Unlock()
		whole := test.path + " " + test.cookie + " " + test.body
		if res.StatusCode != test.want || (seen == whole) != (test.want == 200) {
			t.Errorf("%+v: status %d, the application saw %q", test, res.StatusCode, seen)
		}
		if test.reason != "" {
			if events := e.events(res.Header.Get("X-Request-Id")); len(events) == 0 || events[0].Edge.Reason != test.reason {
				t.Errorf("%+v: %+v", test, events)
			}
		}
	}
}

// Time that was set for what is held is not held against what flows after it.
func TestTimeOfBeginnings(t *testing.T) {
	p := &paced{control: http.NewResponseController(httptest.NewRecorder())}
	now := time.Now()
	p.within(bodyGrace / 2)
	if p.pace(now); p.deadline.After(now.Add(bodyGrace/2 + time.Second)) {
		t.Errorf("what is held has %s", p.deadline.Sub(now))
	}
	p.within(0)
	if p.pace(now.Add(paceStep / 2)); !p.deadline.Equal(p.tooSlow()) {
		t.Errorf("what flows has %s", p.deadline.Sub(now))
	}
}
