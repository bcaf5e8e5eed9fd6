package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
)

const (
	// heldInMemory is how much of a body is held in memory; the rest goes to a file.
	heldInMemory = 256 << 10
	// allInMemory is how much of all bodies together, and leastInMemory what is
	// nevertheless held of each when there is that much.
	allInMemory   = 256 << 20
	leastInMemory = 4 << 10
	// spillPiece is what goes to a file at once.
	spillPiece = 16 << 10
)

// Spool holds bodies while they are judged: their beginning in memory, the rest in
// files without a name, which are gone with the process however it ends. All
// beginnings together have a limit, and so have all files.
type Spool struct {
	dir      string
	capacity int64
	used     atomic.Int64
	memory   atomic.Int64 // claimed
}

// errSpoolFull says that a body could not be held because of all the others.
var errSpoolFull = errors.New("too many large bodies are being held")

// NewSpool keeps its files in dir, which is made with mode 0700 and emptied of what
// a crash may have left, and lets them grow to capacity bytes in all.
func NewSpool(dir string, capacity int64) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "body-*"))
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
	}
	return &Spool{dir: dir, capacity: capacity}, nil
}

// Used is how many bytes are in files.
func (s *Spool) Used() int64 { return s.used.Load() }

// held is a body that is held. It must be closed.
type held struct {
	spool *Spool
	head  []byte
	file  *os.File // nil where head is all
	rest  int64    // bytes in file
	claim int64    // of the spool's memory
}

// hold reads all of r. On an error the bytes that came are counted, but not kept.
func (s *Spool) hold(r io.Reader) (*held, int64, error) {
	h := &held{spool: s}
	room := h.room()
	var err error
	if h.head, err = io.ReadAll(io.LimitReader(r, room)); err != nil {
		h.close()
		return nil, int64(len(h.head)), err
	}
	h.claims(min(h.claim, int64(len(h.head))))
	if int64(len(h.head)) < room {
		return h, h.size(), nil
	}
	if err := h.spill(r); err != nil {
		n := h.size()
		h.close()
		return nil, n, err
	}
	return h, h.size(), nil
}

// room claims memory for the beginning, and returns how much of it there is.
func (h *held) room() int64 {
	if h.claims(heldInMemory); h.spool.memory.Load() <= allInMemory {
		return heldInMemory
	}
	h.claims(0)
	return leastInMemory
}

// claim sets n bytes of memory aside for what somebody else reads, until it is closed.
// It is nil where there is no room.
func (s *Spool) claim(n int64) *held {
	h := &held{spool: s}
	if h.claims(n); s.memory.Load() > allInMemory {
		h.claims(0)
		return nil
	}
	return h
}

// claims makes n what is claimed of the spool's memory.
func (h *held) claims(n int64) {
	h.spool.memory.Add(n - h.claim)
	h.claim = n
}

// spill writes what is left of r to a file.
func (h *held) spill(r io.Reader) error {
	chunk := make([]byte, spillPiece)
	for {
		n, err := r.Read(chunk)
		if n > 0 {
			if err := h.write(chunk[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (h *held) write(p []byte) error {
	if h.file == nil {
		f, err := os.CreateTemp(h.spool.dir, "body-")
		if err != nil {
			return fmt.Errorf("%w: %w", errSpoolFull, err)
		}
		h.file = f
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("%w: %w", errSpoolFull, err)
		}
	}
	h.rest += int64(len(p))
	if h.spool.used.Add(int64(len(p))) > h.spool.capacity {
		return errSpoolFull
	}
	if _, err := h.file.Write(p); err != nil {
		return fmt.Errorf("%w: %w", errSpoolFull, err) // the disk is full, or worse
	}
	return nil
}

func (h *held) size() int64 { return int64(len(h.head)) + h.rest }

// reader reads the body from its beginning. Several can be in use.
func (h *held) reader() io.Reader {
	if h.file == nil {
		return bytes.NewReader(h.head)
	}
	return io.MultiReader(bytes.NewReader(h.head), io.NewSectionReader(h.file, 0, h.rest))
}

// close gives back what the body took.
func (h *held) close() {
	if h == nil || h.spool == nil { // there is none, or it is but a copy
		return
	}
	if h.claims(0); h.file == nil {
		return
	}
	_ = h.file.Close() // it has no name, and is of no more use to anybody
	h.file = nil
	h.spool.used.Add(-h.rest)
}

// forget gives back what the body took, and what was in it.
func (h *held) forget() {
	h.close()
	h.head = nil
}

// count says how often sep occurs in the body.
func (h *held) count(sep []byte) (n int, err error) {
	r := bufio.NewReaderSize(h.reader(), 64<<10)
	var window []byte
	chunk := make([]byte, 64<<10)
	for {
		k, err := r.Read(chunk)
		window = append(window, chunk[:k]...)
		n += bytes.Count(window, sep)
		window = append(window[:0], window[max(0, len(window)-len(sep)+1):]...)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
