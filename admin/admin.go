// Package admin is what an edge says about itself to those who run it: health,
// status and metrics, on a loopback port, read only.
//
//	/healthz   200 while the process lives
//	/readyz    200 while it serves; 503 when it has been told to stop
//	/status    JSON: what is loaded, since when, and what went wrong last
//	/metrics   Prometheus
//
// It knows none of the rooms it reports on: it is handed a function for the
// status and told of every request. Labels are names from the configuration and
// words of ours, never anything a client chose.
package admin

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"edge/blocklog"
)

// Server is the admin port.
type Server struct {
	http     *http.Server
	stopping atomic.Bool
	registry *prometheus.Registry

	requests  *prometheus.CounterVec
	decisions *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
}

// New returns a Server that shows what status returns, encoded as JSON.
func New(status func() any) *Server {
	s := &Server{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "edge_requests_total", Help: "Requests, by app and by the status their client was told.",
		}, []string{"app", "code"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "edge_decisions_total", Help: "Decisions other than to pass, by app, stage, reason and action.",
		}, []string{"app", "stage", "reason", "action"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "edge_request_duration_seconds", Help: "Time from the head of a request to the end of its answer, by app.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"app"}),
	}
	s.registry.MustRegister(s.requests, s.decisions, s.seconds,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.stopping.Load() {
			say(w, http.StatusServiceUnavailable, "stopping")
			return
		}
		say(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(status()) // whoever asked has gone
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	s.http = &http.Server{Handler: localOnly(mux), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	return s
}

// Gauge registers a figure that is read when somebody asks.
func (s *Server) Gauge(name, help string, read func() float64) {
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Figures registers figures that are read when somebody asks, one for each set of
// labels: read calls emit for each of them, with one value per label. counter
// says that they only ever grow. Labels must have few values, and none of clients'
// making.
func (s *Server) Figures(name, help string, counter bool, labels []string, read func(emit func(value float64, labels ...string))) {
	kind := prometheus.GaugeValue
	if counter {
		kind = prometheus.CounterValue
	}
	s.registry.MustRegister(figures{prometheus.NewDesc(name, help, labels, nil), kind, read})
}

// figures implements prometheus.Collector.
type figures struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(emit func(value float64, labels ...string))
}

func (f figures) Describe(to chan<- *prometheus.Desc) { to <- f.desc }

func (f figures) Collect(to chan<- prometheus.Metric) {
	f.read(func(value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
	})
}

// Observe counts a request and what was decided about it.
func (s *Server) Observe(e *blocklog.Event, decisions []blocklog.Decision) {
	app := e.Edge.App
	if app == "" {
		app = "none"
	}
	s.requests.WithLabelValues(app, strconv.Itoa(e.HTTP.Response.Status)).Inc()
	s.seconds.WithLabelValues(app).Observe(e.Event.Duration.Seconds())
	for _, d := range decisions {
		s.decisions.WithLabelValues(app, string(d.Stage), string(d.Reason), string(d.Action)).Inc()
	}
}

// Serve answers on l until Close.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Stopping makes /readyz say so.
func (s *Server) Stopping() { s.stopping.Store(true) }

// Close ends Serve.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.http.Shutdown(ctx)
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // whoever asked has gone
}

// localOnly refuses requests for any name but this machine's own: a page on the
// internet can make a browser here ask for a name of its own that leads here.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "localhost" && (err != nil || !addr.IsLoopback()) {
			say(w, http.StatusMisdirectedRequest, "ask for localhost")
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
