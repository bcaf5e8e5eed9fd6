package blocklog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"gopkg.in/natefinch/lumberjack.v2"
)

// The files of a log directory.
const (
	BlockFile  = "block.jsonl"  // every refusal, and everything detect mode would have refused
	AccessFile = "access.jsonl" // one line for each request
)

// Keep says how much of a log is kept. A file that has reached MaxSize is put
// aside under a name with the time in it, and the oldest of those are deleted
// when there are more than MaxTotal bytes or when they are older than MaxAge.
// Each of the two files counts for itself. Of one client, no more than MaxPerClient
// requests a minute are recorded that were refused or would have been; 0 is any number.
type Keep struct {
	MaxSize, MaxTotal int64
	MaxAge            time.Duration
	MaxPerClient      int
}

// Log writes events to the two files of one directory. It is safe for
// concurrent use. A write that fails is counted and reported once, and never
// keeps a request waiting for a better disk.
type Log struct {
	block, access *lines
	lost          atomic.Uint64
	sample        sample
	buffers       sync.Pool // for lines
	logger        *zap.Logger
}

// lines is one file and those put aside.
type lines struct {
	mu sync.Mutex
	lumberjack.Logger
	torn bool // the file ends in half a line
}

// Open opens or makes the log files in dir: the directory 0750, the files 0640,
// appended to.
func Open(dir string, keep Keep, logger *zap.Logger) (*Log, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	block, err := openLines(filepath.Join(dir, BlockFile), keep)
	if err != nil {
		return nil, fmt.Errorf("block log: %w", err)
	}
	access, err := openLines(filepath.Join(dir, AccessFile), keep)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("access log: %w", err), block.Close())
	}
	return &Log{block: block, access: access, sample: sample{most: keep.MaxPerClient, logger: logger}, logger: logger}, nil
}

// openLines sees to it that there is a file with the right mode, which those that
// follow it inherit, and looks whether a crash has left half a line in it.
func openLines(path string, keep Keep) (*lines, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	last := []byte{'\n'}
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 0 {
		_, _ = f.ReadAt(last, end-1) // a file that cannot be read can still be appended to
	}
	size := max(keep.MaxSize>>20, 1)
	return &lines{torn: last[0] != '\n', Logger: lumberjack.Logger{
		Filename: path, MaxSize: int(size), MaxBackups: int(max(keep.MaxTotal>>20/size, 2) - 1), MaxAge: int(keep.MaxAge.Hours() / 24),
	}}, f.Close()
}

// put appends a line.
func (l *lines) put(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.torn { // what is there of the last line must not spoil this one
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.Write(line)
	l.torn = err != nil && (l.torn || n > 0)
	return err
}

// Record writes what there is to say about a request that is over: each decision
// with its evidence into the block log, the last of which stays in e, and a line
// into the access log. That a client left is for the access log alone. client is
// what counts as one, for [Keep].
func (l *Log) Record(e *Event, client string, decisions []Decision) {
	if len(decisions) > 0 && !l.sample.takes(client, e.Time) {
		e.Apply(decisions[len(decisions)-1])
		return
	}
	for _, d := range decisions {
		if e.Apply(d); d.Reason != ReasonClientGone {
			l.Block(*e)
		}
	}
	l.Access(*e)
}

// Block records a decision about a request, with its evidence.
func (l *Log) Block(e Event) { l.put(l.block, &e) }

// Access records that a request was served or refused, without the evidence.
func (l *Log) Access(e Event) {
	e.Edge.Matches, e.Error = nil, Fault{}
	l.put(l.access, &e)
}

// LeftOut counts the requests that were not recorded because there were too many
// of their client.
func (l *Log) LeftOut() uint64 { return l.sample.leftOut() }

// Lost counts the lines that could not be written.
func (l *Log) Lost() uint64 { return l.lost.Load() }

func (l *Log) put(f *lines, e *Event) {
	line, ok := l.buffers.Get().(*bytes.Buffer)
	if !ok {
		line = &bytes.Buffer{}
	}
	defer l.buffers.Put(line)
	line.Reset()
	e.write(line)
	if err := f.put(line.Bytes()); err != nil && l.lost.Add(1) == 1 {
		l.logger.Error("log lines are being lost", zap.String("file", f.Filename), zap.Error(err))
	}
}

// Close closes both files.
func (l *Log) Close() error { return errors.Join(l.block.Close(), l.access.Close()) }

// Files are the files a log in dir consists of, the oldest first: those put aside
// and the one now written. name is BlockFile or AccessFile.
func Files(dir, name string) ([]string, error) {
	base, ext := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
	old, err := filepath.Glob(filepath.Join(dir, base+"-*"+ext))
	if err != nil {
		return nil, err
	}
	slices.Sort(old) // by the time in their names
	current := filepath.Join(dir, name)
	if _, err := os.Stat(current); err == nil {
		old = append(old, current)
	}
	return old, nil
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
		paths, err := Files(dir, name)
		if err != nil {
			return Event{}, err
		}
		for _, path := range slices.Backward(paths) {
			f, err := os.Open(path)
			if err != nil {
				return Event{}, err
			}
			e, err := scan(f, id, last)
			if err = errors.Join(err, f.Close()); !errors.Is(err, ErrNotFound) {
				return e, err
			}
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
