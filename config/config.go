// Package config is what the operator wrote about the machine and the sites:
// edge.yaml. It owns the schema, the strict loading and the defaults. What the
// operator wrote about traffic is in package rules.
//
// A loaded Config is complete and checked: every default is filled in, every
// relative path is resolved against the file's own directory, and everything
// that can be judged without another file has been; for those see [Config.Missing].
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"edge/internal/ranges"
	"edge/internal/strictyaml"
)

// Config is one edge.yaml.
type Config struct {
	Process
	ClientIP ClientIP `yaml:"client_ip"`
	Addresses
	TLS  TLS   `yaml:"tls"`
	Log  Log   `yaml:"log"`
	Apps []App `yaml:"apps"`

	doc *strictyaml.Document
}

// Process is what is fixed for the process's life: a change needs a restart.
type Process struct {
	Listen Listen `yaml:"listen"`
	State  State  `yaml:"state"`
}

// Files are all files the configuration at path consists of: itself and what it
// names. They are a guess where it could not be read.
func (c *Config) Files(path string) []string {
	files := []string{path}
	if c == nil {
		return files
	}
	files = append(files, c.listFiles()...)
	files = append(files, ranges.Files(c.ClientIP.TrustedProxies)...)
	for _, f := range c.TLS.Files {
		files = append(files, f.Cert, f.Key)
	}
	for _, a := range c.Apps {
		files = append(files, a.Rules...)
		files = append(files, ranges.Files(a.Trust)...)
		if a.Upstream.TLS.CA != "" {
			files = append(files, a.Upstream.TLS.CA)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// Fault is what is wrong with the value at path ("apps[0].hosts[1]"), as an error
// with file, line and column: for what only turns out when files are read together.
func (c *Config) Fault(path, format string, args ...any) error {
	return c.doc.Fault(path, format, args...)
}

// Listen is where the edge accepts connections.
type Listen struct {
	// HTTPS is the address that speaks TLS, HTTP/1.1 and HTTP/2. Default ":443".
	HTTPS string `yaml:"https"`
	// Admin is the loopback address of health, status and metrics, or "off".
	// Default "127.0.0.1:9443".
	Admin string `yaml:"admin"`
	// ProxyProtocol are the addresses and ranges of load balancers that begin every
	// connection with a PROXY protocol header, v1 or v2, which says whom it is for.
	// From them it is required, from anybody else it is never accepted.
	ProxyProtocol []Prefix `yaml:"proxy_protocol"`
	// MaxConnections is how many connections may be open at once. More are closed
	// as they come. Default 20000, or less where the limit on open files is low.
	MaxConnections int `yaml:"max_connections"`
	// MaxConnectionsPerClient is how many of them one address may have, or one
	// IPv6 /64. Trusted proxies may have any number. Default 500.
	MaxConnectionsPerClient int `yaml:"max_connections_per_client"`
}

// TLS says where certificates come from.
type TLS struct {
	// Files are certificate and key pairs in PEM. Every host of every app must
	// be covered by one.
	Files []CertFile `yaml:"files"`
}

// CertFile is one certificate, its chain behind it, and its private key, which
// nobody but its owner and group may read.
type CertFile struct {
	// Cert is the certificate file, PEM, its chain behind it.
	Cert string `yaml:"cert"`
	// Key is the private key file, PEM.
	Key string `yaml:"key"`
}

// State is what must survive a restart.
type State struct {
	// Dir holds logs and, later, everything else that is kept. It is made with
	// mode 0750 if it is not there. Default "/var/lib/edge".
	Dir string `yaml:"dir"`
	// Spool is how much of the bodies that are held for inspection may be in files
	// at once. Default 1GiB.
	Spool strictyaml.Size `yaml:"spool"`
}

// SpoolDir is where those files are.
func (s State) SpoolDir() string { return filepath.Join(s.Dir, "spool") }

// LogDir is where the block log and the access log are.
func (s State) LogDir() string { return filepath.Join(s.Dir, "log") }

// Log is about records.
type Log struct {
	// Redact names fields that are never recorded, beside passwords, tokens and
	// cookies, which never are. Part of a name is enough: "iban" covers
	// "employee_iban".
	Redact []string `yaml:"redact"`
	Keep
}

// Keep is how much of the logs is kept.
type Keep struct {
	// MaxSize is how large a file grows before it is put aside. Default 100MiB.
	MaxSize strictyaml.Size `yaml:"max_size"`
	// MaxTotal is how much of each log is kept, in all its files. Default 1GiB.
	MaxTotal strictyaml.Size `yaml:"max_total"`
	// MaxAge is how long files that were put aside are kept. Default 90d.
	MaxAge strictyaml.Duration `yaml:"max_age"`
	// MaxPerClient is how many requests of one client a minute are recorded that were
	// refused, or would have been. 0 is any number. Default 6000.
	MaxPerClient int `yaml:"max_per_client"`
}

// App is one application behind the edge.
type App struct {
	// Name identifies the app in records and commands: letters, digits, "-".
	Name string `yaml:"name"`
	// Hosts are exact names, or "*.name" for everything below a name, at any
	// depth. An exact name wins over a wildcard, a longer wildcard over a
	// shorter one. An address can be given too, for clients that use no name.
	Hosts []string `yaml:"hosts"`
	// Tenant says how the customer company behind a request is found.
	Tenant Tenant `yaml:"tenant"`
	// Upstream is where the application is.
	Upstream Upstream `yaml:"upstream"`
	// Rules are rules files, in order; a later one overrides an earlier one.
	// Without any, the WAF blocks at paranoia level 1.
	Rules []string `yaml:"rules"`
	// Trust are addresses that this app never bans, beside those no app does.
	Trust []ranges.Item `yaml:"trust"`
	// MaxBody is the largest request body, in bytes or with a unit (512KiB,
	// 1MiB). A larger one is answered with 413. Default 1MiB.
	MaxBody strictyaml.Size `yaml:"max_body"`
	// HTTP is what requests must look like.
	HTTP HTTP `yaml:"http"`
	// Concurrency is how many requests may be under way at once.
	Concurrency Concurrency `yaml:"concurrency"`
}

// Load reads, completes and checks the file at path. Its error joins every
// fault found, each with file, line and column; what could be read of a faulty
// file is returned with it, for the files it names.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc := strictyaml.Parse(path, data)
	c := &Config{
		Process: Process{Listen: Listen{HTTPS: ":443", Admin: "127.0.0.1:9443", MaxConnections: 20_000, MaxConnectionsPerClient: 500}, State: State{Dir: "/var/lib/edge", Spool: 1 << 30}},
		Log:     Log{Keep: Keep{MaxPerClient: 6000}},
		doc:     doc,
	}
	doc.Decode(c)
	c.complete(filepath.Dir(path))
	if doc.OK() { // meaning is only worth judging where the shape is right
		c.check(doc)
	}
	return c, doc.Err()
}

func (c *Config) complete(dir string) {
	resolve := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	resolve(&c.State.Dir)
	c.Addresses.complete(dir)
	ranges.Resolve(c.ClientIP.TrustedProxies, dir)
	c.ClientIP.complete()
	c.Log.MaxSize = cmp.Or(c.Log.MaxSize, 100<<20)
	c.Log.MaxTotal = cmp.Or(c.Log.MaxTotal, 1<<30)
	c.Log.MaxAge = cmp.Or(c.Log.MaxAge, strictyaml.Duration(90*24*time.Hour))
	for i := range c.TLS.Files {
		resolve(&c.TLS.Files[i].Cert)
		resolve(&c.TLS.Files[i].Key)
	}
	for i := range c.Apps {
		a := &c.Apps[i]
		a.MaxBody = cmp.Or(a.MaxBody, 1<<20)
		a.Upstream.complete(resolve)
		a.HTTP.complete()
		ranges.Resolve(a.Trust, dir)
		a.Concurrency.complete()
		for j := range a.Rules {
			resolve(&a.Rules[j])
		}
	}
}

func (c *Config) check(doc *strictyaml.Document) {
	if !isAddress(c.Listen.HTTPS) {
		doc.Faultf("listen.https", "listen.https: %q is not an address; write ip:port, or :443 for every address", c.Listen.HTTPS)
	}
	if a := c.Listen.Admin; a != "off" && (!isAddress(a) || !isLoopback(a)) {
		doc.Faultf("listen.admin", "listen.admin: %q is no loopback address; it shows everything to whoever asks, so write 127.0.0.1:port or off", a)
	}
	narrow(doc, "listen.proxy_protocol", c.Listen.ProxyProtocol, func(i int) string { return fmt.Sprintf("listen.proxy_protocol[%d]", i) })
	c.ClientIP.check(doc)
	c.checkNames(doc, "client_ip.trusted_proxies", c.ClientIP.TrustedProxies)
	c.ClientIP.gather(doc, c.Lists)
	if c.Listen.MaxConnections < 1 || c.Listen.MaxConnectionsPerClient < 1 {
		doc.Faultf("listen", "listen: max_connections and max_connections_per_client are at least 1")
	}
	if c.State.Dir == "" {
		doc.Faultf("state.dir", "state.dir: must not be empty")
	}
	if c.Log.MaxSize < 1<<20 || c.Log.MaxTotal < 2*c.Log.MaxSize {
		doc.Faultf("log.max_size", "log: max_size is at least 1MiB, and max_total at least twice max_size")
	}
	if time.Duration(c.Log.MaxAge)%(24*time.Hour) != 0 {
		doc.Faultf("log.max_age", "log.max_age: write whole days, as in 90d")
	}
	if c.Log.MaxPerClient < 0 {
		doc.Faultf("log.max_per_client", "log.max_per_client: is a number of records a minute, or 0 for any")
	}
	for i, name := range c.Log.Redact {
		if !strings.ContainsFunc(name, unicode.IsLetter) {
			doc.Faultf(fmt.Sprintf("log.redact[%d]", i), "log.redact: %q is no part of a name", name)
		}
	}
	if len(c.TLS.Files) == 0 {
		doc.Faultf("tls.files", "tls.files: no certificate; name one with cert: and key:")
	}
	for i, f := range c.TLS.Files {
		if f.Cert == "" || f.Key == "" {
			doc.Faultf(fmt.Sprintf("tls.files[%d]", i), "tls.files: a certificate needs both cert: and key:")
		}
	}
	if len(c.Apps) == 0 {
		doc.Faultf("apps", "apps: there is no application to serve")
	}
	c.Addresses.check(doc)
	names, hosts := map[string]bool{}, map[string]string{}
	for i := range c.Apps {
		path := fmt.Sprintf("apps[%d]", i)
		c.Apps[i].check(doc, path, names, hosts)
		c.checkNames(doc, path+".trust", c.Apps[i].Trust)
		c.Apps[i].Tenant.check(doc, path+".tenant", len(c.ClientIP.TrustedProxies) > 0)
	}
}

// isAddress says that s can be listened on: an IP address or localhost or
// nothing, and a port.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, portErr := strconv.ParseUint(port, 10, 16)
	return portErr == nil && (host == "" || host == "localhost" || net.ParseIP(host) != nil)
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// endsInNumber says that a name would be taken for an IPv4 address, or part of one.
func endsInNumber(h string) bool {
	last := h[strings.LastIndexByte(h, '.')+1:]
	return strings.Trim(last, "0123456789") == ""
}

// Missing says which of the files the configuration names cannot be read, each
// with the place it is named at.
func (c *Config) Missing() error {
	var errs []error
	check := func(path, format string, args ...any) {
		f, err := os.Open(path)
		if err != nil {
			errs = append(errs, c.Fault(fmt.Sprintf(format, args...), "%v", err))
			return
		}
		_ = f.Close() // nothing was written
	}
	for i, f := range c.TLS.Files {
		check(f.Cert, "tls.files[%d].cert", i)
		check(f.Key, "tls.files[%d].key", i)
	}
	for i, a := range c.Apps {
		for j, file := range a.Rules {
			check(file, "apps[%d].rules[%d]", i, j)
		}
		if a.Upstream.TLS.CA != "" {
			check(a.Upstream.TLS.CA, "apps[%d].upstream.tls.ca", i)
		}
	}
	return errors.Join(errs...)
}

var (
	nameForm = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,62})$`)
	hostForm = regexp.MustCompile(`^(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`)
)

func (a *App) check(doc *strictyaml.Document, path string, names map[string]bool, hosts map[string]string) {
	if !nameForm.MatchString(a.Name) {
		doc.Faultf(path+".name", "name: %q is no name; use a-z, 0-9 and -, at most 63", a.Name)
	}
	if names[a.Name] {
		doc.Faultf(path+".name", "name: there are two apps called %q", a.Name)
	}
	names[a.Name] = true
	if len(a.Hosts) == 0 {
		doc.Faultf(path+".hosts", "hosts: app %q answers to no host", a.Name)
	}
	for j, h := range a.Hosts {
		at := fmt.Sprintf("%s.hosts[%d]", path, j)
		h = strings.ToLower(strings.TrimSuffix(h, "."))
		if ip, err := netip.ParseAddr(h); err == nil && ip.Zone() == "" {
			h = ip.Unmap().String()
		} else if !hostForm.MatchString(h) || len(h) > 253 || endsInNumber(h) {
			doc.Faultf(at, "hosts: %q is no host; write a name such as hr.example.com or *.hr.example.com, or an address", h)
		}
		a.Hosts[j] = h
		if other, taken := hosts[h]; taken {
			doc.Faultf(at, "hosts: %q already belongs to app %q", h, other)
		}
		hosts[h] = a.Name
	}
	if a.MaxBody > 1<<30 {
		doc.Faultf(path+".max_body", "max_body: a body of %s cannot be held; 1GiB is the most", a.MaxBody)
	}
	a.Upstream.check(doc, path+".upstream")
	a.HTTP.check(doc, path+".http")
	a.Concurrency.check(doc, path+".concurrency")
}
