package form

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

func packed(t testing.TB, coding, plain string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	default:
		w, _ = flate.NewWriter(&b, 9)
	}
	if _, err := io.WriteString(w, plain); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

// noise is text that hardly shrinks.
func noise(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func TestDecoded(t *testing.T) {
	for _, coding := range []string{"gzip", "deflate"} {
		for _, plain := range []string{"", "a", `{"a":1}`, noise(1 << 20), strings.Repeat("a", 64<<10), strings.Repeat(noise(100), 200)} {
			body := packed(t, coding, plain)
			for _, r := range []io.Reader{strings.NewReader(body), iotest.OneByteReader(strings.NewReader(body)), iotest.DataErrReader(strings.NewReader(body))} {
				if got, err := io.ReadAll(Decoded(coding, r)); err != nil || string(got) != plain {
					t.Errorf("%s of %s: %s, %v", coding, quoted(plain), quoted(string(got)), err)
				}
			}
		}
	}
	if got, err := io.ReadAll(Decoded("", strings.NewReader("a"))); err != nil || string(got) != "a" {
		t.Errorf("no coding: %s, %v", got, err)
	}
}

func TestNotDecoded(t *testing.T) {
	for _, coding := range []string{"gzip", "deflate"} {
		good := packed(t, coding, noise(1000))
		broken := []byte(good)
		broken[len(broken)-1] ^= 1 // of the checksum, or the length
		for name, c := range map[string]struct {
			body   string
			status int
		}{
			"empty":     {"", 400},
			"plain":     {`{"a":1}`, 400},
			"raw":       {packed(t, "raw", "a"), 400},
			"truncated": {good[:len(good)-1], 400},
			"half":      {good[:len(good)/2], 400},
			"checksum":  {string(broken), 400},
			"garbage":   {good + "x", 400},
			"nul":       {good + "\x00", 400},
			"members":   {good + good, 400},
			"bomb":      {packed(t, coding, strings.Repeat("a", 8<<20)), 413},
			"slow-bomb": {packed(t, coding, noise(1000)+strings.Repeat("a", 1<<20)), 413},
		} {
			for _, r := range []io.Reader{strings.NewReader(c.body), iotest.HalfReader(strings.NewReader(c.body))} {
				got, err := io.ReadAll(Decoded(coding, r))
				var f *Fault
				if !errors.As(err, &f) || f.Status != c.status || len(got) > slack+maxRatio*len(c.body) {
					t.Errorf("%s %s: %d bytes, %v", coding, name, len(got), err)
				}
			}
		}
		lost := errors.New("lost")
		for _, n := range []int{0, 5, 500, len(good)} {
			_, err := io.ReadAll(Decoded(coding, io.MultiReader(strings.NewReader(good[:n]), iotest.ErrReader(lost))))
			if !errors.Is(err, lost) {
				t.Errorf("%s, lost after %d bytes: %v", coding, n, err)
			}
		}
	}
	if _, err := io.ReadAll(Decoded("gzip", strings.NewReader(packed(t, "deflate", "a")))); err == nil {
		t.Error("deflate passes as gzip")
	}
}

// A bomb is refused when little of it has been taken.
func TestBombEndsEarly(t *testing.T) {
	bomb := strings.NewReader(packed(t, "gzip", strings.Repeat("a", 8<<20)))
	size := bomb.Len()
	n, err := io.Copy(io.Discard, Decoded("gzip", bomb))
	if err == nil || n > 1<<20 || bomb.Len() < size/3 {
		t.Errorf("%d bytes of it, %d left, %v", n, bomb.Len(), err)
	}
}

func BenchmarkDecoded(b *testing.B) {
	plain := strings.Repeat(noise(100), 10_000)
	body := packed(b, "gzip", plain[:100_000])
	for name, open := range map[string]func(io.Reader) io.Reader{
		"ours": func(r io.Reader) io.Reader { return Decoded("gzip", r) },
		"gzip": func(r io.Reader) io.Reader { g, _ := gzip.NewReader(r); return g },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(100_000)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = io.Copy(io.Discard, open(strings.NewReader(body)))
			}
		})
	}
}
