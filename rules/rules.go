// Package rules is what the operator wrote about traffic: the rules files an
// app names in edge.yaml. It owns their schema, strict loading, how several
// files combine, and [Match], the one way in which rules say which requests
// they are about.
package rules

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"edge/internal/strictyaml"
)

// File is one rules file.
type File struct {
	// WAF sets the web application firewall. What a file leaves out it does not change.
	WAF WAF `yaml:"waf"`
	// RateLimits say how fast requests may come.
	RateLimits []RateLimit `yaml:"rate_limits"`
	// Access says which addresses may ask for what.
	Access []Access `yaml:"access"`
	// Uploads are requests with bodies larger than the WAF takes. The first whose match
	// holds counts.
	Uploads []Upload `yaml:"uploads"`
}

// Upload lets bodies of multipart/form-data, and of types that are not text, through
// after their beginning has been inspected. All other bodies are held as a whole.
type Upload struct {
	// Name identifies the upload.
	Name string `yaml:"name"`
	// Match says which requests are meant.
	Match Match `yaml:"match"`
	// Body says how much of it there may be.
	Body UploadBody `yaml:"body"`
}

// UploadBody is how large an upload may be.
type UploadBody struct {
	// Max is the largest body. A larger one is answered with 413.
	Max strictyaml.Size `yaml:"max"`
	// Inspect is how much of its beginning is held and inspected. Default 256KiB.
	Inspect strictyaml.Size `yaml:"inspect"`
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
	return strictyaml.OneOf(k, text, "key", Tenant, Client)
}

// Set is the rules of one app: its files combined and completed with defaults.
type Set struct {
	WAF        WAF
	RateLimits []RateLimit
	Uploads    []Upload
	Access     []Access

	docs []*strictyaml.Document // to place faults in Access
}

// Load reads the files in order and combines them: of the WAF settings a later
// file's win, exclusions, limits and access rules add up. Its error joins the faults of all files. No files
// at all give the defaults.
func Load(paths []string) (Set, error) {
	set := Set{WAF: defaults()}
	var errs []error
	seen := map[string]bool{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f := File{WAF: set.WAF}
		f.WAF.Exclusions = nil // of this file alone, so that faults are placed in it
		doc := strictyaml.Parse(path, data)
		doc.Decode(&f)
		for i := range f.Access {
			f.Access[i].Complete(filepath.Dir(path))
		}
		set.takeAccess(doc, f.Access)
		if doc.OK() {
			f.WAF.complete(path)
			f.check(doc, seen)
		}
		errs = append(errs, doc.Err())
		f.WAF.Exclusions = append(set.WAF.Exclusions, f.WAF.Exclusions...)
		set.WAF, set.RateLimits, set.Uploads = f.WAF, append(set.RateLimits, f.RateLimits...), append(set.Uploads, f.Uploads...)
	}
	switch w := &set.WAF; {
	case w.DetectionParanoia == 0:
		w.DetectionParanoia = w.Paranoia
	case w.DetectionParanoia < w.Paranoia:
		errs = append(errs, fmt.Errorf("%s: together these files set waf.detection_paranoia to %d, less than waf.paranoia, which is %d",
			strings.Join(paths, ", "), w.DetectionParanoia, w.Paranoia))
	}
	return set, errors.Join(errs...)
}

func (f *File) check(doc *strictyaml.Document, seen map[string]bool) {
	f.WAF.check(doc, seen)
	for i := range f.RateLimits {
		f.RateLimits[i].check(doc, fmt.Sprintf("rate_limits[%d]", i), seen)
	}
	for i := range f.Access {
		f.Access[i].Check(doc, fmt.Sprintf("access[%d]", i), seen)
	}
	for i := range f.Uploads {
		f.Uploads[i].check(doc, fmt.Sprintf("uploads[%d]", i), seen)
	}
}

func (u *Upload) check(doc *strictyaml.Document, path string, seen map[string]bool) {
	checkName(doc, path, "upload", u.Name, seen)
	if u.Match.Path.String() == "" {
		doc.Faultf(path, "upload %q: match: needs a path: only there is less than the whole inspected", u.Name)
	}
	u.Body.Inspect = cmp.Or(u.Body.Inspect, 256<<10)
	if u.Body.Inspect < 4<<10 || u.Body.Inspect > 16<<20 || u.Body.Max <= u.Body.Inspect {
		doc.Faultf(path+".body", "upload %q: body: inspect is from 4KiB to 16MiB, and max is more than that", u.Name)
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// checkName says so where a name is none, or is there twice among things of its kind.
func checkName(doc *strictyaml.Document, path, kind, name string, seen map[string]bool) {
	if !nameForm.MatchString(name) {
		doc.Faultf(path+".name", "name: %q is no name; use a-z, 0-9, - and _, at most 63", name)
	}
	if seen[kind+name] {
		doc.Faultf(path+".name", "name: there is another %s %q", kind, name)
	}
	seen[kind+name] = true
}

func (l *RateLimit) check(doc *strictyaml.Document, path string, seen map[string]bool) {
	checkName(doc, path, "rate limit", l.Name, seen)
	if l.Limit.PerSecond == 0 {
		doc.Faultf(path, "rate limit %q: limit: is missing; write 10/s, 600/m or 5000/h", l.Name)
	}
	if len(l.Key) == 0 {
		doc.Faultf(path+".key", "rate limit %q: key: says what has a bucket of its own; write [tenant], [client] or both", l.Name)
	}
	if l.Burst == 0 {
		l.Burst = max(1, int(l.Limit.PerSecond))
	}
	if l.Burst < 0 {
		doc.Faultf(path+".burst", "rate limit %q: burst: must be positive", l.Name)
	}
}
