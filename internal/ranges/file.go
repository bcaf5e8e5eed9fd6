package ranges

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// What a list file may hold. A file beyond that is a mistake somewhere else.
const (
	MaxFile    = 128 << 20 // bytes
	MaxEntries = 2_000_000
	MaxLine    = 1024 // bytes
)

// maxFaults is how many faults of one file are told. Somebody who points at the
// wrong file does not want to hear about each of its lines.
const maxFaults = 20

// ReadFile reads the list file at path. What is not a file, such as a pipe, or is
// larger than MaxFile is an error.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is no file", path)
	}
	tooLarge := fmt.Errorf("%s: is larger than %d MiB", path, MaxFile>>20)
	if info.Size() > MaxFile {
		return nil, tooLarge
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(data) > MaxFile {
		err = tooLarge // it has grown
	}
	return data, err
}

// ParseFile reads a list: one entry on a line, empty lines and lines that begin
// with # between them. Line ends may be those of Windows, and there may be a byte
// order mark. Its error joins the faults, the first 20 of them, each with file,
// line and column.
func ParseFile(path string, data []byte) ([]Entry, error) {
	return parseFile(path, data, MaxEntries)
}

func parseFile(path string, data []byte, limit int) ([]Entry, error) {
	text := strings.TrimPrefix(string(data), "\uFEFF")
	entries := make([]Entry, 0, min(strings.Count(text, "\n")+1, limit))
	var faults []error
	for n := 1; text != ""; n++ {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		e, ok, err := parseLine(path, n, strings.TrimSuffix(line, "\r"))
		switch {
		case err != nil && len(faults) == maxFaults:
			return nil, errors.Join(append(faults, fmt.Errorf("%s: has more faults, from line %d on; is it a list at all?", path, n))...)
		case err != nil:
			faults = append(faults, err)
		case ok && len(entries) == limit:
			return nil, errors.Join(append(faults, fmt.Errorf("%s:%d:1: a list has at most %d entries", path, n, limit))...)
		case ok:
			entries = append(entries, e)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return entries, nil
}

// parseLine reads line n, which may have nothing to say.
func parseLine(path string, n int, line string) (e Entry, ok bool, err error) {
	if len(line) > MaxLine {
		return e, false, fmt.Errorf("%s:%d:1: the line is longer than %d bytes", path, n, MaxLine)
	}
	bare := strings.TrimLeft(line, " \t")
	if bare == "" || bare[0] == '#' {
		if at, what := unprintable(line); what != "" {
			return e, false, fmt.Errorf("%s:%d:%d: %s", path, n, column(line, at), what)
		}
		return e, false, nil
	}
	e, at, err := parse(line)
	if err != nil {
		return e, false, fmt.Errorf("%s:%d:%d: %w", path, n, column(line, at), err)
	}
	e.Source = path
	return e, true, nil
}

// column is the place of a byte among the characters of a line, from 1.
func column(line string, at int) int { return utf8.RuneCountInString(line[:at]) + 1 }
