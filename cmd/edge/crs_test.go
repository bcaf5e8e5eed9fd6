package main_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"github.com/goccy/go-yaml"

	"edge/blocklog"
	edgetls "edge/tls"
)

// The regression suite of the Core Rule Set, the one its authors use, run over
// TLS through a whole edge in front of an application that answers as a test
// wants. What matched is read where a reviewer would: in the records.
//
// The format is go-ftw's. Its tests say which rules must or must not match.

type suiteFile struct {
	RuleID int         `yaml:"rule_id"`
	Tests  []suiteTest `yaml:"tests"`
}

type suiteTest struct {
	ID     int `yaml:"test_id"`
	Stages []struct {
		Input  suiteInput  `yaml:"input"`
		Output suiteOutput `yaml:"output"`
	} `yaml:"stages"`
}

type suiteInput struct {
	Method       *string       `yaml:"method"`
	URI          *string       `yaml:"uri"`
	Version      *string       `yaml:"version"`
	Headers      yaml.MapSlice `yaml:"headers"`
	Data         *string       `yaml:"data"`
	Encoded      string        `yaml:"encoded_request"`
	Autocomplete *bool         `yaml:"autocomplete_headers"`
}

type suiteOutput struct {
	Status      int  `yaml:"status"`
	ExpectError bool `yaml:"expect_error"`
	Log         struct {
		Expect   []int `yaml:"expect_ids"`
		NoExpect []int `yaml:"no_expect_ids"`
	} `yaml:"log"`
}

// deviations are the tests that go another way through the edge than the suite
// says, and why. The list may only shrink: a test in it that passes is a failure.
var deviations = map[string]string{
	"920100-4":  "CONNECT is refused: the edge is no forward proxy",
	"920280-1":  "a request without a host is refused at the door, with bad_host",
	"920290-4":  "a request with an empty host is refused at the door, with bad_host",
	"920280-3":  "HTTP/0.9 is refused with 505 at the door, where the suite wants 400",
	"920430-3":  "HTTP/0.9, the same",
	"920430-9":  "HTTP/0.8, the same",
	"920430-8":  "HTTP/4.0 is refused with 505 at the door, with bad_version",
	"920430-5":  "a request line without a version is refused at the door, with bad_version",
	"920100-16": "an absolute target is refused at the door, with bad_target: it names a host of its own",
	"920181-1":  "a length beside chunks is refused at the door, with bad_framing, where the suite wants the rule not to match",
	"941210-6":  "HTTP/1.0 with a body is refused at the door, with bad_framing",
	"944200-1":  "HTTP/1.0 with a body, the same",
	"920620-1":  "the suite expects two Content-Type lines to be joined, as httpd does; here the rule against them matches",
}

func TestCRS(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(reflect))
	t.Cleanup(app.Close)
	// The thresholds are out of reach, so that the rules of every phase get to see
	// every test, but for the tests that are about thresholds.
	unreachable := startSuite(t, app.URL, "relaxed", 10000, 10000)
	about := map[string]*suiteRun{"949": startSuite(t, app.URL, "relaxed", 5, 10000), "959": startSuite(t, app.URL, "relaxed", 10000, 4), "980": startSuite(t, app.URL, "relaxed", 5, 4)}
	passed, failed := 0, 0
	for name, test := range suite(t) {
		s := about[name[:3]]
		if s == nil {
			s = unreachable
		}
		err := s.run(test)
		reason, deviates := deviations[name]
		switch {
		case err != nil && deviates:
		case err != nil:
			t.Errorf("%s: %v", name, err)
			failed++
			continue
		case deviates:
			t.Errorf("%s passes, though it is listed: %s", name, reason)
			failed++
			continue
		}
		passed++
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
}

