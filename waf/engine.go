// Package waf inspects requests and responses with the OWASP Core Rule Set
// through Coraza. It owns both: no type of theirs leaves the package.
//
// An [Engine] is one compiled policy, a [Transaction] one request under
// inspection. Coraza's transaction is driven here directly and not through its
// HTTP middleware, so that it sees a parsed client address and the request
// target as it was sent, so that every way a request can end has an explicit
// answer, and so that nothing wraps the ResponseWriter.
//
// Engines are expensive (some 20 MB and a third of a second), policies few:
// [Engines] hands the same engine to everyone whose policy is the same.
package waf

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/types"

	"edge/rules"
)

// Engine is a compiled policy. It is immutable and safe for concurrent use.
type Engine struct {
	waf    coraza.WAF
	policy policy
	scores map[int]score // by rule; rules that add no points are not in it

	owner *Engines
	users int // guarded by owner.mu
}

// score is what a match of a rule adds, from a paranoia level on.
type score struct{ points, level int }

// Engines compiles policies and shares the result. The zero value is ready.
type Engines struct {
	mu      sync.Mutex
	engines map[string]*Engine // by policy key
}

// Get returns the engine for w's policy, compiling it if nobody has it yet. The
// caller releases it when done. A policy that cannot be compiled is an error,
// never a panic.
func (s *Engines) Get(w rules.WAF) (*Engine, error) {
	p, err := newPolicy(w)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.engines[p.key]
	if !ok {
		if e, err = compile(p); err != nil {
			return nil, err
		}
		e.owner = s
		if s.engines == nil {
			s.engines = map[string]*Engine{}
		}
		s.engines[p.key] = e
	}
	e.users++
	return e, nil
}

// Len is the number of engines in use.
func (s *Engines) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.engines)
}

// Size is one engine in use.
type Size struct {
	Rules    int `json:"rules"`    // of all phases
	Users    int `json:"users"`    // apps whose policy it is
	Paranoia int `json:"paranoia"` // its blocking level
}

// Sizes describes the engines in use.
func (s *Engines) Sizes() []Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	sizes := []Size{}
	for _, e := range s.engines {
		size := Size{Users: e.users, Paranoia: e.policy.Paranoia}
		if counter, ok := e.waf.(experimental.WAFWithRules); ok {
			size.Rules = counter.RulesCount()
		}
		sizes = append(sizes, size)
	}
	slices.SortFunc(sizes, func(a, b Size) int { return cmp.Or(cmp.Compare(b.Users, a.Users), cmp.Compare(b.Rules, a.Rules)) })
	return sizes
}

// Release gives the engine back. The last user's Release frees it.
func (e *Engine) Release() {
	e.owner.mu.Lock()
	defer e.owner.mu.Unlock()
	if e.users--; e.users > 0 {
		return
	}
	delete(e.owner.engines, e.policy.key)
	if c, ok := e.waf.(io.Closer); ok {
		_ = c.Close() // it only forgets cached expressions, and reports no errors
	}
}

// compile builds the engine of p and tries it out. Coraza panics on some rule sets it cannot
// take; that must not end a process that has a working policy.
func compile(p policy) (e *Engine, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("compile rules: %v", r)
		}
	}()
	registerActions()
	e = &Engine{policy: p, scores: map[int]score{}}
	cfg := coraza.NewWAFConfig().WithRootFS(p.files).WithDirectives(p.directives + p.include)
	e.waf, err = coraza.NewWAF(experimental.WAFConfigWithRuleObserver(cfg, e.learn))
	if err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	if len(p.Exclusions) > 0 { // which may be from one of the rules that are tested
		return e, nil
	}
	if err := e.selfTest(); err != nil {
		return nil, err
	}
	return e, nil
}

// learn notes how many points a rule adds when it matches, and from which
// paranoia level on: every rule of the rule set that has a severity and is not
// bookkeeping. (The action that adds them may be in the last link of a chain,
// which is not shown here.)
func (e *Engine) learn(r types.RuleMetadata) {
	points := map[types.RuleSeverity]int{
		types.RuleSeverityCritical: 5, types.RuleSeverityError: 4, types.RuleSeverityWarning: 3, types.RuleSeverityNotice: 2,
	}[r.Severity()]
	if points == 0 || !slices.Contains(r.Tags(), "OWASP_CRS") || bookkeeping(r.ID()) {
		return
	}
	e.scores[r.ID()] = score{points, level(r.Tags())}
}

// bookkeeping says that a rule only counts what others have found.
func bookkeeping(id int) bool {
	return slices.Contains([]int{901, 905, 949, 959, 980, 999}, id/1000)
}

// level is the paranoia level a rule belongs to.
func level(tags []string) int {
	for _, tag := range tags {
		if n, ok := strings.CutPrefix(tag, "paranoia-level/"); ok {
			level, _ := strconv.Atoi(n) // the tags are the rule set's own
			return level
		}
	}
	return 1
}
