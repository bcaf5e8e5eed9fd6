package main_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// allowed are the cases of h2spec that fail, and why that does no harm. The list
// may only shrink: one of them that passes is a failure. docs/h2spec.md says more.
var allowed = map[string]string{
	"http2/6.5.3/1":   "a SETTINGS frame with the same parameter twice cuts the connection, rather than the last value counting",
	"http2/8.1.2.2/1": "a connection-specific header is answered with 400, not with a stream error",
	"http2/8.1.2.2/2": "a TE header other than trailers is answered with 400, not with a stream error",
}

// The edge speaks HTTP/2 as h2spec has it. Its own runner prints and keeps state
// in globals; the cases are run here, many at once, because they mostly wait.
func TestH2Spec(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "Ordinary words.\n")
	}))
	t.Cleanup(app.Close)
	e := startH2(t, app.URL, "block")
	_, port, err := net.SplitHostPort(e.addr)
	if err != nil {
		t.Fatal(err)
	}
	conf := &config.Config{Host: "localhost", Path: "/", Timeout: 5 * time.Second, MaxHeaderLen: 4000, TLS: true, Insecure: true}
	conf.Port, _ = strconv.Atoi(port) // net gave it out
	var running sync.WaitGroup
	slots := make(chan struct{}, 16)
	cases := 0
	for _, root := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		for id, c := range specCases(root) {
			cases++
			running.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				judgeSpec(t, id, c.Desc, runSpec(conf, c))
			})
		}
	}
	running.Wait()
	if cases != 146 {
		t.Errorf("%d cases", cases)
	}
}

// specCases are the cases of a group and of those below it, by section and number.
func specCases(g *spec.TestGroup) map[string]*spec.TestCase {
	all := map[string]*spec.TestCase{}
	if g.Strict {
		return all
	}
	for i, c := range g.Tests {
		all[fmt.Sprintf("%s/%d", g.ID(), i+1)] = c
	}
	for _, below := range g.Groups {
		for id, c := range specCases(below) {
			all[id] = c
		}
	}
	return all
}

func runSpec(conf *config.Config, c *spec.TestCase) error {
	conn, err := spec.Dial(conf)
	if err != nil {
		return err
	}
	defer conn.Close()
	return c.Run(conf, conn)
}

func judgeSpec(t *testing.T, id, about string, err error) {
	_, may := allowed[id]
	var failed *spec.TestError
	switch {
	case err == nil && may:
		t.Errorf("%s passes, take it off the list: %s", id, about)
	case errors.Is(err, spec.ErrSkipped):
		t.Errorf("%s was skipped: %s", id, about)
	case err != nil && !may:
		t.Errorf("%s: %s: %v", id, about, err)
	case err != nil && !errors.As(err, &failed):
		t.Errorf("%s did not run: %v", id, err)
	}
}
