package config

import (
	"cmp"
	"time"

	"edge/internal/strictyaml"
)

// Concurrency is how many requests may be under way at once, so that an
// application, or a tenant of it, that does not answer takes nothing from the
// others. A request is under way until its answer is through; a WebSocket or an
// event stream until it has begun.
type Concurrency struct {
	// Mode is block (default) or detect, in which nothing waits or is refused, and
	// what would be is recorded.
	Mode LoadMode `yaml:"mode"`
	// App is how many requests of the whole application. Default 1000.
	App int `yaml:"app"`
	// Tenant is how many of one tenant. Default: a quarter of app. It does not count
	// where no tenant is told apart.
	Tenant int `yaml:"tenant"`
	// Queue is how many may wait for one of them to end. Default 100.
	Queue int `yaml:"queue"`
	// Wait is how long one may wait. Default 2s.
	Wait strictyaml.Duration `yaml:"wait"`
}

// LoadMode is block or detect.
type LoadMode string

// The modes of concurrency.
const (
	LoadBlock  LoadMode = "block"
	LoadDetect LoadMode = "detect"
)

// UnmarshalText accepts exactly the two.
func (m *LoadMode) UnmarshalText(text []byte) error {
	return strictyaml.OneOf(m, text, "mode", LoadBlock, LoadDetect)
}

func (c *Concurrency) complete() {
	c.Mode = cmp.Or(c.Mode, LoadBlock)
	c.App = cmp.Or(c.App, 1000)
	c.Tenant = cmp.Or(c.Tenant, max(1, c.App/4))
	c.Queue = cmp.Or(c.Queue, 100)
	c.Wait = cmp.Or(c.Wait, strictyaml.Duration(2*time.Second))
}

func (c *Concurrency) check(doc *strictyaml.Document, path string) {
	for key, n := range map[string]int{"app": c.App, "tenant": c.Tenant, "queue": c.Queue} {
		if n < 1 {
			doc.Faultf(path+"."+key, "concurrency.%s: %d is none; write 1 or more", key, n)
		}
	}
	if c.Tenant > c.App && c.App > 0 {
		doc.Faultf(path+".tenant", "concurrency.tenant: %d is more than the %d of the whole application", c.Tenant, c.App)
	}
	if time.Duration(c.Wait) > time.Minute {
		doc.Faultf(path+".wait", "concurrency.wait: nobody waits for more than 1m")
	}
}
