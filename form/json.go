package form

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonBody passes one document of RFC 8259, an object or an array, of which no
// two members have the same path: not when case is folded, and not when names
// with dots are taken for nested ones, as the WAF and many a binder do.
func jsonBody(r io.Reader, l Limits) *Fault {
	j, ok := jsonReaders.Get().(*jsonReader)
	if !ok || j.limits.Name != l.Name {
		j = newJSON(l)
	}
	j.limits, j.values = l, 0
	f := j.read(r)
	if len(j.seen) < 1000 { // a large one is better made anew
		j.short.r, j.limits = nil, Limits{Name: l.Name}
		jsonReaders.Put(j)
	}
	return f
}

// jsonReaders are for documents that come one in a body.
var jsonReaders sync.Pool

// jsonLines passes such documents, one a line. Empty lines are nobody's document.
func jsonLines(r *bufio.Reader, l Limits) *Fault {
	line, j := &lineReader{r: r}, newJSON(l)
	for n := 1; skipLines(r); n++ {
		line.done, line.any = false, true
		if f := j.read(line); f != nil {
			f.Detail = "in document " + itoa(n) + ": " + f.Detail
			return f
		}
	}
	if !line.any {
		return badBody("there is no document")
	}
	return nil
}

// skipLines skips empty lines and says whether there is another one.
func skipLines(r *bufio.Reader) bool {
	for {
		head, _ := r.Peek(2)
		switch {
		case len(head) == 0:
			return false
		case head[0] == '\n':
			_, _ = r.Discard(1)
		case string(head) == "\r\n":
			_, _ = r.Discard(2)
		default:
			return true
		}
	}
}

// lineReader reads to the end of a line.
type lineReader struct {
	r    *bufio.Reader
	done bool // with this line
	any  bool // document so far
}

func (l *lineReader) Read(p []byte) (int, error) {
	if l.done {
		return 0, io.EOF
	}
	for n := range p {
		b, err := l.r.ReadByte()
		if err != nil {
			return n, err
		}
		if b == '\n' {
			l.done = true
			return n, io.EOF
		}
		p[n] = b
		if l.r.Buffered() == 0 {
			return n + 1, nil
		}
	}
	return len(p), nil
}

// jsonReader reads documents. The limits are for all of them together.
type jsonReader struct {
	dec    *jsontext.Decoder
	short  shorten
	limits Limits
	values int
	name   []byte // of the value at hand, or its number
	stack  []container
	seen   map[path]struct{}
}

func newJSON(l Limits) *jsonReader {
	// A character of a name takes six bytes at most, as an escape: no name that is
	// short enough is shortened.
	return &jsonReader{limits: l, short: newShorten(6*(l.Name+2) + plainRun), seen: map[path]struct{}{}, dec: new(jsontext.Decoder)}
}

func (j *jsonReader) read(r io.Reader) *Fault {
	j.short.reset(r)
	j.dec.Reset(&j.short, jsontext.AllowDuplicateNames(true)) // seen has them
	j.stack = j.stack[:0]
	clear(j.seen)
	f := j.document()
	if f == nil {
		f = j.end()
	}
	if j.short.fault != nil {
		return j.short.fault
	}
	return f
}

// path is the hash of the names that lead to a value, each after a dot. Two
// that collide without being the same refuse an honest document once in ten
// billion; none can let a dishonest one pass.
type path uint64

// container is an object or an array that is not closed yet.
type container struct {
	at     path
	object bool
	n      int // elements of an array so far
}

func (j *jsonReader) document() *Fault {
	if k := j.dec.PeekKind(); k != '{' && k != '[' {
		if _, err := j.dec.ReadToken(); err != nil {
			return j.broken(err)
		}
		return badBody("the JSON is neither an object nor an array")
	}
	at := path(14695981039346656037) // FNV-1a
	for {
		if f := j.value(at); f != nil {
			return f
		}
		var f *Fault
		if at, f = j.next(); f != nil || len(j.stack) == 0 {
			return f
		}
	}
}

// value reads a value, of an object or array only its beginning.
func (j *jsonReader) value(at path) *Fault {
	if f := j.count(); f != nil {
		return f
	}
	token, err := j.dec.ReadToken()
	if err != nil {
		return j.broken(err)
	}
	switch k := token.Kind(); k {
	case '{', '[':
		if len(j.stack) == j.limits.Depth {
			return badBody("the JSON is nested more than %d deep", j.limits.Depth)
		}
		j.stack = append(j.stack, container{at: at, object: k == '{'})
	}
	return nil
}

// next closes what ends here, and returns the path of the value that follows.
func (j *jsonReader) next() (path, *Fault) {
	for len(j.stack) > 0 {
		top := &j.stack[len(j.stack)-1]
		switch k := j.dec.PeekKind(); {
		case k == '}' || k == ']':
			if _, err := j.dec.ReadToken(); err != nil {
				return 0, j.broken(err)
			}
			j.stack = j.stack[:len(j.stack)-1]
		case top.object:
			return j.member(top.at)
		default:
			j.name = strconv.AppendInt(j.name[:0], int64(top.n), 10)
			at := top.at.child(j.name)
			top.n++
			return at, j.once(at)
		}
	}
	return 0, nil
}

// member reads the name of a member, and returns its path.
func (j *jsonReader) member(parent path) (path, *Fault) {
	if f := j.count(); f != nil {
		return 0, f
	}
	raw, err := j.dec.ReadValue()
	if err != nil {
		return 0, j.broken(err)
	}
	if j.name, err = jsontext.AppendUnquote(j.name[:0], raw); err != nil {
		return 0, badBody("a name in the JSON is no string")
	}
	if len(j.name) > j.limits.Name {
		return 0, badBody("a name in the JSON is longer than %d bytes", j.limits.Name)
	}
	at := parent.child(j.name)
	return at, j.once(at)
}

// once refuses the path of a value that was there.
func (j *jsonReader) once(at path) *Fault {
	if _, twice := j.seen[at]; twice {
		return badBody("the JSON has two members %s (%s)", quoted(string(j.name)), quoted(string(j.dec.StackPointer())))
	}
	j.seen[at] = struct{}{}
	return nil
}

func (j *jsonReader) count() *Fault {
	if j.values++; j.values > j.limits.Values {
		return badBody("the JSON has more than %d names and values", j.limits.Values)
	}
	return nil
}

// end refuses what follows the document.
func (j *jsonReader) end() *Fault {
	if _, err := j.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return badBody("something follows the JSON document")
	}
	return nil
}

// broken names the place and not the character, which may be of a secret.
func (j *jsonReader) broken(err error) *Fault {
	switch at := quoted(string(j.dec.StackPointer())); {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return badBody("the JSON ends early, in %s", at)
	default:
		return badBody("the JSON is malformed, in or after %s", at)
	}
}

// child extends a path by a name, case folded.
func (p path) child(name []byte) path {
	p = (p ^ '.') * 1099511628211
	for i := 0; i < len(name); {
		r, n := rune(name[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(name[i:])
		}
		for r = fold(r); ; r >>= 8 {
			p = (p ^ path(r&0xff)) * 1099511628211
			if r < 0x100 {
				break
			}
		}
		i += n
	}
	return p
}

// fold is the least of the characters that differ from r in case alone.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}
