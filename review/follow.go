package review

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"edge/blocklog"
)

// Follow calls yield for every event that f wants and that is written to the file
// at path from now on, until ctx ends. It goes on where the file is put aside and
// a new one begun, and waits for one that is not there yet.
func Follow(ctx context.Context, path string, f Filter, yield func(line []byte, e *blocklog.Event)) error {
	t := &tail{path: path, m: newMatcher(f), yield: yield}
	defer t.close()
	if err := t.open(io.SeekEnd); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := t.read(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

type tail struct {
	path  string
	m     *matcher
	yield func([]byte, *blocklog.Event)
	file  *os.File
	lines *bufio.Reader
	part  []byte // the beginning of a line that is being written
}

func (t *tail) open(whence int) error {
	f, err := os.Open(t.path)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, whence); err != nil {
		return errors.Join(err, f.Close())
	}
	t.file, t.lines = f, bufio.NewReader(f)
	return nil
}

func (t *tail) close() {
	if t.file != nil {
		_ = t.file.Close() // it was only read
		t.file = nil
	}
}

// read takes what is there, of the old file to its end and then of a new one.
func (t *tail) read() error {
	for {
		if t.file == nil {
			if err := t.open(io.SeekStart); err != nil {
				return nil //nolint:nilerr // there will be one
			}
		}
		if err := t.drain(); err != nil {
			return err
		}
		now, err := os.Stat(t.path)
		old, oldErr := t.file.Stat()
		if err != nil || oldErr != nil || os.SameFile(now, old) {
			return nil //nolint:nilerr // there will be one
		}
		t.close()
	}
}

func (t *tail) drain() error {
	for {
		chunk, err := t.lines.ReadBytes('\n')
		t.part = append(t.part, chunk...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line := bytes.TrimSuffix(t.part, []byte("\n"))
		if e := t.m.event(line); e != nil {
			t.yield(line, e)
		}
		t.part = t.part[:0]
	}
}
