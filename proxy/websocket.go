package proxy

import (
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"edge/blocklog"
)

// upgrades says that a request asks for a WebSocket, well or badly. All other
// upgrades are ignored, and taken out on the way to the application.
func upgrades(r *http.Request) bool {
	return r.ProtoMajor == 1 && slices.ContainsFunc(r.Header.Values("Upgrade"), func(line string) bool {
		return strings.Contains(strings.ToLower(line), "websocket")
	})
}

// checkUpgrade lets handshakes through that are what RFC 6455 §4.2.1 says, where the
// app takes WebSockets, from pages of its own. The frames are not looked at.
func (s *Server) checkUpgrade(x *exchange) (pass blocklog.Decision) {
	if !x.upgrade {
		return pass
	}
	ws := x.app.http.WebSocket
	if !ws.Enabled {
		return deny(blocklog.ReasonBadUpgrade, http.StatusForbidden, "the app takes no WebSockets (http.websocket)")
	}
	if wrong := badHandshake(x.r); wrong != "" {
		return deny(blocklog.ReasonBadUpgrade, http.StatusBadRequest, "the WebSocket handshake %s", wrong)
	}
	if origin := x.r.Header.Get("Origin"); origin != "" && !x.mayOpen(origin) {
		return deny(blocklog.ReasonBadUpgrade, http.StatusForbidden, "a page of %q may not open WebSockets here (http.websocket.origins)", origin)
	}
	x.socket = s.sockets.enter(x.app.name+"/"+clientKey(x.client.Addr()), ws.PerClient)
	if x.socket == nil {
		d := deny(blocklog.ReasonOverload, http.StatusTooManyRequests, "the client has %d WebSockets open (http.websocket.per_client)", ws.PerClient)
		d.RetryAfter = time.Minute
		return d
	}
	return pass
}

// badHandshake says what is wrong with a handshake, or "".
func badHandshake(r *http.Request) string {
	one := func(name, want string) bool {
		v := r.Header.Values(name)
		return len(v) == 1 && strings.EqualFold(strings.TrimSpace(v[0]), want)
	}
	keys := r.Header.Values("Sec-Websocket-Key")
	switch {
	case r.Method != http.MethodGet || r.ProtoMinor != 1:
		return "is no GET of HTTP/1.1"
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return "has a body"
	case !one("Upgrade", "websocket"):
		return "asks for more than a WebSocket"
	case !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade"):
		return "does not name Upgrade in Connection"
	case !one("Sec-Websocket-Version", "13"):
		return "is not of version 13"
	case len(keys) != 1:
		return "has no key, or several"
	}
	if key, err := base64.StdEncoding.Strict().DecodeString(keys[0]); err != nil || len(key) != 16 {
		return "has a key that is not 16 bytes"
	}
	return ""
}

// mayOpen says that a page of origin may open WebSockets: one that is listed, or,
// where none is, one of a host of the app.
func (x *exchange) mayOpen(origin string) bool {
	origin = strings.ToLower(origin)
	if list := x.app.http.WebSocket.Origins; list != nil {
		return slices.Contains(list, origin) || slices.Contains(list, "*")
	}
	host, secure := strings.CutPrefix(origin, "https://") // anybody on the way can write pages of http
	app, _ := x.snap.find(canonicalHost(host))
	return secure && app == x.app
}

// switched deals with a 101. The application may send one only to a handshake, and
// with the right answer to its key; then bytes flow until nobody sends any.
func (x *exchange) switched(res *http.Response) error {
	key := x.r.Header.Get("Sec-Websocket-Key")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §1.3
	both, ok := res.Body.(io.ReadWriteCloser)
	if x.socket == nil || !ok || res.Header.Get("Sec-Websocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return &refusal{blocklog.Decision{
			Action: blocklog.Fail, Stage: blocklog.StageUpstream, Reason: blocklog.ReasonUpstream, Status: http.StatusBadGateway,
			Detail: "the application switched protocols though nobody had asked for it, or to something else",
		}}
	}
	x.status = res.StatusCode
	ws, control := x.app.http.WebSocket, http.NewResponseController(x.w)
	res.Body = newTunnel(both, time.Duration(ws.Idle), time.Duration(ws.Lifetime), func() {
		_ = both.Close()
		_ = control.SetReadDeadline(time.Unix(1, 0)) // every server we use supports it
		_ = control.SetWriteDeadline(time.Unix(1, 0))
	})
	return nil
}

// leaveUpgrade sees to it that a connection on which a WebSocket was asked for, and
// not given, ends with the answer h: its client may not wait for that to send frames.
func (x *exchange) leaveUpgrade(h http.Header) {
	if x.upgrade {
		h.Set("Connection", "close")
	}
}

// tunnel is the connection to an application after a 101. It is ended when nothing
// has gone either way for a while, and when it has been open for long enough; and so
// is that to the client, who may take nothing and so learn of nothing.
type tunnel struct {
	io.ReadWriteCloser
	idle        time.Duration
	quiet, life *time.Timer
}

func newTunnel(conn io.ReadWriteCloser, idle, lifetime time.Duration, end func()) *tunnel {
	return &tunnel{ReadWriteCloser: conn, idle: idle, quiet: time.AfterFunc(idle, end), life: time.AfterFunc(lifetime, end)}
}

func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(p)
	t.moved(n)
	return n, err
}

func (t *tunnel) Write(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Write(p)
	t.moved(n)
	return n, err
}

// moved begins the quiet time anew. The end of a direction is nothing that moves.
func (t *tunnel) moved(n int) {
	if n > 0 {
		t.quiet.Reset(t.idle)
	}
}

func (t *tunnel) Close() error {
	t.quiet.Stop()
	t.life.Stop()
	return t.ReadWriteCloser.Close()
}

// sockets counts the WebSockets of each client. It holds only those that are open.
type sockets struct {
	mu   sync.Mutex
	open map[string]int
}

// enter counts one more for key and returns how to give it back, or nil where there
// are most already.
func (s *sockets) enter(key string, most int) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key] >= most {
		return nil
	}
	if s.open == nil {
		s.open = map[string]int{}
	}
	s.open[key]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[key]--; s.open[key] == 0 {
			delete(s.open, key)
		}
	}
}
