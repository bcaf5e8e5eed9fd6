package listen

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	tests := []struct {
		name          string
		resets, other int // in turn
		gap           time.Duration
		cut           bool
	}{
		{"attack", 101, 0, 0, true},
		{"fewer", 100, 0, 0, false},
		{"half", 500, 500, 0, false},
		{"most", 500, 400, 0, true},
		{"slow", 500, 0, time.Second, false},
	}
	for _, test := range tests {
		b, at, cuts := &budget{}, now, 0
		for i := range max(test.resets, test.other) {
			for _, reset := range []bool{false, true} {
				n := test.other
				if reset {
					n = test.resets
				}
				if i < n && b.over(reset, at) {
					cuts++
				}
			}
			at = at.Add(test.gap)
		}
		if (cuts > 0) != test.cut || cuts > 1 {
			t.Errorf("%s: cut %d times", test.name, cuts)
		}
	}
}

func TestFaultsAreFewWords(t *testing.T) {
	f := faults{counts: map[string]uint64{}}
	for i := range 1000 {
		f.count(string(rune('a' + i)))
	}
	if len(f.counts) != maxFaults+1 || f.counts["other"] != 1000-maxFaults {
		t.Errorf("%d words, %d others", len(f.counts), f.counts["other"])
	}
}
