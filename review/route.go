package review

import (
	"strings"

	"edge/blocklog"
)

// Bounds on a route, for paths are the clients' choice.
const (
	maxSegments = 10
	maxRoute    = 120
)

// Route is a method and a path in which what differs from one record to the next
// is a star: numbers, dates, UUIDs, hexadecimal, addresses and tokens. Requests to
// one function of an application have one route, or a few.
func Route(method, path string) string {
	if len(method) > 10 || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		method = "*"
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if i == maxSegments {
			segments = append(segments[:i:i], "**")
			break
		}
		if isVariable(s) {
			segments[i] = "*"
		}
	}
	return method + " " + blocklog.Clip(strings.Join(segments, "/"), maxRoute)
}

// isVariable says that a segment of a path is one of many.
func isVariable(s string) bool {
	digits, run, longest, hex, dashes := 0, 0, 0, 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
			hex++
			run++
			longest = max(longest, run)
			continue
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			hex++
		case c == '-':
			dashes++
		case c == '@':
			return true
		}
		run = 0
	}
	switch {
	case s == "":
		return false
	case digits == len(s), longest >= 4: // a number; a date, or something with a number in it
		return true
	case hex+dashes == len(s) && hex >= 8 && (dashes == 0 || digits > 0):
		return true
	}
	return len(s) >= 20 && digits > 0 || len(s) >= 48
}
