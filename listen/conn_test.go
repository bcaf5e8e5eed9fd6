package listen

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"edge/config"
	edgetls "edge/tls"
)

// A head has its time from its first byte, also where that came behind the message
// before, in one piece with it.
func TestHeadTime(t *testing.T) {
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
	const whole, part = "GET / HTTP/1.1\r\nHost: hr.test\r\n\r\n", "GET /b HTTP/1.1\r\nHo"
	for name, pieces := range map[string][]string{"first": {part}, "second": {whole, part}, "in_one_piece": {whole + part}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				c := &conn{Conn: tls.Server(near, certs.Config())}
				client := tls.Client(far, &tls.Config{ServerName: "hr.test", InsecureSkipVerify: true}) // the clock is that of the test
				go func() {
					for _, piece := range pieces {
						_, _ = io.WriteString(client, piece)
					}
				}()
				_ = c.SetReadDeadline(time.Now().Add(idleTimeout))
				begun, buf := time.Now(), make([]byte, 4<<10)
				for c.refused.Load() == nil {
					if _, err := c.Read(buf); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(begun); took != headerTimeout {
					t.Errorf("it was refused after %s", took)
				}
				_, _ = near.Close(), far.Close()
			})
		})
	}
}
