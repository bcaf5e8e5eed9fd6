package proxy

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"edge/access"
	"edge/blocklog"
	"edge/config"
	"edge/internal/strictyaml"
	"edge/rules"
	"edge/waf"
)

// Snapshot is everything compiled from one load of the configuration. It is
// immutable; a request is judged by one snapshot from beginning to end. It holds
// on to its engines until it has been replaced and its last request is over.
type Snapshot struct {
	uses       atomic.Int64 // requests under way, and one for being the current snapshot
	generation uint64
	exact      map[string]*app
	wild       map[string]*app // by what follows "*."
	redact     blocklog.Redactor
	origin     Origin
	engines    []*waf.Engine // to be released with the snapshot
}

// app is a compiled config.App.
type app struct {
	name     string
	upstream *balancer
	tenant   config.Tenant
	access   *access.Policy
	limits   []rules.RateLimit
	uploads  []rules.Upload
	mode     rules.Mode
	waf      *waf.Engine // nil when the mode is off
	maxBody  strictyaml.Size
	http     config.HTTP
	methods  []string // that it takes, and the media types of bodies
	types    []string

	concurrency  config.Concurrency
	idle         time.Duration // how long the application may pause within an answer
	readsAnswers bool          // bodies of answers are held and inspected
}

// Compile builds the snapshot of a configuration and the rules of its apps, by
// app name; policies are what the access rules of each come to. Engines and connections are shared with whatever else uses the same
// ones. On an error nothing is kept.
func Compile(c *config.Config, sets map[string]rules.Set, policies map[string]*access.Policy,
	engines *waf.Engines, pools *Pools, generation uint64) (*Snapshot, error) {
	snap := &Snapshot{
		generation: generation,
		exact:      map[string]*app{}, wild: map[string]*app{},
		redact: blocklog.NewRedactor(c.Log.Redact), origin: NewOrigin(c.ClientIP),
	}
	snap.uses.Store(1)
	var errs []error
	for _, a := range c.Apps {
		if err := snap.add(a, sets[a.Name], policies[a.Name], engines, pools); err != nil {
			errs = append(errs, fmt.Errorf("app %q: %w", a.Name, err))
		}
	}
	if len(errs) > 0 {
		snap.Close()
		return nil, errors.Join(errs...)
	}
	return snap, nil
}

func (s *Snapshot) add(c config.App, set rules.Set, policy *access.Policy, engines *waf.Engines, pools *Pools) error {
	upstream, err := pools.balancer(c.Upstream)
	if err != nil {
		return err
	}
	a := &app{
		name: c.Name, upstream: upstream, tenant: c.Tenant, access: policy,
		limits: set.RateLimits, uploads: set.Uploads, mode: set.WAF.Mode, maxBody: c.MaxBody, http: c.HTTP, methods: set.WAF.Methods, types: set.WAF.ContentTypes,
		concurrency:  c.Concurrency,
		idle:         time.Duration(c.Upstream.IdleTimeout),
		readsAnswers: set.WAF.Mode == rules.Block && len(set.WAF.Responses.Inspect) > 0,
	}
	if a.mode != rules.Off {
		engine, err := engines.Get(set.WAF)
		if err != nil {
			return err
		}
		a.waf = engine
		s.engines = append(s.engines, engine)
	}
	for _, h := range c.Hosts {
		if name, ok := strings.CutPrefix(h, "*."); ok {
			s.wild[name] = a
		} else {
			s.exact[h] = a
		}
	}
	return nil
}

// Generation numbers the load the snapshot comes from.
func (s *Snapshot) Generation() uint64 { return s.generation }

// Close gives up one use of the snapshot; the last one releases what it shares.
func (s *Snapshot) Close() {
	if s.uses.Add(-1) > 0 {
		return
	}
	for _, e := range s.engines {
		e.Release()
	}
}

// acquire takes one more use, unless there is none left.
func (s *Snapshot) acquire() bool {
	for {
		n := s.uses.Load()
		if n <= 0 {
			return false
		}
		if s.uses.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// find returns the app that answers to a canonical host, an exact name first, then
// the longest wildcard, and the label in front of what the wildcard stands for.
func (s *Snapshot) find(host string) (a *app, subdomain string) {
	if a := s.exact[host]; a != nil {
		return a, ""
	}
	for rest := host; ; {
		label, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return nil, ""
		}
		if a := s.wild[parent]; a != nil {
			return a, label
		}
		rest = parent
	}
}

// findTenant returns the label of the tenant x asks for, by what the app says
// names it. subdomain is what find returned. A header counts only where a
// trusted proxy sent it.
func (x *exchange) findTenant(subdomain string, viaProxy bool) string {
	t := x.app.tenant
	switch t.From {
	case config.Fixed:
		return t.Name
	case config.Path:
		first, _, _ := strings.Cut(strings.TrimPrefix(x.target.Path, "/"), "/")
		return t.Label(first)
	case config.Header:
		if !viaProxy {
			return ""
		}
		return t.Label(x.r.Header.Get(t.Header))
	}
	return t.Label(subdomain)
}
