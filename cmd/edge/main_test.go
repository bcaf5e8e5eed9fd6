package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/rogpeppe/go-internal/testscript"

	"edge/internal/demo"
	edgetls "edge/tls"
)

// The scripts in testdata/scripts run against the real binary, built here with
// the race detector. Beside testscript's own commands they have:
//
//	certificate NAME HOST…    NAME.pem and NAME.key from a CA of the script's own, whose root is ca/ca.pem
//	configure FILE            serve the sample applications and put their URLs in place of $HR, $TRACK
//	                          and $TIME in FILE; $DEAD is a URL where nobody answers
//	start [-plain] ARG…       run "edge ARG…" in the background until it serves; ends with the script
//	request [-h1] [-from ADDRESS] [-H 'K: V']… [-d BODY|@FILE] METHOD URL
//	                          print status, headers and body; $ID is the answer's X-Request-Id
//	await PATTERN             wait until the edge has logged that
//	hangup                    send it SIGHUP
//	open URL                  begin a WebSocket or an event stream, and leave it open
//	terminate                 send it SIGTERM, wait until it has ended, and expect exit code 0
//	admin PATH                ask the admin port of the edge for PATH, for HOST if there is a second argument
//	raw [-hangup] FILE        send FILE over TLS and HTTP/1.1, stop sending for good, print all that comes back
//	announced ADDRESS HEADER URL
//	                          from ADDRESS, send HEADER (with \r, \x00 and so on), then ask for URL over TLS as request does
//	exits CODE COMMAND ARG…   run a command and expect that exit code
//	socket URL TEXT           send TEXT over a WebSocket and print what comes back
//	stream URL                print the first server-sent event and hang up
//
// $JWT, $COOKIE and $LARGE are 2 KB, 1 KB and 51 KB of what they say.
//
//	rss MEGABYTES             fail if the edge resides in more memory than that
//
// Every host name is taken to the edge. A body from a file is sent with CRLF
// line ends, as multipart bodies need them.
//
// "start -plain" runs a binary without the race detector, for memory figures.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "edge-test")
	if err != nil {
		panic(err)
	}
	bin = dir
	for _, args := range [][]string{
		{"-race", "-o", filepath.Join(bin, "edge"), "."}, {"-o", filepath.Join(bin, "edge-plain"), "."}, {"-o", filepath.Join(bin, "bare"), "../../internal/bare"},
	} {
		build := exec.Command("go", append([]string{"build"}, args...)...)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// bin holds the binaries under test.
var bin string

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/scripts",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/cache")
			env.Setenv("JWT", "eyJhbGciOiJIUzI1NiJ9."+strings.Repeat("aB3_-x", 330))
			env.Setenv("COOKIE", strings.Repeat("Zz09", 250))
			env.Setenv("LARGE", `{"note":"`+strings.Repeat("Ordinary words. ", 3200)+`"}`)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"certificate": certificate, "configure": configure, "start": start, "raw": raw, "announced": announced, "exits": exits, "await": await, "hangup": hangup, "open": open, "admin": adminPort, "terminate": terminate, "request": request, "socket": socket, "stream": stream, "rss": rss,
		},
	})
}

func certificate(ts *testscript.TestScript, _ bool, args []string) {
	ca, err := edgetls.OpenLocalCA(ts.MkAbs("ca"))
	ts.Check(err)
	pair, err := ca.Issue(args[0], args[1:]...)
	ts.Check(err)
	for _, f := range []string{pair.Cert, pair.Key} {
		ts.Check(os.Rename(f, ts.MkAbs(filepath.Base(f))))
	}
}

