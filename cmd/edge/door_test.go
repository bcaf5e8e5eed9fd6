package main_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"edge/blocklog"
	edgetls "edge/tls"
)

// The files in testdata/door are requests as bytes and what becomes of them, in
// front of the real binary with an application behind it that keeps all it receives.
//
//	== NAME [@all|@APP…] [sni=HOST] [from=ADDRESS] [hello="…"] [hangup]
//	the request
//	<=
//	what the application answers, where that is not a plain 200
//	=> WHAT BECAME OF IT
//
// $APP is the host of the app, block.test if none is named; @all is block, detect and off.
// Lines end with CRLF, unless they end with a backslash. There are the escapes of Go,
// {text*1000} is text a thousand times, [[gzip text]] and [[deflate text]] are that, compressed,
// and $LENGTH is the size of what follows the head. "X text" below the expectation makes
// a case of its own with text in place of $X. What becomes of it:
//
//	refused STATUS REASON   by the edge, with one record; the application saw nothing
//	broken STATUS REASON    as refused, but where the body flows (all but block) the application may have seen some of it
//	failed STATUS REASON    as refused, but the application saw the request
//	forwarded [N]           N requests were forwarded and answered, and there is no record
//	detected REASON         forwarded, with a record
//	half REASON             forwarded, and the answer broke off
//	cut                     the connection was closed without an answer
//
// and below that, "+ text" and "- text" are in what the application received or are not, "> text"
// and "< text" are in the answer or are not, and lines that begin with "|" are all the application received.
func TestDoor(t *testing.T) {
	d := openDoor(t, "edge.yaml", nil)
	files, err := filepath.Glob("../../testdata/door/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for _, c := range readCalls(t, file) {
				t.Run(c.name, func(t *testing.T) { d.try(t, c) })
			}
		})
	}
}

// door is an edge and what is known of both its sides.
type door struct {
	*process
	dir           string
	tls           *tls.Config
	app           *witness
	calls         int
	block, access tail
	pages         map[string]string // what was told to those who were refused, by the expectation
}

// openDoor starts an edge with one of the configurations in testdata/door, in which
// $UPSTREAM is a witness, and others may be named.
func openDoor(t *testing.T, config string, upstreams map[string]net.Listener) *door {
	t.Helper()
	d := &door{dir: t.TempDir(), app: bearWitness(t), pages: map[string]string{}}
	ca, err := edgetls.OpenLocalCA(filepath.Join(d.dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue("edge", "*.test", "*.tenant.test"); err != nil {
		t.Fatal(err)
	}
	configs, err := filepath.Glob("../../testdata/door/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range configs {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out := os.Expand(string(text), func(name string) string {
			if l, ok := upstreams[name]; ok {
				return "http://" + l.Addr().String()
			}
			return "http://" + d.app.Addr().String()
		})
		if err := os.WriteFile(filepath.Join(d.dir, filepath.Base(file)), []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d.process, err = launch("edge", d.dir, nil, "run", "--config", config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Errorf("%v\n%s", err, d.logged())
		}
	})
	d.tls = &tls.Config{RootCAs: ca.Pool()}
	d.block.path = filepath.Join(d.dir, "state", "log", blocklog.BlockFile)
	d.access.path = filepath.Join(d.dir, "state", "log", blocklog.AccessFile)
	return d
}

// try makes a call and holds what became of it against what should have.
func (d *door) try(t *testing.T, c call) {
	d.calls++
	if c.from == "" { // nobody is counted, or sampled, with the others
		c.from = fmt.Sprintf("127.1.%d.%d", d.calls/250, d.calls%250+1)
	}
	d.app.answer(c.answer)
	kind, rest, _ := strings.Cut(c.want, " ")
	n := 1
	if kind == "forwarded" && rest != "" {
		n, _ = strconv.Atoi(rest)
	}
	answers, text := d.call(t, c, n)
	var records []blocklog.Event
	if len(answers) > 0 {
		records = d.records(t, answers[len(answers)-1].Header.Get("X-Request-Id"))
	}
	for end := time.Now().Add(10 * time.Second); kind == "half" && len(records) == 0 && time.Now().Before(end); {
		records = d.block.next(t)
	}
	seen, whole := d.app.take(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("sent %.600q\nanswer %.900q\nthe application saw %.900q\nrecords %+v", c.raw, text, seen, records)
		}
	})
	if kind == "cut" {
		if len(answers) > 0 || seen != "" {
			t.Error("it was not cut off")
		}
		return
	}
	if kind == "half" {
		if whole != 1 || len(records) != 1 || string(records[0].Edge.Reason) != rest || len(answers) > 0 && answers[0].Header.Get(brokenOff) == "" {
			t.Errorf("%d requests were forwarded, with %d records, and the answer may look whole", whole, len(records))
		}
		return
	}
	if len(answers) != n {
		t.Fatalf("%d answers, want %d", len(answers), n)
	}
	last := answers[n-1]
	switch kind {
	case "refused", "broken", "failed":
		d.refused(t, last, text, rest, records)
		if seen != "" && (kind == "refused" || kind == "broken" && c.host == "block.test") || kind == "broken" && whole > 0 {
			t.Errorf("the application saw it (%d whole requests)", whole)
		}
	case "forwarded":
		if whole != n || len(records) > 0 {
			t.Errorf("%d requests were forwarded, with %d records, want %d and none", whole, len(records), n)
		}
	case "detected":
		if whole != 1 || len(records) != 1 || string(records[0].Edge.Reason) != rest || records[0].Edge.Action != blocklog.Detect {
			t.Errorf("%d requests were forwarded, with %d records", whole, len(records))
		}
	default:
		t.Fatalf("what is %q?", kind)
	}
	seen = strings.NewReplacer(last.Header.Get("X-Request-Id"), "$ID", c.from, "$CLIENT").Replace(seen)
	if c.all != "" && seen != c.all {
		t.Errorf("the application saw\n%s, want\n%s", seen, c.all)
	}
	for _, claim := range c.claims {
		if claim == "" {
			continue
		}
		in, want := seen, claim[0] == '+' || claim[0] == '>'
		if claim[0] == '>' || claim[0] == '<' {
			in = text
		}
		if strings.Contains(in, unescape(t, claim[2:])) != want {
			t.Errorf("not so: %s", claim)
		}
	}
}

