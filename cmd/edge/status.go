package main

import (
	"runtime/debug"
	"sync"
	"time"

	"edge/listen"
	"edge/overload"
	"edge/proxy"
	"edge/rules"
	"edge/waf"
)

// status is what /status shows.
type status struct {
	Version     string     `json:"version"`
	Started     time.Time  `json:"started"`
	Generation  uint64     `json:"generation"`
	Loaded      time.Time  `json:"loaded"`                 // when that generation was
	ReloadError string     `json:"reload_error,omitempty"` // of the last load, if it failed
	Engines     []waf.Size `json:"engines"`
	LinesLost   uint64     `json:"log_lines_lost"`
	CertsUntil  time.Time  `json:"certificates_until"`

	Connections listen.Figures    `json:"connections"`
	Collapsed   []proxy.Suspicion `json:"collapsed"` // peers that seem to be proxies nobody trusts

	Load map[string]overload.Stats `json:"load"` // requests under way by app, and inspections

	Apps []appStatus `json:"apps"`
}

type appStatus struct {
	Name     string     `json:"name"`
	Hosts    []string   `json:"hosts"`
	Upstream string     `json:"upstream"`
	Mode     rules.Mode `json:"waf_mode"`
	Paranoia int        `json:"paranoia"`
	Limits   int        `json:"rate_limits"`
}

// board is where the reloader writes what is in force and /status reads it.
type board struct {
	mu sync.Mutex
	s  status

	connections func() listen.Figures // set before anybody reads
	crowd       *proxy.Crowd          // likewise
	busy        func() map[string]overload.Stats
}

// load writes what l holds, in force from now on.
func (b *board) load(l *loaded, engines []waf.Size) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Generation, b.s.Loaded, b.s.ReloadError, b.s.Engines = l.snapshot.Generation(), time.Now().UTC(), "", engines
	b.s.CertsUntil = l.certs.Expires()
	b.s.Apps = nil
	for _, a := range l.config.Apps {
		set := l.sets[a.Name]
		b.s.Apps = append(b.s.Apps, appStatus{
			Name: a.Name, Hosts: a.Hosts, Upstream: a.Upstream.String(), Mode: set.WAF.Mode, Paranoia: set.WAF.Paranoia, Limits: len(set.RateLimits),
		})
	}
}

// fail writes why the last load was not used.
func (b *board) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.ReloadError = err.Error()
}

// read returns the whole, with lost log lines as they are now.
func (b *board) read(lost uint64) status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.s
	s.LinesLost = lost
	if b.connections != nil {
		s.Connections = b.connections()
	}
	if b.crowd != nil {
		s.Collapsed = b.crowd.Collapsed()
	}
	if b.busy != nil {
		s.Load = b.busy()
	}
	return s
}

func newBoard() *board {
	b := &board{s: status{Started: time.Now().UTC(), Version: "unknown"}}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.s.Version = info.Main.Version
	}
	return b
}
