package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"edge/internal/strictyaml"
)

// Tenant says how the customer company behind a request is found.
type Tenant struct {
	// From is where its name is: subdomain (default), the label in front of what a
	// wildcard host stands for; path, the first segment; header, which counts only
	// where a trusted proxy sent it; or fixed.
	From TenantSource `yaml:"from"`
	// Header is the name of the header.
	Header string `yaml:"header"`
	// Name is the fixed name.
	Name string `yaml:"name"`
	// Known are the tenants there are. Every other name is recorded and counted
	// as "other", because clients choose the names they send.
	Known []string `yaml:"known"`
	// Pattern is a regular expression for the whole name of further known tenants,
	// for when there are too many to list. It should match few strings.
	Pattern Regexp `yaml:"pattern"`
}

// TenantSource is where the name of a tenant is.
type TenantSource string

// The sources.
const (
	Subdomain TenantSource = "subdomain"
	Path      TenantSource = "path"
	Header    TenantSource = "header"
	Fixed     TenantSource = "fixed"
)

// UnmarshalText accepts exactly the sources there are.
func (s *TenantSource) UnmarshalText(text []byte) error {
	return strictyaml.OneOf(s, text, "source", Subdomain, Path, Header, Fixed)
}

// Regexp is a regular expression that has to match a whole text.
type Regexp struct{ *regexp.Regexp }

// UnmarshalText compiles it.
func (r *Regexp) UnmarshalText(text []byte) (err error) {
	r.Regexp, err = regexp.Compile(`^(?:` + string(text) + `)$`)
	return err
}

// OtherTenant is what every tenant is called that is not known.
const OtherTenant = "other"

// Label is what a tenant called name is recorded as: its name if it is known. No
// name at all is no tenant.
func (t Tenant) Label(name string) string {
	name = strings.ToLower(name)
	switch {
	case name == "" || slices.Contains(t.Known, name):
		return name
	case len(name) <= 63 && t.Pattern.Regexp != nil && t.Pattern.MatchString(name):
		return name
	}
	return OtherTenant
}

func (t *Tenant) check(doc *strictyaml.Document, path string, trusted bool) {
	for j, k := range t.Known {
		if !nameForm.MatchString(k) || slices.Contains(t.Known[:j], k) {
			doc.Faultf(fmt.Sprintf("%s.known[%d]", path, j), "tenant.known: %q is no name, or is there twice", k)
		}
	}
	switch {
	case t.From == Header && (t.Header == "" || !trusted):
		doc.Faultf(path, "tenant: a header names a tenant only where a trusted proxy sends it; say which with header: and client_ip.trusted_proxies:")
	case t.From == Fixed && !nameForm.MatchString(t.Name):
		doc.Faultf(path, "tenant: the fixed tenant needs a name: of a-z, 0-9 and -")
	}
}
