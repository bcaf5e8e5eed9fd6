package form

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"edge/blocklog"
)

// Limits are what a body may hold. Where one is zero, the number in its comment holds.
type Limits struct {
	Depth  int // 64: of JSON and XML
	Values int // 20,000: names and values of JSON, elements and attributes of XML
	Name   int // 1 KiB: of a JSON name, an XML name, the name of a part
	Token  int // 1 MiB: what lies between two tags of XML, and a tag itself
	Params int // 1,000: of a form
	Parts  int // 200: of multipart

	// Charsets are those that parts of multipart may name. Default: utf-8 and us-ascii.
	Charsets []string
	// Part, where set, is told of each part of multipart when its header has been
	// read, before anything of its content is.
	Part func(Part)
}

// Part is one part of a multipart body.
type Part struct {
	Index    int    // from 0
	Header   int64  // the offset in the body at which its header begins
	Content  int64  // the offset at which its content does
	Name     string // of the field, as written: browsers write %22 for a quote
	Filename string // "" also where a browser sends a field without a file
	File     bool   // a filename is given, be it empty
	Media    string // in lower case; "" where none is given
	Encoding string // its Content-Transfer-Encoding, in lower case: 7bit, 8bit, binary or none
}

func (l Limits) complete() Limits {
	l.Depth = cmp.Or(l.Depth, 64)
	l.Values = cmp.Or(l.Values, 20_000)
	l.Name = cmp.Or(l.Name, 1<<10)
	l.Token = cmp.Or(l.Token, 1<<20)
	l.Params = cmp.Or(l.Params, maxParams)
	l.Parts = cmp.Or(l.Parts, 200)
	if l.Charsets == nil {
		l.Charsets = []string{"utf-8", "us-ascii"}
	}
	return l
}

// Body reads one whole body and refuses it if it is not what t says, or if
// parsers read it in different ways. The error is a *[Fault], or what the reader
// returned; then nothing is known of the body. A body is read to its end only if it
// is in order.
func Body(t Type, r io.Reader, limits Limits) error {
	src := &source{Reader: r}
	pool := &readers
	if t.Kind == Multipart {
		pool = &lineReaders
	}
	buffered := pool.Get().(*bufio.Reader)
	buffered.Reset(src)
	f := body(t, buffered, limits.complete())
	buffered.Reset(nil)
	pool.Put(buffered)
	if src.err != nil {
		return src.err
	}
	if f != nil { // a nil *Fault is no nil error
		return f
	}
	return nil
}

const bufferSize = 4 << 10

// Buffers for bodies, which are most of what a small one would take; those for
// multipart hold two lines of a part's header.
var (
	readers     = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}
	lineReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 2*maxPartHeader) }}
)

// source remembers what went wrong in reading, so that it is not taken for a
// fault of the body.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func body(t Type, r *bufio.Reader, l Limits) *Fault {
	switch t.Kind {
	case None:
		if _, err := r.ReadByte(); err == nil {
			return fault(blocklog.ReasonBodyType, http.StatusUnsupportedMediaType, "there is a body and no Content-Type")
		}
		return nil
	case Form:
		return formBody(t, r, l)
	case Multipart:
		return multipartBody(t, r, l)
	case JSON:
		return jsonBody(r, l)
	case NDJSON:
		return jsonLines(r, l)
	case XML:
		return xmlBody(r, l)
	case Text:
		return textBody(t, r, l)
	}
	_, _ = io.Copy(io.Discard, r) // the source keeps the error
	return nil
}

// textBody passes what is UTF-8. Text that begins as JSON does must be JSON: many
// applications do not ask for the type.
func textBody(t Type, r *bufio.Reader, l Limits) *Fault {
	for mark := true; ; {
		head, _ := r.Peek(3)
		switch {
		case len(head) > 0 && (head[0] == ' ' || '\t' <= head[0] && head[0] <= '\r'):
			_, _ = r.Discard(1)
			continue
		case len(head) > 0 && (head[0] == '{' || head[0] == '['):
			return jsonBody(r, l)
		case mark && string(head) == "\uFEFF":
			_, _ = r.Discard(3)
			mark = false
			continue
		}
		break
	}
	u := runes{off: !t.unicode()}
	return each(r, func(b byte, at int64) *Fault {
		if b == 0 || !u.next(b) {
			return badBody("the text is not UTF-8, or holds NUL, %s", position(at))
		}
		return nil
	}, func() *Fault {
		if u.left > 0 {
			return badBody("the text ends within a character")
		}
		return nil
	})
}

// unicode says that text of this type is UTF-8.
func (t Type) unicode() bool {
	return t.Charset == "" || t.Charset == "utf-8" || t.Charset == "us-ascii"
}

// each calls f for every byte, and end when there are no more.
func each(r *bufio.Reader, f func(b byte, at int64) *Fault, end func() *Fault) *Fault {
	for at := int64(0); ; {
		_, err := r.Peek(1)
		chunk, _ := r.Peek(r.Buffered())
		for _, b := range chunk {
			if fault := f(b, at); fault != nil {
				return fault
			}
			at++
		}
		_, _ = r.Discard(len(chunk))
		if errors.Is(err, io.EOF) {
			return end()
		}
		if err != nil {
			return nil // the source keeps it
		}
	}
}

// runes checks UTF-8 byte by byte.
type runes struct {
	off    bool // let everything pass
	left   int  // how many bytes the character still has
	lo, hi byte // within which the next one is
}

// next takes a byte. Only when left is 0 a character is complete.
func (u *runes) next(b byte) bool {
	switch {
	case u.off, u.left == 0 && b < 0x80:
		return true
	case u.left > 0:
		ok := u.lo <= b && b <= u.hi
		u.left, u.lo, u.hi = u.left-1, 0x80, 0xbf
		return ok
	}
	u.lo, u.hi = 0x80, 0xbf
	switch {
	case b < 0xc2 || b > 0xf4:
		return false
	case b < 0xe0:
		u.left = 1
	case b < 0xf0:
		u.left = 2
	default:
		u.left = 3
	}
	switch b { // no overlong forms, no surrogates, nothing beyond U+10FFFF
	case 0xe0:
		u.lo = 0xa0
	case 0xed:
		u.hi = 0x9f
	case 0xf0:
		u.lo = 0x90
	case 0xf4:
		u.hi = 0x8f
	}
	return true
}

// position says where in a body something is, and itoa writes a number.
func position(offset int64) string { return "at byte " + strconv.FormatInt(offset, 10) }

func itoa(n int) string { return strconv.Itoa(n) }
