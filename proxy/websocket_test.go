package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"edge/config"
	"edge/internal/strictyaml"
	"edge/rules"
)

// A WebSocket whose client neither takes nor sends anything ends in time, however
// much the application has for it.
func TestSocketOfNobody(t *testing.T) {
	for name, limit := range map[string]func(*config.WebSocket){
		"idle":     func(w *config.WebSocket) { w.Idle = strictyaml.Duration(100 * time.Millisecond) },
		"lifetime": func(w *config.WebSocket) { w.Lifetime = strictyaml.Duration(100 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, func(w http.ResponseWriter, _ *http.Request) {
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
				for err == nil {
					_, err = c.Write(make([]byte, 1<<20))
				}
			}, rules.Off, func(a *config.App, _ *rules.Set) { limit(&a.HTTP.WebSocket) })
			c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: hr.test\r\nUser-Agent: test\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			if line := make([]byte, 12); true {
				if _, err := io.ReadFull(c, line); string(line) != "HTTP/1.1 101" {
					t.Fatalf("%q, %v", line, err)
				}
			}
			ended := make(chan struct{})
			go func() { e.underWay.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Error("it is still open")
			}
		})
	}
}