func configure(ts *testscript.TestScript, _ bool, args []string) {
	urls := map[string]string{"DEAD": "http://127.0.0.1:1"}
	for _, app := range demo.Apps() {
		srv := httptest.NewServer(app.Handler)
		ts.Defer(srv.Close)
		urls[strings.ToUpper(app.Name)] = srv.URL
	}
	text := os.Expand(ts.ReadFile(args[0]), func(name string) string { return urls[name] })
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

var servingAt = regexp.MustCompile(`"https":"([^"]+)"`)

func start(ts *testscript.TestScript, _ bool, args []string) {
	name := "edge"
	if args[0] == "-plain" {
		name, args = "edge-plain", args[1:]
	}
	p, err := launch(name, ts.MkAbs("."), []string{"XDG_CACHE_HOME=" + ts.Getenv("XDG_CACHE_HOME")}, args...)
	if err != nil {
		ts.Fatalf("the edge did not start: %v", err)
	}
	ts.Setenv("ADDR", p.addr)
	ts.Setenv("EDGE_PID", fmt.Sprint(p.cmd.Process.Pid))
	running.Store(ts.Getenv("WORK"), p)
	ts.Defer(func() {
		err := p.stop()
		ts.Logf("%s%s", p.logged(), p.out.String())
		ts.Check(err)
	})
}

// running holds the edge of each script, by its directory.
var running sync.Map

func await(ts *testscript.TestScript, _ bool, args []string) {
	p, _ := running.Load(ts.Getenv("WORK"))
	ts.Check(p.(*process).await(args[0]))
}

var adminAt = regexp.MustCompile(`"admin":"([^"]+)"`)

func adminPort(ts *testscript.TestScript, _ bool, args []string) {
	p, _ := running.Load(ts.Getenv("WORK"))
	req, err := http.NewRequest("GET", "http://"+adminAt.FindStringSubmatch(p.(*process).logged())[1]+args[0], nil)
	ts.Check(err)
	if len(args) > 1 {
		req.Host = args[1]
	}
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	_, _ = fmt.Fprintln(ts.Stdout(), res.Status)
	_, err = io.Copy(ts.Stdout(), res.Body)
	ts.Check(err)
}

func hangup(ts *testscript.TestScript, _ bool, _ []string) {
	p, _ := running.Load(ts.Getenv("WORK"))
	ts.Check(p.(*process).cmd.Process.Signal(syscall.SIGHUP))
}

func open(ts *testscript.TestScript, _ bool, args []string) {
	if strings.HasPrefix(args[0], "wss:") {
		c, _, err := websocket.Dial(context.Background(), args[0], &websocket.DialOptions{HTTPClient: client(ts, false)})
		ts.Check(err)
		ts.Defer(func() { c.CloseNow() })
		return
	}
	c := client(ts, true)
	c.Timeout = 0
	res, err := c.Get(args[0])
	ts.Check(err)
	ts.Defer(func() { res.Body.Close() })
	_, err = res.Body.Read(make([]byte, 1))
	ts.Check(err)
}

func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	p, _ := running.Load(ts.Getenv("WORK"))
	ts.Check(p.(*process).stop())
}

// process is an edge that serves.
type process struct {
	cmd  *exec.Cmd
	addr string // of listen.https
	rest chan struct{}

	out bytes.Buffer // what it printed, to be read when it has ended

	once  sync.Once
	ended error

	mu  sync.Mutex
	log strings.Builder // what it has logged so far
}

// launch starts a binary under test and waits until it serves.
func launch(name, dir string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(filepath.Join(bin, name), args...), rest: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout = dir, append(os.Environ(), env...), &p.out
	log, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(log)
	for p.addr == "" && lines.Scan() {
		p.hear(lines.Text())
		if m := servingAt.FindStringSubmatch(lines.Text()); m != nil {
			p.addr = m[1]
		}
	}
	if p.addr == "" {
		return nil, fmt.Errorf("%w\n%s", p.cmd.Wait(), p.logged())
	}
	go func() {
		defer close(p.rest)
		for lines.Scan() {
			p.hear(lines.Text())
		}
	}()
	return p, nil
}

func (p *process) hear(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.WriteString(line + "\n")
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// await waits until the edge has logged what matches.
func (p *process) await(pattern string) error {
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if re.MatchString(p.logged()) {
			return nil
		}
	}
	return fmt.Errorf("no %s in the log:\n%s", pattern, p.logged())
}

// stop asks the edge to stop. One that is asked exits with 0; one in which the
// race detector found something does not.
func (p *process) stop() error {
	p.once.Do(func() { p.ended = p.end() })
	return p.ended
}

func (p *process) end() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-p.rest
	return p.cmd.Wait()
}

// roots trusts what the script's CA or the demo's has signed.
func roots(ts *testscript.TestScript) *tls.Config {
	pool := x509.NewCertPool()
	for _, root := range []string{"ca/ca.pem", "cache/edge-demo/ca/ca.pem"} {
		if pem, err := os.ReadFile(ts.MkAbs(root)); err == nil {
			pool.AppendCertsFromPEM(pem)
		}
	}
	return &tls.Config{RootCAs: pool}
}

// client speaks to the edge whatever the host.
func client(ts *testscript.TestScript, h2 bool) *http.Client {
	return clientFrom(ts, h2, "127.0.0.1", "")
}

