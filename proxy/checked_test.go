package proxy

import (
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"edge/form"
)

// However a body comes and is read, what is read is the body.
func TestCheckedHandsOutEverything(t *testing.T) {
	type way = func(io.Reader) io.Reader
	reads := map[string]way{"one": iotest.OneByteReader, "half": iotest.HalfReader}
	sends := map[string]way{"one": iotest.OneByteReader, "half": iotest.HalfReader, "with_end": iotest.DataErrReader}
	for _, text := range []string{`{}`, `[1]`, `{"note":"hello"}`} {
		for comes, sent := range sends {
			for asked, read := range reads {
				t.Run(comes+"_"+asked, func(t *testing.T) {
					c := checking(io.NopCloser(sent(strings.NewReader(text))), form.Type{Kind: form.JSON}, form.Limits{})
					if got, err := io.ReadAll(read(c)); string(got) != text || err != nil {
						t.Errorf("%q and %v of %q", got, err, text)
					}
				})
			}
		}
	}
}

// A body that is refused before anybody reads it leaves nothing behind.
func TestCheckedUnread(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100 {
		checking(io.NopCloser(strings.NewReader("{}")), form.Type{Kind: form.JSON}, form.Limits{})
	}
	if after := runtime.NumGoroutine(); after >= before+100 {
		t.Errorf("%d goroutines, and %d before", after, before)
	}
}

// What is closed or broken off ends its check.
func TestCheckedEnds(t *testing.T) {
	c := checking(io.NopCloser(strings.NewReader(`{"a":1}`)), form.Type{Kind: form.JSON}, form.Limits{})
	if _, err := c.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.verdict:
	case <-time.After(10 * time.Second):
		t.Error("the check goes on")
	}
}

// The time that a slow client has does not run out because it has sent much.
func TestPaceOfLargeBodies(t *testing.T) {
	begun := time.Now()
	p := &paced{begun: begun, got: 10 << 30}
	if slow := p.tooSlow(); slow.Before(begun.Add(bodyGrace)) {
		t.Errorf("10 GiB are too slow at %s", slow)
	}
}