// With HTTP taken strictly, an attack of the suite that does not get as far as its
// rule has been refused at the door, for a reason that is named.
func TestCRSStrict(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(reflect))
	t.Cleanup(app.Close)
	s := startSuite(t, app.URL, "strict", 10000, 10000)
	door := []blocklog.Stage{blocklog.StageHTTP, blocklog.StageHost, blocklog.StageBody}
	refused := map[blocklog.Reason]int{}
	matched := 0
	for name, test := range suite(t) {
		if slices.Contains([]string{"949", "959", "980"}, name[:3]) {
			continue // about thresholds
		}
		for _, stage := range test.Stages {
			if len(stage.Output.Log.Expect) == 0 {
				continue
			}
			status, err := s.send(stage.Input.bytes())
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			e, err := s.record()
			missing := slices.ContainsFunc(stage.Output.Log.Expect, func(id int) bool { return !slices.Contains(e.Edge.Rules, id) })
			switch {
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case !missing:
				matched++
			case status >= 400 && e.Edge.Action == blocklog.Deny && slices.Contains(door, e.Edge.Stage):
				refused[e.Edge.Reason]++
			default:
				t.Errorf("%s: status %d, rules %v, %q at %s", name, status, e.Edge.Rules, e.Edge.Reason, e.Edge.Stage)
			}
		}
	}
	fmt.Printf("strict: %d matched their rule, refused at the door: %v\n", matched, refused)
}