// clientFrom does from an address of this machine, and says hello before TLS.
func clientFrom(ts *testscript.TestScript, h2 bool, from, hello string) *http.Client {
	addr := ts.Getenv("ADDR")
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   roots(ts),
			ForceAttemptHTTP2: h2,
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				c, err := dialer.DialContext(ctx, network, addr)
				if err == nil {
					_, err = io.WriteString(c, hello)
				}
				return c, err
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func request(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("request", flag.ContinueOnError)
	h1 := flags.Bool("h1", false, "")
	from := flags.String("from", "127.0.0.1", "")
	data := flags.String("d", "", "")
	header := http.Header{}
	flags.Func("H", "", func(s string) error {
		name, value, _ := strings.Cut(s, ": ")
		header.Add(name, value)
		return nil
	})
	ts.Check(flags.Parse(args))
	body := *data
	if name, ok := strings.CutPrefix(body, "@"); ok {
		body = strings.ReplaceAll(ts.ReadFile(name), "\n", "\r\n")
	}
	req, err := http.NewRequest(flags.Arg(0), flags.Arg(1), strings.NewReader(body))
	ts.Check(err)
	req.Header = header
	if header.Get("Content-Type") == "" && strings.HasPrefix(body, "{") {
		header.Set("Content-Type", "application/json")
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := clientFrom(ts, !*h1, *from, "").Do(req)
	show(ts, neg, res, err)
}

// show prints an answer, or, where none is wanted, why there is none.
func show(ts *testscript.TestScript, neg bool, res *http.Response, err error) {
	if neg && err != nil {
		_, _ = fmt.Fprintln(ts.Stderr(), err)
		return
	}
	ts.Check(err)
	defer res.Body.Close()
	if neg {
		ts.Fatalf("got an answer: %s", res.Status)
	}
	out := ts.Stdout()
	_, _ = fmt.Fprintf(out, "%s %s\n", res.Proto, res.Status)
	var names []string
	for name := range res.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		_, _ = fmt.Fprintf(out, "%s: %s\n", name, strings.Join(res.Header[name], ", "))
	}
	_, _ = fmt.Fprintln(out)
	_, err = io.Copy(out, res.Body)
	ts.Check(err)
	ts.Setenv("ID", res.Header.Get("X-Request-Id"))
}

func announced(ts *testscript.TestScript, neg bool, args []string) {
	hello, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	res, err := clientFrom(ts, true, args[0], hello).Get(args[2])
	show(ts, neg, res, err)
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d", code)
	}
}

func raw(ts *testscript.TestScript, _ bool, args []string) {
	hangup := args[0] == "-hangup"
	if hangup {
		args = args[1:]
	}
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "\n", "\r\n")
	host, _, _ := strings.Cut(text[strings.Index(text, "Host: ")+len("Host: "):], "\r\n")
	conf := roots(ts)
	conf.ServerName = host
	c, err := tls.Dial("tcp", ts.Getenv("ADDR"), conf)
	ts.Check(err)
	defer c.Close()
	ts.Check(c.SetDeadline(time.Now().Add(20 * time.Second)))
	_, err = io.WriteString(c, text)
	ts.Check(err)
	if hangup {
		ts.Check(c.CloseWrite())
	}
	_, err = io.Copy(ts.Stdout(), c)
	ts.Check(err)
}

func socket(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, args[0], &websocket.DialOptions{HTTPClient: client(ts, false)})
	ts.Check(err)
	ts.Check(c.Write(ctx, websocket.MessageText, []byte(args[1])))
	_, data, err := c.Read(ctx)
	ts.Check(err)
	_, _ = fmt.Fprintf(ts.Stdout(), "%s\n", data)
	ts.Check(c.Close(websocket.StatusNormalClosure, ""))
}

func stream(ts *testscript.TestScript, _ bool, args []string) {
	res, err := client(ts, true).Get(args[0])
	ts.Check(err)
	defer res.Body.Close()
	asked := time.Now()
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	ts.Check(err)
	_, _ = fmt.Fprintf(ts.Stdout(), "%s", line)
	ts.Logf("the first event came after %s", time.Since(asked))
}

func rss(ts *testscript.TestScript, _ bool, args []string) {
	status, err := os.ReadFile("/proc/" + ts.Getenv("EDGE_PID") + "/status")
	ts.Check(err)
	var limit, kb int
	_, err = fmt.Sscan(args[0], &limit)
	ts.Check(err)
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(after, &kb)
	ts.Check(err)
	ts.Logf("resident: %d MB", kb/1024)
	if kb/1024 >= limit {
		ts.Fatalf("resident: %d MB, more than %d", kb/1024, limit)
	}
}
