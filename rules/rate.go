package rules

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Rate is events per second.
type Rate float64

// UnmarshalText reads 10/s, 600/m or 5000/h.
func (r *Rate) UnmarshalText(text []byte) error {
	count, unit, _ := strings.Cut(string(text), "/")
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	n, err := strconv.ParseUint(count, 10, 31)
	if err != nil || n == 0 || seconds == 0 {
		return fmt.Errorf("%q is no rate; write 10/s, 600/m or 5000/h", text)
	}
	*r = Rate(float64(n) / seconds)
	return nil
}

// String is the rate in the largest unit in which it is a whole number.
func (r Rate) String() string {
	for _, u := range []struct {
		name    string
		seconds float64
	}{{"s", 1}, {"m", 60}} {
		if n := float64(r) * u.seconds; n == math.Trunc(n) {
			return fmt.Sprintf("%.0f/%s", n, u.name)
		}
	}
	return fmt.Sprintf("%.0f/h", float64(r)*3600)
}
