package listen

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"edge/blocklog"
	"edge/config"
	edgetls "edge/tls"
)

// serve starts a Server for h on loopback and returns it with a client that trusts it.
func serve(t *testing.T, h http.Handler, prepare ...func(*Server)) (s *Server, l net.Listener, client *tls.Config) {
	t.Helper()
	ca, err := edgetls.OpenLocalCA(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("edge", "hr.test")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := edgetls.Load([]config.CertFile{pair})
	if err != nil {
		t.Fatal(err)
	}
	s = New(refuser{h}, certs.Config(), Limits{Total: 1000, PerClient: 1000}, zap.NewNop())
	for _, f := range prepare {
		f(s)
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, l, &tls.Config{ServerName: "hr.test", RootCAs: ca.Pool()}
}

func clientFor(l net.Listener, conf *tls.Config, h2 bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: conf, ForceAttemptHTTP2: h2,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		},
	}}
}

// Both protocols reach the handler with their TLS state.
func TestBothProtocols(t *testing.T) {
	_, l, conf := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			http.Error(w, "no TLS state", http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Proto, r.TLS.ServerName, r.TLS.NegotiatedProtocol)
	}))
	for h2, want := range map[bool]string{true: "HTTP/2.0 hr.test h2", false: "HTTP/1.1 hr.test "} {
		c := clientFor(l, conf.Clone(), h2)
		for range 2 { // the second on the same connection
			res, err := c.Get("https://hr.test/")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || string(body) != want {
				t.Errorf("%q, %v; want %q", body, err, want)
			}
			res.Body.Close()
		}
		c.CloseIdleConnections()
	}
}

// Shutdown lets requests under way finish, on both protocols, and takes no new ones.
func TestShutdownFinishesRequests(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2_%v", h2), func(t *testing.T) {
			entered, leave := make(chan struct{}), make(chan struct{})
			s, l, conf := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(entered)
				<-leave
				_, _ = io.WriteString(w, "done")
			}))
			answer := make(chan string, 1)
			go func() {
				res, err := clientFor(l, conf, h2).Get("https://hr.test/")
				if err != nil {
					answer <- err.Error()
					return
				}
				defer res.Body.Close()
				body, _ := io.ReadAll(res.Body)
				answer <- string(body)
			}()
			<-entered
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			stopped := make(chan bool, 1)
			go func() { stopped <- s.Shutdown(ctx) }()
			select {
			case <-stopped:
				t.Fatal("it stopped with a request under way")
			case <-time.After(50 * time.Millisecond):
			}
			close(leave)
			if got := <-answer; got != "done" {
				t.Errorf("the client got %q", got)
			}
			if <-stopped {
				t.Error("Shutdown says it cut something")
			}
			if _, err := tls.Dial("tcp", l.Addr().String(), conf); err == nil {
				t.Error("it still accepts connections")
			}
		})
	}
}

// What is left when the patience ends is cut.
func TestShutdownCuts(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		entered := make(chan struct{})
		s, l, conf := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		}))
		failed := make(chan error, 1)
		go func() {
			res, err := clientFor(l, conf, h2).Get("https://hr.test/")
			if err == nil {
				res.Body.Close()
			}
			failed <- err
		}()
		<-entered
		_ = l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if !s.Shutdown(ctx) {
			t.Error("Shutdown says it cut nothing")
		}
		if err := <-failed; err == nil {
			t.Error("the request was not cut")
		}
	}
}

// Whoever does not speak TLS is hung up on, and holds up nobody.
func TestPlainText(t *testing.T) {
	_, l, conf := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: hr.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(c); strings.Contains(string(answer), "HTTP") {
		t.Errorf("it answered %q", answer)
	}
	res, err := clientFor(l, conf, true).Get("https://hr.test/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}

// refuser answers what is refused with its status and its reason.
type refuser struct{ http.Handler }

func (refuser) Refuse(w http.ResponseWriter, _ *http.Request, d blocklog.Decision) {
	http.Error(w, string(d.Reason), d.Status)
}
