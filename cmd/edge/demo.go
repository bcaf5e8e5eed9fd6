package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"edge/config"
	"edge/internal/demo"
	edgetls "edge/tls"
)

//go:embed demo.yaml.tmpl
var demoConfig string

//go:embed demo.txt.tmpl
var demoText string

func demoCommand() *cobra.Command {
	var d demonstration
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Three sample applications behind an edge, to try it",
		Long: `Serve three sample applications (personnel, activity tracking, timesheets) on
loopback, with an edge in front of them on https://127.0.0.1:8443 and a local
certificate authority, and say what to try. Its configuration and records are
left in --dir, to look at.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return d.run(cmd.Context(), newLogger(os.Stderr))
		},
	}
	cmd.Flags().StringVar(&d.HTTPS, "listen", "127.0.0.1:8443", "the address of the edge")
	cmd.Flags().StringVar(&d.Dir, "dir", demoDir(), "where its files are kept")
	return cmd
}

// demonstration is what the templates are filled with.
type demonstration struct {
	out   io.Writer
	HTTPS string // the edge's address
	Port  string
	Dir   string
	Root  string // the CA's certificate
	Cert  config.CertFile
	Apps  []demoApp
	Edge  string // how to call this program
	State string // how to tell it where the records are
}

type demoApp struct {
	demo.App
	Upstream string
}

// run starts the applications, writes an ordinary configuration for them, and
// then is "edge run".
func (d *demonstration) run(ctx context.Context, logger *zap.Logger) error {
	for _, app := range demo.Apps() {
		upstream, err := serveApp(ctx, app.Handler)
		if err != nil {
			return fmt.Errorf("sample application %s: %w", app.Name, err)
		}
		d.Apps = append(d.Apps, demoApp{app, upstream})
	}
	dir, err := filepath.Abs(d.Dir)
	if err != nil {
		return err
	}
	if d.Dir = dir; dir != demoDir() {
		d.State = fmt.Sprintf(" --state %q", dir)
	}
	ca, err := edgetls.OpenLocalCA(filepath.Join(d.Dir, "ca"))
	if err != nil {
		return err
	}
	var hosts []string
	for _, app := range d.Apps {
		hosts = append(hosts, app.Name+".localhost", "*."+app.Name+".localhost")
	}
	if d.Cert, err = ca.Issue("edge", hosts...); err != nil {
		return err
	}
	d.Root, d.Edge = ca.Root(), programName()
	path := filepath.Join(d.Dir, "edge.yaml")
	if err := d.write(path); err != nil {
		return err
	}
	return run(ctx, path, logger, func(addr net.Addr) {
		_, d.Port, _ = net.SplitHostPort(addr.String())
		_ = template.Must(template.New("").Parse(demoText)).Execute(d.out, d)
	})
}

func (d *demonstration) write(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := template.Must(template.New("").Parse(demoConfig)).Execute(f, d); err != nil {
		return err
	}
	return f.Close()
}

// serveApp serves h on loopback until ctx ends, and says where.
func serveApp(ctx context.Context, h http.Handler) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(l) }() // ends with Close
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	return (&url.URL{Scheme: "http", Host: l.Addr().String()}).String(), nil
}

// programName is how a person calls this program again: by its path, or, when
// "go run" built it into a place that will be gone, by that.
func programName() string {
	if path, err := os.Executable(); err == nil && filepath.Base(filepath.Dir(path)) == "exe" {
		return "go run ./cmd/edge"
	}
	return os.Args[0]
}
