package strictyaml

import "testing"

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