// suite yields the tests of all files, in order.
func suite(t *testing.T) func(yield func(string, suiteTest) bool) {
	return func(yield func(string, suiteTest) bool) {
		err := fs.WalkDir(tests.FS, ".", func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".yaml") {
				return err
			}
			text, err := fs.ReadFile(tests.FS, path)
			if err != nil {
				return err
			}
			var f suiteFile
			if err := yaml.Unmarshal(text, &f); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, test := range f.Tests {
				if !yield(fmt.Sprintf("%d-%d", f.RuleID, test.ID), test) {
					return fs.SkipAll
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// reflect is the application: it answers POST /reflect with what the body asks for.
func reflect(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/reflect") {
		_, _ = io.Copy(io.Discard, r.Body)
		return
	}
	var want struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
		Encoded string            `json:"encodedBody"`
	}
	if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body := []byte(want.Body)
	if want.Encoded != "" {
		body, _ = base64.StdEncoding.DecodeString(want.Encoded)
	}
	for k, v := range want.Headers {
		w.Header().Set(k, v)
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "text/plain")
	}
	if want.Status != 0 {
		w.WriteHeader(want.Status)
	}
	_, _ = w.Write(body)
}

// suiteRun is the edge under test and its access log.
type suiteRun struct {
	addr string
	tls  *tls.Config
	log  *bufio.Reader
}

const suiteConfig = `
listen: {https: "127.0.0.1:0", admin: "127.0.0.1:0"}
tls: {files: [{cert: ca/edge.pem, key: ca/edge.key}]}
state: {dir: state}
log: {max_per_client: 0}
apps:
  - name: suite
    hosts: [localhost, nextjs.example, "*.com", "*.io", "*.example", 127.0.0.1, 1.2.3.4, "::1", "fe80::f1:1:fe01:1"]
    upstream: %s
    rules: [rules.yaml]
    http: %s
`

// suiteRules are the settings the suite's authors run it under, and the rule
// set's own defaults where ours let more clients live.
const suiteRules = `
waf:
  paranoia: 4
  thresholds: {inbound: %d, outbound: %d}
  methods: [GET, HEAD, POST, OPTIONS]
  content_types: [application/x-www-form-urlencoded, multipart/form-data, text/xml, application/xml, application/soap+xml, application/json]
  responses: {inspect: [text/plain, text/html, text/xml, application/json]}
  settings:
    arg_name_length: 100
    arg_length: 400
    total_arg_length: 64000
    max_num_args: 255
    max_file_size: 64100
    combined_file_sizes: 65535
    crs_validate_utf8_encoding: 1
`

func startSuite(t *testing.T, upstream, strictness string, inbound, outbound int) *suiteRun {
	t.Helper()
	dir := t.TempDir()
	ca, err := edgetls.OpenLocalCA(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue("edge", "localhost", "nextjs.example", "*.com", "*.io", "*.example", "127.0.0.1", "1.2.3.4", "::1", "fe80::f1:1:fe01:1"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"edge.yaml": fmt.Sprintf(suiteConfig, upstream, strictness), "rules.yaml": fmt.Sprintf(suiteRules, inbound, outbound)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := launch("edge-plain", dir, nil, "run", "--config", "edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	s := &suiteRun{addr: p.addr, tls: &tls.Config{ServerName: "localhost", RootCAs: ca.Pool()}}
	log, err := os.Open(filepath.Join(dir, "state", "log", blocklog.AccessFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	s.log = bufio.NewReader(log)
	return s
}

func (s *suiteRun) run(test suiteTest) error {
	for _, stage := range test.Stages {
		status, err := s.send(stage.Input.bytes())
		if err != nil {
			if stage.Output.ExpectError {
				continue
			}
			return err
		}
		if want := stage.Output.Status; want != 0 && want != status {
			return fmt.Errorf("status %d, want %d", status, want)
		}
		if len(stage.Output.Log.Expect)+len(stage.Output.Log.NoExpect) == 0 {
			continue
		}
		e, err := s.record()
		matched := e.Edge.Rules
		if err != nil && (!errors.Is(err, errNoRecord) || len(stage.Output.Log.Expect) > 0) { // refused before there was a request
			return fmt.Errorf("status %d: %w", status, err)
		}
		for _, id := range stage.Output.Log.Expect {
			if !slices.Contains(matched, id) {
				return fmt.Errorf("rule %d does not match, but %v", id, matched)
			}
		}
		for _, id := range stage.Output.Log.NoExpect {
			if slices.Contains(matched, id) {
				return fmt.Errorf("rule %d matches", id)
			}
		}
	}
	return nil
}

// send sends a request as it is and returns the status of the answer.
func (s *suiteRun) send(request []byte) (int, error) {
	for { // what the last test left
		if _, err := s.log.ReadBytes('\n'); err != nil {
			break
		}
	}
	c, err := tls.Dial("tcp", s.addr, s.tls)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method(request)})
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

func method(request []byte) string {
	m, _, _ := strings.Cut(string(request), " ")
	return m
}

var errNoRecord = errors.New("there is no record")

// record waits for the record of the request just sent.
func (s *suiteRun) record() (e blocklog.Event, err error) {
	for range 200 {
		line, err := s.log.ReadBytes('\n')
		if err == io.EOF {
			time.Sleep(time.Millisecond)
			continue
		}
		return e, json.Unmarshal(line, &e)
	}
	return e, errNoRecord
}

// bytes is the request as go-ftw would send it.
func (in suiteInput) bytes() []byte {
	if in.Encoded != "" {
		b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(in.Encoded, "\n", ""))
		if err != nil {
			panic(err)
		}
		return b
	}
	data := expand(or(in.Data, ""))
	has := func(name string) bool {
		return slices.ContainsFunc(in.Headers, func(h yaml.MapItem) bool { return strings.EqualFold(fmt.Sprint(h.Key), name) })
	}
	headers := slices.Clone(in.Headers)
	if in.Autocomplete == nil || *in.Autocomplete {
		if data != "" && !has("Content-Type") {
			headers = append(headers, yaml.MapItem{Key: "Content-Type", Value: "application/x-www-form-urlencoded"})
		}
		if slices.ContainsFunc(headers, func(h yaml.MapItem) bool {
			return strings.EqualFold(fmt.Sprint(h.Key), "Content-Type") && fmt.Sprint(h.Value) == "application/x-www-form-urlencoded"
		}) {
			data = encodeForm(data)
		}
		if data != "" && !has("Content-Length") {
			headers = append(headers, yaml.MapItem{Key: "Content-Length", Value: len(data)})
		}
		if !has("Connection") {
			headers = append(headers, yaml.MapItem{Key: "Connection", Value: "close"})
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", or(in.Method, "GET"), or(in.URI, "/"), or(in.Version, "HTTP/1.1"))
	for _, h := range headers {
		fmt.Fprintf(&b, "%s: %v\r\n", h.Key, h.Value)
	}
	return []byte(b.String() + "\r\n" + data)
}

// expand fills in what the suite writes as a template: {{ "1" | repeat 152 }}.
func expand(data string) string {
	if !strings.Contains(data, "| repeat") {
		return data
	}
	var b strings.Builder
	repeat := func(n int, s string) string { return strings.Repeat(s, n) }
	t := template.Must(template.New("").Funcs(template.FuncMap{"repeat": repeat}).Parse(data))
	if err := t.Execute(&b, nil); err != nil {
		panic(err)
	}
	return b.String()
}

// encodeForm escapes a form that is written in clear.
func encodeForm(data string) string {
	if plain, err := url.QueryUnescape(data); err != nil || plain != data {
		return data
	}
	values, err := url.ParseQuery(data)
	if err != nil {
		return data
	}
	return values.Encode()
}

func or(s *string, otherwise string) string {
	if s == nil {
		return otherwise
	}
	return *s
}
