package strictyaml

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"1": 1, "512KiB": 512 << 10, "1MiB": 1 << 20, "2GiB": 2 << 30, "1500": 1500} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want || s.String() != text {
			t.Errorf("%s: %d (%s), %v", text, s, s, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "1MB", "KiB", "1.5MiB", "99999999999GiB", "1 MiB"} {
		if err := new(Size).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}

func TestLongestDuration(t *testing.T) {
	var d Duration
	if err := d.UnmarshalText([]byte("3650d")); err != nil || time.Duration(d) != longest {
		t.Errorf("%v, %v", time.Duration(d), err)
	}
	for _, text := range []string{"3651d", "9999999h", "999999999d"} {
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s is %v", text, time.Duration(d))
		}
	}
}
