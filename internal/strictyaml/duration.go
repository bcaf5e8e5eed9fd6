package strictyaml

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Duration is a time as people write it: 90s, 15m, 12h, 30d.
type Duration time.Duration

// longest is more than anybody means.
const longest = 10 * 365 * 24 * time.Hour

var durationForm = regexp.MustCompile(`^([1-9][0-9]{0,8})(ms|s|m|h|d)$`)

// UnmarshalText reads one number and one unit.
func (d *Duration) UnmarshalText(text []byte) error {
	m := durationForm.FindSubmatch(text)
	if m == nil {
		return fmt.Errorf("%q is no duration; write a number and a unit, as in 90s, 15m, 12h or 30d", text)
	}
	n, _ := strconv.Atoi(string(m[1])) // digits, few enough
	unit := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	if time.Duration(n) > longest/unit[string(m[2])] {
		return fmt.Errorf("%q is longer than ten years; write what is meant", text)
	}
	*d = Duration(time.Duration(n) * unit[string(m[2])])
	return nil
}
