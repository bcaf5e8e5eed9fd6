// Package rules is what the operator wrote about traffic: the rules files an
// app names in edge.yaml. It owns their schema, strict loading, how several
// files combine, and [Match], the one way in which rules say which requests
// they are about.
package rules

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"

	"edge/internal/strictyaml"
)

// File is one rules file.
type File struct {
	// WAF sets the web application firewall. What a file leaves out it does not change.
	WAF WAF `yaml:"waf"`
	// RateLimits say how fast requests may come.
	RateLimits []RateLimit `yaml:"rate_limits"`
}

// WAF is how requests are inspected with the OWASP Core Rule Set.
type WAF struct {
	// Mode is block (default), detect, which records what block would have
	// refused and changes nothing, or off.
	Mode Mode `yaml:"mode"`
	// Paranoia is the CRS blocking paranoia level, 1 (default) to 4. Higher finds
	// more attacks and more that are none.
	Paranoia int `yaml:"paranoia"`
	// DetectionParanoia runs rules up to this level without their score counting.
	// Default: the same as paranoia.
	DetectionParanoia int `yaml:"detection_paranoia"`
	// Thresholds are the anomaly scores at which a request or response is refused.
	Thresholds Thresholds `yaml:"thresholds"`
}

// Thresholds are CRS anomaly scores. A critical match is 5 points, an error 4, a
// warning 3, a notice 2.
type Thresholds struct {
	// Inbound is for requests. Default 5.
	Inbound int `yaml:"inbound"`
	// Outbound is for responses. Default 4.
	Outbound int `yaml:"outbound"`
}

// Mode says whether a section acts.
type Mode string

// The modes.
const (
	Block  Mode = "block"
	Detect Mode = "detect"
	Off    Mode = "off"
)

// UnmarshalText accepts exactly the three modes.
func (m *Mode) UnmarshalText(text []byte) error {
	if *m = Mode(text); slices.Contains([]Mode{Block, Detect, Off}, *m) {
		return nil
	}
	return fmt.Errorf("%q is no mode; write block, detect or off", text)
}

// RateLimit is a token bucket for each distinct key.
type RateLimit struct {
	// Name identifies the limit in records and keeps its buckets over a reload.
	Name string `yaml:"name"`
	// Match says which requests count. Without it, all do.
	Match Match `yaml:"match"`
	// Key says what has a bucket of its own: tenant, client, or both.
	Key []Key `yaml:"key"`
	// Limit is the sustained rate: 10/s, 600/m or 5000/h.
	Limit Rate `yaml:"limit"`
	// Burst is how many requests may come at once. Default: one second's worth
	// of limit, at least 1.
	Burst int `yaml:"burst"`
}

// Key is a part of what a limit counts by.
type Key string

// The keys.
const (
	Tenant Key = "tenant"
	Client Key = "client" // the address; for IPv6 its /64
)

// UnmarshalText accepts exactly the keys there are.
func (k *Key) UnmarshalText(text []byte) error {
	if *k = Key(text); *k == Tenant || *k == Client {
		return nil
	}
	return fmt.Errorf("%q is no key; write tenant or client", text)
}

// Set is the rules of one app: its files combined and completed with defaults.
type Set struct {
	WAF        WAF
	RateLimits []RateLimit
}

// Load reads the files in order and combines them: of the WAF settings a later
// file's win, limits add up. Its error joins the faults of all files. No files
// at all give the defaults.
func Load(paths []string) (Set, error) {
	set := Set{WAF: WAF{Mode: Block, Paranoia: 1, Thresholds: Thresholds{Inbound: 5, Outbound: 4}}}
	var errs []error
	seen := map[string]bool{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f := File{WAF: set.WAF}
		doc := strictyaml.Parse(path, data)
		doc.Decode(&f)
		if doc.OK() {
			f.check(doc, seen)
		}
		errs = append(errs, doc.Err())
		set.WAF, set.RateLimits = f.WAF, append(set.RateLimits, f.RateLimits...)
	}
	if set.WAF.DetectionParanoia == 0 {
		set.WAF.DetectionParanoia = set.WAF.Paranoia
	}
	return set, errors.Join(errs...)
}

func (f *File) check(doc *strictyaml.Document, seen map[string]bool) {
	between := func(path string, v, low, high int) {
		if v < low || v > high {
			doc.Faultf(path, "%s: %d is not between %d and %d", path, v, low, high)
		}
	}
	between("waf.paranoia", f.WAF.Paranoia, 1, 4)
	between("waf.thresholds.inbound", f.WAF.Thresholds.Inbound, 1, 10000)
	between("waf.thresholds.outbound", f.WAF.Thresholds.Outbound, 1, 10000)
	if p := f.WAF.DetectionParanoia; p != 0 {
		between("waf.detection_paranoia", p, f.WAF.Paranoia, 4)
	}
	for i := range f.RateLimits {
		f.RateLimits[i].check(doc, fmt.Sprintf("rate_limits[%d]", i), seen)
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func (l *RateLimit) check(doc *strictyaml.Document, path string, seen map[string]bool) {
	if !nameForm.MatchString(l.Name) || seen[l.Name] {
		doc.Faultf(path+".name", "name: %q is no name, or is there twice; use a-z, 0-9, - and _", l.Name)
	}
	seen[l.Name] = true
	if l.Limit == 0 {
		doc.Faultf(path, "rate limit %q: limit: is missing; write 10/s, 600/m or 5000/h", l.Name)
	}
	if len(l.Key) == 0 {
		doc.Faultf(path+".key", "rate limit %q: key: says what has a bucket of its own; write [tenant], [client] or both", l.Name)
	}
	if l.Burst == 0 {
		l.Burst = max(1, int(l.Limit))
	}
	if l.Burst < 0 {
		doc.Faultf(path+".burst", "rate limit %q: burst: must be positive", l.Name)
	}
}
