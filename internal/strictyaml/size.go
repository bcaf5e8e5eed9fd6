package strictyaml

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written plainly or with KiB, MiB or GiB.
type Size int64

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"", 1}}

// UnmarshalText reads "512KiB" or "1048576".
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(string(text), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 32)
		if err != nil || n <= 0 || strings.HasPrefix(digits, "+") || strings.HasPrefix(digits, "0") {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is no size; write bytes or a unit, as in 512KiB or 1MiB", text)
}

// String is the size as a person would write it.
func (s Size) String() string {
	for i := len(units) - 2; i >= 0; i-- {
		if u := units[i]; s != 0 && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.suffix)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