// refused expects that an answer is a refusal that repeats nothing of the request, and that
// there is one record of it.
func (d *door) refused(t *testing.T, res *http.Response, text, want string, records []blocklog.Event) {
	t.Helper()
	records = slices.DeleteFunc(records, func(e blocklog.Event) bool { return e.Edge.Action == blocklog.Detect })
	if len(records) != 1 {
		t.Fatalf("%d records, want 1", len(records))
	}
	r, id := records[0], res.Header.Get("X-Request-Id")
	if got := fmt.Sprint(res.StatusCode, " ", r.Edge.Reason); !matches(want, got) || res.StatusCode < 400 {
		t.Errorf("%s (%s), want %s", got, r.Edge.Detail, want)
	}
	if id == "" || r.Event.ID != id || r.HTTP.Response.Status != res.StatusCode {
		t.Errorf("the record is not of the answer %q", id)
	}
	if res.Request.Method == http.MethodHead || strings.Contains(text, "problem+json") {
		return
	}
	page := regexp.MustCompile(`(?m)^(HTTP|Date|Content-Length|Connection|Retry-After|Allow)[:/] ?.*\r\n`).ReplaceAllString(strings.ReplaceAll(text[max(0, strings.LastIndex(text, "HTTP/1.")):], id, ""), "")
	key := fmt.Sprint(res.StatusCode, r.Edge.Reason)
	if d.pages[key] == "" {
		d.pages[key] = page
	}
	if page != d.pages[key] {
		t.Errorf("another page than for others:\n%s", d.pages[key])
	}
}

// knock connects from an address of this machine.
func (d *door) knock(t *testing.T, from string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	raw, err := dialer.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return raw
}

// brokenOff is put into the header of an answer that ended too early.
const brokenOff = "Broken-Off"

// matches says that a whole text is as a pattern has it.
func matches(pattern, text string) bool {
	return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(text)
}

// call sends the bytes, and reads n answers and whatever else comes.
func (d *door) call(t *testing.T, c call, n int) (answers []*http.Response, text string) {
	t.Helper()
	raw := d.knock(t, c.from)
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(raw, c.hello)
	conf := d.tls.Clone()
	if conf.ServerName = c.sni; c.sni == "" {
		conf.ServerName = c.host
	}
	conn := tls.Client(raw, conf)
	if err := conn.Handshake(); err != nil {
		return nil, err.Error()
	}
	go func() {
		_, _ = io.WriteString(conn, c.raw)
		if c.hangup {
			_ = conn.CloseWrite()
		}
	}()
	var all bytes.Buffer
	r := bufio.NewReader(io.TeeReader(conn, &all))
	method, _, _ := strings.Cut(c.raw, " ")
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return answers, all.String()
		}
		_, err = io.Copy(io.Discard, res.Body)
		if res.StatusCode/100 == 1 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		if err != nil {
			res.Header.Set(brokenOff, err.Error())
		}
		answers = append(answers, res)
		if res.StatusCode == http.StatusSwitchingProtocols {
			_, _ = io.Copy(io.Discard, r)
		}
		if len(answers) == n || err != nil {
			_ = conn.CloseWrite() // there is no more, is there?
		}
	}
}

// records waits until the request called id is over, and returns what was refused since the last time.
func (d *door) records(t *testing.T, id string) []blocklog.Event {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if slices.ContainsFunc(d.access.next(t), func(e blocklog.Event) bool { return e.Event.ID == id }) {
			return d.block.next(t)
		}
	}
	t.Fatalf("there is no record of %q", id)
	return nil
}
