package blocklog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// The files of a log directory.
const (
	BlockFile  = "block.jsonl"  // every refusal, and everything detect mode would have refused
	AccessFile = "access.jsonl" // one line for each request
)

// Log writes events to the two files of one directory. It is safe for
// concurrent use. A write that fails is counted and reported once, and never
// keeps a request waiting for a better disk.
type Log struct {
	mu            sync.Mutex
	block, access *os.File
	lost          atomic.Uint64
	logger        *zap.Logger
}

// Open opens or makes the log files in dir: the directory 0750, the files 0640,
// appended to.
func Open(dir string, logger *zap.Logger) (*Log, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	block, err := openLines(filepath.Join(dir, BlockFile))
	if err != nil {
		return nil, fmt.Errorf("block log: %w", err)
	}
	access, err := openLines(filepath.Join(dir, AccessFile))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("access log: %w", err), block.Close())
	}
	return &Log{block: block, access: access, logger: logger}, nil
}

// openLines opens a file to append lines to. Where a crash has left half a line,
// it ends it, so that it does not take the next one with it.
func openLines(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	last := make([]byte, 1)
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 0 {
		if _, err := f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			_, _ = f.WriteString("\n") // if it cannot be written, nothing can
		}
	}
	return f, nil
}

// Block records a decision about a request, with its evidence.
func (l *Log) Block(e Event) { l.put(l.block, e.line()) }

// Access records that a request was served or refused, without the evidence.
func (l *Log) Access(e Event) {
	e.Edge.Matches, e.Error = nil, Fault{}
	l.put(l.access, e.line())
}

// Lost counts the lines that could not be written.
func (l *Log) Lost() uint64 { return l.lost.Load() }

func (l *Log) put(f *os.File, line []byte) {
	l.mu.Lock()
	n, err := f.Write(line)
	if err != nil && n > 0 {
		_, _ = f.WriteString("\n") // what is there of the line must not spoil the next
	}
	l.mu.Unlock()
	if err != nil && l.lost.Add(1) == 1 {
		l.logger.Error("log lines are being lost", zap.String("file", f.Name()), zap.Error(err))
	}
}

// Close closes both files.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.block.Close(), l.access.Close())
}

// What Find says where there is not exactly one event to return.
var (
	ErrNotFound  = errors.New("no such event")
	ErrAmbiguous = errors.New("more than one event begins like that")
)

// Find returns the event whose id is or starts with id, from the block log of
// dir or, if nothing was decided about that request, its access log. The id
// "last" is the newest event of the block log. Lines that are no events, such
// as one cut short by a crash, are skipped.
func Find(dir, id string) (Event, error) {
	files := []string{BlockFile, AccessFile}
	last := id == "last"
	if last {
		id, files = "", files[:1]
	}
	for _, name := range files {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Event{}, err
		}
		e, err := scan(f, id, last)
		if err = errors.Join(err, f.Close()); !errors.Is(err, ErrNotFound) {
			return e, err
		}
	}
	return Event{}, ErrNotFound
}

// scan returns the last event of r whose id starts with prefix. If they are not
// all of one request, that is an error unless any will do.
func scan(r io.Reader, prefix string, any bool) (Event, error) {
	var found Event
	err := ErrNotFound
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, MaxLine), 16*MaxLine)
	for lines.Scan() {
		if !strings.Contains(lines.Text(), `"id":"`+prefix) {
			continue
		}
		var e Event
		if json.Unmarshal(lines.Bytes(), &e) != nil || !strings.HasPrefix(e.Event.ID, prefix) {
			continue
		}
		if err == nil && found.Event.ID != e.Event.ID && !any {
			return Event{}, ErrAmbiguous
		}
		found, err = e, nil
	}
	if lines.Err() != nil {
		return Event{}, lines.Err()
	}
	return found, err
}
