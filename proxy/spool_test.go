package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"edge/rules"
)

func newSpool(t *testing.T, capacity int64) *Spool {
	t.Helper()
	s, err := NewSpool(t.TempDir(), capacity)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files counts what is visible in the spool's directory, which is always nothing.
func (s *Spool) files(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestSpool(t *testing.T) {
	s := newSpool(t, 2<<20)
	for _, n := range []int{0, 1, heldInMemory - 1, heldInMemory, heldInMemory + 1, 1 << 20} {
		body := bytes.Repeat([]byte("ab"), n/2+1)[:n]
		h, got, err := s.hold(io.MultiReader(bytes.NewReader(body[:n/3]), bytes.NewReader(body[n/3:])))
		if err != nil || got != int64(n) || h.size() != got {
			t.Fatalf("%d: %d, %v", n, got, err)
		}
		for range 2 { // it can be read again
			if back, err := io.ReadAll(h.reader()); err != nil || !bytes.Equal(back, body) {
				t.Errorf("%d: %d bytes came back, %v", n, len(back), err)
			}
		}
		if c, err := h.count([]byte("ba")); err != nil || c != bytes.Count(body, []byte("ba")) {
			t.Errorf("%d: counted %d, %v", n, c, err)
		}
		if used := s.Used(); used != max(0, int64(n-heldInMemory)) || s.files(t) != 0 {
			t.Errorf("%d: %d used, %d files", n, used, s.files(t))
		}
		h.close()
		h.close()
		if s.Used() != 0 || s.memory.Load() != 0 {
			t.Errorf("%d: %d used when closed, and %d of memory", n, s.Used(), s.memory.Load())
		}
	}
}

// When all bodies together have as much memory as they may have, more of each
// goes to its file.
func TestSpoolMemory(t *testing.T) {
	s := newSpool(t, 1<<30)
	s.memory.Store(allInMemory - heldInMemory)
	body := bytes.Repeat([]byte("ab"), 50<<10)
	first, _, err := s.hold(bytes.NewReader(body))
	if err != nil || first.file != nil || s.memory.Load() != allInMemory-heldInMemory+int64(len(body)) {
		t.Fatalf("%+v, %v", first, err)
	}
	second, n, err := s.hold(bytes.NewReader(body))
	if err != nil || n != int64(len(body)) || len(second.head) != leastInMemory {
		t.Fatalf("%d in memory of %d, %v", len(second.head), n, err)
	}
	if back, err := io.ReadAll(second.reader()); err != nil || !bytes.Equal(back, body) {
		t.Errorf("%d bytes came back, %v", len(back), err)
	}
	if _, _, err := s.hold(io.MultiReader(bytes.NewReader(body), iotest.ErrReader(io.ErrUnexpectedEOF))); err == nil {
		t.Error("what broke off is held")
	}
	first.close()
	second.close()
	if s.memory.Load() != allInMemory-heldInMemory || s.Used() != 0 {
		t.Errorf("%d claimed and %d used when closed", s.memory.Load(), s.Used())
	}
}

// What was counted before is counted across the edges of chunks too.
func TestSpoolCount(t *testing.T) {
	s := newSpool(t, 2<<20)
	body := strings.Repeat("a", 64<<10-3) + "--boundary" + strings.Repeat("b", 400<<10) + "--boundary--boundary"
	h, _, err := s.hold(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if n, err := h.count([]byte("--boundary")); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A spool that is full takes nothing more, and has room again afterwards. One whose
// directory is gone is as good as full.
func TestSpoolFull(t *testing.T) {
	s := newSpool(t, 100<<10)
	large := func() io.Reader { return strings.NewReader(strings.Repeat("x", heldInMemory+60<<10)) }
	first, _, err := s.hold(large())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.hold(large()); !errors.Is(err, errSpoolFull) {
		t.Errorf("it takes more than it has room for: %v", err)
	}
	first.close()
	again, _, err := s.hold(large())
	if err != nil {
		t.Errorf("it has no room again: %v", err)
	}
	again.close()
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.hold(large()); !errors.Is(err, errSpoolFull) || s.Used() != 0 {
		t.Errorf("without a directory: %v, %d used", err, s.Used())
	}
}

// A crash leaves nothing.
func TestSpoolIsEmptiedAtStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/body-123", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := NewSpool(dir, 1)
	if err != nil || s.files(t) != 0 {
		t.Errorf("%v, %d files", err, s.files(t))
	}
}

// A large body goes through whole; when there is no room, the answer is 503 and
// the application sees nothing; when a client leaves in the middle, nothing stays.
func TestLargeBodies(t *testing.T) {
	var got int64
	e := start(t, func(_ http.ResponseWriter, r *http.Request) { got, _ = io.Copy(io.Discard, r.Body) }, rules.Block)
	e.current.Load().exact["hr.test"].maxBody = 8 << 20
	send := func(n int) *http.Response {
		body := "--x\r\nContent-Disposition: form-data; name=f; filename=a.pdf\r\n\r\n" + strings.Repeat("p", n) + "\r\n--x--\r\n"
		req, _ := http.NewRequest("POST", e.url+"/", strings.NewReader(body))
		req.Host = "hr.test"
		req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	if res := send(1 << 20); res.StatusCode != 200 || got < 1<<20 {
		t.Errorf("status %d, %d bytes", res.StatusCode, got)
	}
	got = 0
	if res := send(1<<20 + 320<<10); res.StatusCode != 503 || res.Header.Get("Retry-After") != "5" || got != 0 {
		t.Errorf("status %d, %d bytes", res.StatusCode, got)
	}
	if e.spool.Used() != 0 {
		t.Errorf("%d bytes stay in the spool", e.spool.Used())
	}
}
