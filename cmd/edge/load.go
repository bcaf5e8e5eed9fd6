package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"edge/access"
	"edge/config"
	"edge/proxy"
	"edge/rules"
	edgetls "edge/tls"
	"edge/waf"
)

// loaded is everything the operator wrote, read, checked and compiled.
type loaded struct {
	config   *config.Config
	sets     map[string]rules.Set      // by app
	policies map[string]*access.Policy // of addresses, by app
	certs    *edgetls.Manager
	snapshot *proxy.Snapshot
}

// shared is what loads have in common: what is expensive and outlives them.
type shared struct {
	engines waf.Engines
	pools   proxy.Pools
	lists   access.Lists
}

// load reads the configuration at path and all it refers to. Its error joins
// everything that is wrong, wherever it is.
func load(path string, s *shared, generation uint64) (*loaded, error) {
	c, err := config.Load(path)
	if c == nil {
		return nil, withCode{exitConfig, err}
	}
	errs := []error{err, c.Missing()}
	sets, err := loadRules(c)
	errs = append(errs, err)
	policies, err := s.lists.Load(c, sets)
	errs = append(errs, err)
	certs, err := edgetls.Load(c.TLS.Files)
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, uncovered(c, certs))
	}
	if err := faults(errs); err != nil {
		return nil, withCode{exitConfig, err}
	}
	snap, err := proxy.Compile(c, sets, policies, &s.engines, &s.pools, generation)
	if err != nil {
		return nil, withCode{exitConfig, err}
	}
	return &loaded{c, sets, policies, certs, snap}, nil
}

// faults joins errors, each line once, and not again without its place: two apps
// may use one file, and one that is missing is missed by everybody.
func faults(errs []error) error {
	var lines []string
	if err := errors.Join(errs...); err != nil {
		lines = strings.Split(err.Error(), "\n")
	}
	var once []error
	for i, line := range lines {
		said := slices.Contains(lines[:i], line) ||
			slices.ContainsFunc(lines, func(other string) bool { return strings.HasSuffix(other, ": "+line) })
		if !said {
			once = append(once, errors.New(line))
		}
	}
	return errors.Join(once...)
}

// uncovered names the hosts that no certificate is for.
func uncovered(c *config.Config, certs *edgetls.Manager) error {
	var errs []error
	for i, a := range c.Apps {
		for j, h := range a.Hosts {
			if !certs.Covers(h) {
				errs = append(errs, c.Fault(fmt.Sprintf("apps[%d].hosts[%d]", i, j), "hosts: no certificate in tls.files is for %s", h))
			}
		}
	}
	return errors.Join(errs...)
}
