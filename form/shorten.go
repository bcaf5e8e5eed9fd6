package form

import (
	"io"
	"unicode/utf8"
)

// What is kept of JSON, in bytes.
const (
	keepBlank  = 16      // of blanks in a row
	maxLiteral = 1 << 10 // a number longer than that is refused
	plainRun   = 64      // of a string, at once
)

// shorten passes JSON on without the insides of long strings and long runs of
// blanks, so that the decoder, which holds a token as a whole, needs little memory.
// It leaves out only what it knows to be well-formed: what it passes on is
// JSON exactly where what it reads is.
type shorten struct {
	keep int // bytes of a string that are passed on in any case
	r    io.Reader

	in, out []byte // read and not yet looked at; looked at and not yet passed on
	buf     []byte // which out is a part of
	err     error
	fault   *Fault

	string bool
	run    int // how long the string, the blanks or the literal is so far
	blank  bool
}

func newShorten(keep int) shorten {
	return shorten{keep: keep, in: make([]byte, 0, bufferSize), buf: make([]byte, 0, bufferSize)}
}

// reset has s read from the beginning of r.
func (s *shorten) reset(r io.Reader) {
	*s = shorten{keep: s.keep, in: s.in[:0], buf: s.buf, r: r}
}

func (s *shorten) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.fill()
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

func (s *shorten) fill() {
	n, err := s.r.Read(s.in[len(s.in):cap(s.in)])
	s.in, s.err = s.in[:len(s.in)+n], err
	s.out = s.buf[:0]
	used := 0
	for used < len(s.in) && s.fault == nil {
		n := s.unit(s.in[used:])
		if n == 0 {
			break
		}
		used += n
	}
	if s.fault != nil {
		s.err = s.fault
		return
	}
	s.in = s.in[:copy(s.in, s.in[used:])]
	if s.err != nil { // there will be no more: what is left is not well-formed
		s.out = append(s.out, s.in...)
	}
}

// unit passes on or leaves out what belongs together at the start of b: a
// character, or an escape. It returns its length, 0 if it is not complete.
func (s *shorten) unit(b []byte) int {
	if !s.string {
		return s.outside(b[0])
	}
	n, valid := plainText(b), true
	if n == 0 {
		n, valid = stringUnit(b)
	}
	if n == 0 {
		return 0
	}
	switch s.run += n; {
	case b[0] == '"':
		s.string, s.run = false, 0
	case !valid:
		s.fault = badBody("a string in the JSON is malformed")
	case s.run > s.keep:
		return n
	}
	s.out = append(s.out, b[:n]...)
	return n
}

func (s *shorten) outside(c byte) int {
	blank := c == ' ' || c == '\t' || c == '\r' || c == '\n'
	structural := c == '"' || c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':'
	if blank != s.blank || structural {
		s.run = 0
	}
	s.blank, s.string = blank, c == '"'
	s.run++
	switch {
	case blank && s.run > keepBlank:
		return 1
	case !blank && !structural && s.run > maxLiteral:
		s.fault = badBody("the JSON holds a number longer than %d digits", maxLiteral)
	}
	s.out = append(s.out, c)
	return 1
}

// plainText measures the text at the start of b, within a string, that is neither
// escaped nor beyond ASCII; but no more than plainRun, so that little is kept.
func plainText(b []byte) (n int) {
	for n < min(len(b), plainRun) && b[n] >= ' ' && b[n] < utf8.RuneSelf && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// stringUnit measures the character or escape at the start of b, within a
// string. valid says that it may be left out. What is not valid is one byte.
func stringUnit(b []byte) (n int, valid bool) {
	switch c := b[0]; {
	case c == '\\':
		return escapeUnit(b)
	case c < utf8.RuneSelf:
		return 1, false
	case !utf8.FullRune(b):
		return 0, false
	}
	r, n := utf8.DecodeRune(b)
	return n, r != utf8.RuneError || n > 1
}

func escapeUnit(b []byte) (n int, valid bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, true
	case 'u':
	default:
		return 1, false
	}
	if len(b) < 6 {
		return 0, false
	}
	high, ok := longEscape("%" + string(b[1:6]))
	if !ok {
		return 1, false
	}
	if high < 0xd800 || high > 0xdfff {
		return 6, true
	}
	if len(b) < 12 {
		return 0, false
	}
	low, ok := longEscape("%" + string(b[7:12]))
	if ok = ok && b[6] == '\\' && b[7] == 'u' && high < 0xdc00 && 0xdc00 <= low && low < 0xe000; ok {
		return 12, true
	}
	return 1, false
}
