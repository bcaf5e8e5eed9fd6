// Command bare is what the edge is measured against: net/http over TLS with nothing
// around it, answering by itself or, given the URL of an application, as a plain
// reverse proxy.
//
//	bare CERTIFICATE KEY [URL]
//
// It says where it listens as the edge does, and serves until it is told to stop.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	h := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }))
	if len(args) > 2 {
		u, err := url.Parse(args[2])
		if err != nil {
			return err
		}
		h = &httputil.ReverseProxy{
			Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
			Rewrite:   func(pr *httputil.ProxyRequest) { pr.SetURL(u); pr.SetXForwarded() },
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	fmt.Fprintf(os.Stderr, "{\"https\":%q}\n", l.Addr())
	if err := srv.ServeTLS(l, args[0], args[1]); err != http.ErrServerClosed {
		return err
	}
	return nil
}
