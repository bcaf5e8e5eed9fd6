package rules

import (
	"fmt"
	"strconv"
	"strings"
)

// Rate is a number of events in a time.
type Rate struct {
	PerSecond float64
	text      string // as it was written
}

// UnmarshalText reads 10/s, 600/m or 5000/h.
func (r *Rate) UnmarshalText(text []byte) error {
	count, unit, _ := strings.Cut(string(text), "/")
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	n, err := strconv.ParseUint(count, 10, 31)
	if err != nil || n == 0 || seconds == 0 {
		return fmt.Errorf("%q is no rate; write 10/s, 600/m or 5000/h", text)
	}
	*r = Rate{float64(n) / seconds, string(text)}
	return nil
}

// String is the rate as it was written.
func (r Rate) String() string { return r.text }
