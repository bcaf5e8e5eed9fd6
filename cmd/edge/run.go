package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"edge/admin"
	"edge/blocklog"
	"edge/config"
	"edge/listen"
	"edge/overload"
	"edge/proxy"
	"edge/ratelimit"
)

const (
	// drainTimeout is how long requests under way may take once the edge is told to stop.
	drainTimeout = 20 * time.Second
	// recordTimeout is how long requests that were cut off may take to be recorded.
	recordTimeout = 5 * time.Second
	// reservedFiles is how many open files are left to logs, rules and whatever else.
	reservedFiles = 100
	// limitBuckets is how many rate limit buckets are remembered, some 100 MB when all are used.
	limitBuckets = 250_000
)

func runCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve until told to stop",
		Long: `Serve the applications of the configuration until SIGINT or SIGTERM, then finish
the requests under way (20 s at most) and exit. The configuration is read again
when one of its files changes, and on SIGHUP; one that is wrong is not used.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), path, newLogger(os.Stderr), nil)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "the configuration")
	return cmd
}

// run is the edge: it builds the house from the configuration at path, serves
// until ctx ends, and leaves nothing unfinished. ready, if not nil, is called
// once connections are accepted.
func run(ctx context.Context, path string, logger *zap.Logger, ready func(addr net.Addr)) (err error) {
	// What the operator wrote.
	shared := &shared{}
	seen, _ := fingerprint(path)
	l, err := load(path, shared, 1)
	if err != nil {
		return err
	}

	// What outlives every reload.
	records, err := openRecords(l.config, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	spool, err := proxy.NewSpool(l.config.State.SpoolDir(), int64(l.config.State.Spool))
	if err != nil {
		return err
	}
	limits := ratelimit.NewMemory(limitBuckets)

	// The rooms a request goes through, and those who look after them.
	board := newBoard()
	control := newControl(board, shared, records, spool)
	edge := proxy.New(l.snapshot, limits, spool, records, control.Observe, logger)
	server := listen.New(edge, l.certs.Config(), connections(l.config.Listen, edge, logger), logger)
	server.Believe(l.config.Listen.ProxyProtocol)
	board.connections, board.crowd = server.Figures, edge.Crowd()
	board.busy = edge.Load
	showConnections(control, server)
	showLoad(control, edge, server)
	reload := newReloader(path, shared, l, seen, edge, board, logger)

	public, private, err := sockets(l.config.Listen)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer func() { stop(); background.Wait() }()
	background.Go(func() { reload.run(ctx) })
	background.Go(func() { onHangup(ctx, reload.ask) })
	if private != nil {
		background.Go(func() { _ = control.Serve(private) }) // ends with Close
		defer func() { err = errors.Join(err, control.Close()) }()
	}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(public) }()
	announce(logger, l, shared, public, private)
	if ready != nil {
		ready(public.Addr())
	}

	select {
	case <-ctx.Done():
	case err := <-serving:
		return errors.Join(fmt.Errorf("listen.https: %w", err), public.Close())
	}
	logger.Info("stopping", zap.Stringer("at_most", drainTimeout))
	control.Stopping()
	return errors.Join(public.Close(), drain(server, edge, logger), <-serving)
}

func openRecords(c *config.Config, logger *zap.Logger) (*blocklog.Log, error) {
	keep := blocklog.Keep{MaxSize: int64(c.Log.MaxSize), MaxTotal: int64(c.Log.MaxTotal), MaxAge: time.Duration(c.Log.MaxAge), MaxPerClient: c.Log.MaxPerClient}
	return blocklog.Open(c.State.LogDir(), keep, logger)
}

// newControl is the admin port and the figures it shows.
func newControl(b *board, s *shared, records *blocklog.Log, spool *proxy.Spool) *admin.Server {
	control := admin.New(func() any { return b.read(records.Lost()) })
	control.Gauge("edge_generation", "Which load of the configuration is in force.", func() float64 { return float64(b.read(0).Generation) })
	control.Gauge("edge_waf_engines", "WAF engines in use.", func() float64 { return float64(s.engines.Len()) })
	control.Gauge("edge_log_lines_lost", "Log lines that could not be written.", func() float64 { return float64(records.Lost()) })
	control.Figures("edge_records_left_out_total", "Refused requests that were not recorded because there were too many of their client.", true, nil, func(emit func(float64, ...string)) { emit(float64(records.LeftOut())) })
	control.Gauge("edge_spool_bytes", "Bytes of request bodies held in files.", func() float64 { return float64(spool.Used()) })
	control.Gauge("edge_collapsed_peers", "Peers that seem to be proxies missing in client_ip.trusted_proxies.", func() float64 { return float64(len(b.read(0).Collapsed)) })
	return control
}

// connections is how many may be open: what the configuration says, and no more than
// there can be files, of which a request that is forwarded takes two.
func connections(c config.Listen, edge *proxy.Server, logger *zap.Logger) listen.Limits {
	limits := listen.Limits{Total: c.MaxConnections, PerClient: c.MaxConnectionsPerClient, Exempt: edge.Trusts}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return limits
	}
	if most := max(16, (int(min(files.Cur, 1<<30))-reservedFiles)/2); most < limits.Total {
		logger.Warn("the limit on open files is low", zap.Uint64("open_files", files.Cur), zap.Int("connections_wanted", limits.Total), zap.Int("connections", most))
		limits.Total = most
	}
	return limits
}

// showConnections registers the figures of the public port.
func showConnections(control *admin.Server, server *listen.Server) {
	control.Gauge("edge_connections", "Connections that are open.", func() float64 { return float64(server.Figures().Open) })
	control.Figures("edge_connections_refused_total", "Connections closed at once because there were too many, in all or of one client.", true, []string{"why"}, func(emit func(float64, ...string)) {
		f := server.Figures()
		emit(float64(f.Refused), "total")
		emit(float64(f.Crowded), "client")
	})
	control.Figures("edge_handshakes_failed_total", "TLS handshakes that failed.", true, nil, func(emit func(float64, ...string)) { emit(float64(server.Figures().Handshakes)) })
}

// showLoad has the metrics show who is busy, and what HTTP/2 clients did wrong.
func showLoad(control *admin.Server, edge *proxy.Server, server *listen.Server) {
	type emit = func(value float64, labels ...string)
	each := func(figure func(overload.Stats) float64) func(emit) {
		return func(emit emit) {
			for gate, s := range edge.Load() {
				emit(figure(s), gate)
			}
		}
	}
	gate := []string{"gate"}
	control.Figures("edge_load_in_use", "Requests under way by app, and inspections under way.", false, gate, each(func(s overload.Stats) float64 { return float64(s.InUse) }))
	control.Figures("edge_load_waiting", "Requests and inspections that wait for a place.", false, gate, each(func(s overload.Stats) float64 { return float64(s.Waiting) }))
	control.Figures("edge_load_refused_total", "Requests and inspections there was no place for.", true, gate, each(func(s overload.Stats) float64 { return float64(s.Refused) }))
	control.Figures("edge_http2_faults_total", "What HTTP/2 clients did against the protocol, in the words of net/http.", true, []string{"what"}, func(emit emit) {
		for what, n := range server.HTTP2Faults() {
			emit(float64(n), what)
		}
	})
}

// sockets opens the public port and, unless it is off, the admin port.
func sockets(c config.Listen) (public, private net.Listener, err error) {
	if public, err = net.Listen("tcp", c.HTTPS); err != nil {
		return nil, nil, fmt.Errorf("listen.https: %w", err)
	}
	if c.Admin == "off" {
		return public, nil, nil
	}
	if private, err = net.Listen("tcp", c.Admin); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("listen.admin: %w", err), public.Close())
	}
	return public, private, nil
}

// announce says where the edge is and what it serves.
func announce(logger *zap.Logger, l *loaded, s *shared, public, private net.Listener) {
	adminAddr := "off"
	if private != nil {
		adminAddr = private.Addr().String()
	}
	logger.Info("serving",
		zap.Stringer("https", public.Addr()), zap.String("admin", adminAddr), zap.Int("apps", len(l.config.Apps)),
		zap.Int("engines", s.engines.Len()), zap.String("records", l.config.State.LogDir()), zap.Time("certificates_until", l.certs.Expires()))
}

// drain lets requests under way finish, cuts what is left, and waits until it
// has been recorded.
func drain(server *listen.Server, edge *proxy.Server, logger *zap.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if server.Shutdown(ctx) {
		logger.Warn("requests were cut off", zap.Stringer("after", drainTimeout))
	}
	ctx, cancel = context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	if err := edge.Wait(ctx); err != nil {
		return fmt.Errorf("requests that do not end: %w", err)
	}
	return nil
}

// onHangup calls f at every SIGHUP until ctx ends.
func onHangup(ctx context.Context, f func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			f()
		}
	}
}

// newLogger writes lines for people to a terminal and JSON to anything else.
func newLogger(to *os.File) *zap.Logger {
	level := zap.InfoLevel
	if !term.IsTerminal(int(to.Fd())) {
		c := zap.NewProductionEncoderConfig()
		c.TimeKey, c.EncodeTime = "@timestamp", zapcore.RFC3339NanoTimeEncoder
		return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(c), zapcore.Lock(to), level))
	}
	c := zap.NewDevelopmentEncoderConfig()
	c.EncodeLevel = zapcore.CapitalColorLevelEncoder
	c.EncodeTime = zapcore.TimeEncoderOfLayout(time.TimeOnly)
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(c), zapcore.Lock(to), level))
}
