package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	corazahttp "github.com/corazawaf/coraza/v3/http"
	"golang.org/x/sys/unix"

	"edge/rules"
)

// shape is a kind of request that business applications see.
type shape struct {
	name, method, target, kind, body string
}

func shapes() []shape {
	rows := make([]string, 125)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"app":"Outlook %d","title":"Re: quarterly figures, draft %d","seconds":%d,"note":"%s"}`, i, i, i*7, strings.Repeat("ordinary words about work ", 6))
	}
	file := "--x\r\nContent-Disposition: form-data; name=\"document\"; filename=\"report.pdf\"\r\nContent-Type: application/pdf\r\n\r\n" +
		strings.Repeat("%PDF binary as it may be.\n", 4000) + "\r\n--x\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nthe signed contract\r\n--x--\r\n"
	return []shape{
		{"browser-get", "GET", "/employees?page=2&sort=name", "", ""},
		{"api-get", "GET", "/api/employees/4711", "", ""},
		{"form-login", "POST", "/login", "application/x-www-form-urlencoded", "email=zoe%40example.com&password=correct+horse+battery"},
		{"json-2k", "POST", "/api/entries", "application/json", `{"entries":[` + strings.Join(rows[:8], ",") + `]}`},
		{"json-30k", "POST", "/api/events", "application/json", `{"events":[` + strings.Join(rows, ",") + `]}`},
		{"multipart-100k", "POST", "/documents", "multipart/form-data; boundary=x", file},
		{"attack", "GET", "/employees?q=1'%20OR%20'1'='1%20--%20<script>alert(1)</script>", "", ""},
	}
}

// request is a fresh request of the shape, as a browser or a program sends it.
func (s shape) request() *http.Request {
	r := httptest.NewRequest(s.method, s.target, strings.NewReader(s.body))
	r.Host, r.RemoteAddr = "hr.test", "203.0.113.7:4711"
	h := r.Header
	h.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	h.Set("Accept", "application/json")
	if s.kind != "" {
		h.Set("Content-Type", s.kind)
		h.Set("Content-Length", fmt.Sprint(len(s.body)))
	}
	if s.name == "browser-get" || s.name == "form-login" {
		h.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
		h.Set("Accept-Language", "de,en-US;q=0.7,en;q=0.3")
		h.Set("Accept-Encoding", "gzip, deflate, br")
		h.Set("Referer", "https://hr.test/employees")
		h.Set("Cookie", "theme=dark; session=0a1b2c3d4e5f60718293a4b5c6d7e8f9; consent=yes; lang=de")
		h.Set("Sec-Fetch-Dest", "document")
		h.Set("Sec-Fetch-Mode", "navigate")
		h.Set("Sec-Fetch-Site", "same-origin")
		h.Set("Upgrade-Insecure-Requests", "1")
	}
	return r
}

// stockCoraza is a reverse proxy behind Coraza's own middleware, with the
// directives it and the rule set recommend.
func stockCoraza(b *testing.B, upstream string) http.Handler {
	b.Helper()
	waf, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(
		"Include @coraza.conf-recommended\nSecRuleEngine On\nInclude @crs-setup.conf.example\nInclude @owasp_crs/*.conf\n"))
	if err != nil {
		b.Fatal(err)
	}
	u, err := url.Parse(upstream)
	if err != nil {
		b.Fatal(err)
	}
	return corazahttp.WrapHandler(waf, &httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(u) }})
}

// cpuTime is what this process has used of all processors.
func cpuTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// BenchmarkShapes compares the whole edge with the WAF, the edge without it, and
// stock Coraza, in turn, so that the machine's moods are shared. The time is of
// all processors, the application's and the client's work included.
func BenchmarkShapes(b *testing.B) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	}))
	defer app.Close()
	variants := []struct {
		name string
		h    http.Handler
	}{
		{"none", start(b, app.Config.Handler.ServeHTTP, rules.Off).Server},
		{"stock", stockCoraza(b, app.URL)},
		{"ours", start(b, app.Config.Handler.ServeHTTP, rules.Block).Server},
	}
	var ratios []string
	for _, s := range shapes() {
		var cpu [3]time.Duration
		b.Run(s.name, func(b *testing.B) {
			cpu = [3]time.Duration{}
			var allocs [3]uint64
			n := 0
			for b.Loop() {
				n++
				for i, v := range variants {
					r, w := s.request(), httptest.NewRecorder()
					before, from := mallocs(n), cpuTime(b)
					v.h.ServeHTTP(w, r)
					cpu[i] += cpuTime(b) - from
					allocs[i] += mallocs(n) - before
					if refused := w.Code >= 400; refused != (s.name == "attack" && i > 0) {
						b.Fatalf("%s: status %d", v.name, w.Code)
					}
				}
			}
			for i, v := range variants {
				b.ReportMetric(float64(cpu[i].Microseconds())/float64(n), v.name+"-cpu-µs/op")
				b.ReportMetric(float64(allocs[i])/float64(min(n, allocRounds)), v.name+"-allocs/op")
			}
		})
		ratios = append(ratios, fmt.Sprintf("ratio %s ours/stock %.2f ours/none %.1f", s.name, float64(cpu[2])/float64(cpu[1]), float64(cpu[2])/float64(cpu[0])))
	}
	fmt.Println(strings.Join(ratios, "\n"))
}

// allocRounds is how many rounds allocations are counted in: counting stops the world.
const allocRounds = 5

func mallocs(round int) uint64 {
	if round > allocRounds {
		return 0
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
