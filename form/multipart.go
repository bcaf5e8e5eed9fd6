package form

import (
	"bufio"
	"bytes"
	"errors"
	"mime"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"edge/blocklog"
)

// What the header of a part may hold.
const (
	maxPartHeader = 8 << 10 // bytes
	maxPartLines  = 16
)

// multipartBody passes the form of RFC 7578 as browsers and clients write it:
// every line ends with CRLF, the body begins with the first delimiter and ends with
// the last and at most one CRLF, delimiters are nothing but themselves. A line of
// content that begins with the delimiter and is none is refused, and so is a
// delimiter after a bare CR or LF. Within a part, bytes are free.
func multipartBody(t Type, r *bufio.Reader, l Limits) *Fault {
	m := multipartReader{r: r, delimiter: []byte("--" + t.Boundary), limits: l, charset: t.unicode()}
	for i := range m.delimiter {
		b, err := r.ReadByte()
		if err != nil || b != m.delimiter[i] {
			return badBody("the multipart body does not begin with its boundary")
		}
		m.at++
	}
	for n := 0; ; n++ {
		more, f := m.delimited()
		if !more || f != nil {
			return f
		}
		if n == l.Parts {
			f := badBody("there are more than %d parts", l.Parts)
			f.Reason = blocklog.ReasonBodyParts
			return f
		}
		if f := m.part(n); f != nil {
			f.Detail = "part " + itoa(n+1) + ": " + f.Detail
			return f
		}
	}
}

// multipartReader is a multipart body as it is read.
type multipartReader struct {
	r         *bufio.Reader
	at        int64 // the offset that r stands at
	delimiter []byte
	limits    Limits
	charset   bool // names are UTF-8
}

// delimited reads what follows a delimiter: the end of its line, and then there
// is another part, or two dashes and the end of the body.
func (m *multipartReader) delimited() (more bool, f *Fault) {
	tail, _ := m.r.Peek(5)
	switch s := string(tail); {
	case strings.HasPrefix(s, "\r\n"):
		m.skip(2)
		return true, nil
	case s == "--", s == "--\r\n":
		m.skip(len(s))
		_, _ = m.r.Peek(1) // for the source to see the end
		return false, nil
	case strings.HasPrefix(s, "--"):
		return false, badBody("something follows the last boundary")
	case len(s) < 2:
		return false, badBody("the multipart body ends early")
	}
	return false, badBody("a boundary is followed by something else than the end of the line %s", position(m.at))
}

func (m *multipartReader) skip(n int) {
	n, _ = m.r.Discard(n)
	m.at += int64(n)
}

func (m *multipartReader) part(n int) *Fault {
	p := Part{Index: n, Header: m.at}
	names := map[string]bool{}
	for {
		line, f := m.line(p.Header)
		if f != nil {
			return f
		}
		if line == "" {
			break
		}
		if len(names) == maxPartLines {
			return badBody("there are more than %d headers", maxPartLines)
		}
		if f := m.field(&p, names, line); f != nil {
			return f
		}
	}
	if !names["content-disposition"] {
		return badBody("there is no Content-Disposition")
	}
	if p.Content = m.at; m.limits.Part != nil {
		m.limits.Part(p)
	}
	return m.content()
}

// line reads a line of a part's header that began at begin.
func (m *multipartReader) line(begin int64) (string, *Fault) {
	line, err := m.r.ReadSlice('\n')
	m.at += int64(len(line))
	switch {
	case m.at-begin > maxPartHeader || errors.Is(err, bufio.ErrBufferFull):
		return "", badBody("the header is longer than %d bytes", maxPartHeader)
	case err != nil:
		return "", badBody("the multipart body ends early")
	case !bytes.HasSuffix(line, []byte("\r\n")):
		return "", badBody("a line of the header ends without CR %s", position(m.at))
	}
	line = line[:len(line)-2]
	if bytes.HasPrefix(line, m.delimiter) {
		return "", badBody("there is a boundary within the header %s", position(m.at))
	}
	if bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) || m.charset && !utf8.Valid(line) {
		return "", badBody("the header holds a control character or is not UTF-8, before byte %d", m.at)
	}
	return string(line), nil
}

// field takes a line of the header into p.
func (m *multipartReader) field(p *Part, names map[string]bool, line string) *Fault {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		return badBody("a header is malformed")
	}
	name, value = strings.ToLower(name), strings.Trim(value, " ")
	if names[name] {
		return badBody("the header %s is given twice", quoted(name))
	}
	names[name] = true
	switch name {
	case "content-disposition":
		return m.disposition(p, value)
	case "content-type":
		t, f := ContentType([]string{value}, m.limits.Charsets)
		switch p.Media = t.Media; {
		case f != nil && f.Reason == blocklog.ReasonBodyType:
			return f
		case f != nil:
			return badBody("the Content-Type is malformed")
		case strings.HasPrefix(t.Media, "multipart/"):
			return badBody("the part is of type %s", quoted(t.Media))
		}
	case "content-transfer-encoding":
		switch p.Encoding = strings.ToLower(value); p.Encoding {
		case "7bit", "8bit", "binary":
		default:
			return badBody("the Content-Transfer-Encoding is %s", quoted(value))
		}
	}
	return nil
}

// disposition reads a Content-Disposition. A backslash is refused in it: to some
// it is an escape and to some it is not. Names are as written, since what browsers
// escape (%22, %0D, %0A) nobody decodes.
func (m *multipartReader) disposition(p *Part, value string) *Fault {
	kind, rest, _ := strings.Cut(value, ";")
	if !strings.EqualFold(strings.TrimRight(kind, " "), "form-data") {
		return badBody("the Content-Disposition is not form-data")
	}
	params, f := parameters(rest)
	if f != nil {
		return badBody("the Content-Disposition: %s", f.Detail)
	}
	p.Name, _ = find(params, "name")
	p.Filename, p.File = find(params, "filename")
	if extended, ok := find(params, extendedFilename); ok {
		if p.Filename, ok = sameName(p.Filename, extended); !ok {
			return badBody("filename and filename* are not the same name")
		}
	}
	switch {
	case p.Name == "" || len(p.Name) > m.limits.Name:
		return badBody("there is no name, or one of more than %d bytes", m.limits.Name)
	case strings.ContainsFunc(p.Name, unicode.IsControl):
		return badBody("the name holds a control character")
	}
	return oneFilename(p.Filename)
}

// sameName is the name that a filename and a filename* in UTF-8 (RFC 8187) both say.
// The plain one may be an encoded word (RFC 2047), as .NET writes what is not ASCII.
func sameName(plain, extended string) (name string, ok bool) {
	charset, rest, _ := strings.Cut(extended, "'")
	_, escaped, ok := strings.Cut(rest, "'")
	name, err := url.PathUnescape(escaped)
	if !ok || err != nil || !strings.EqualFold(charset, "utf-8") || !utf8.ValidString(name) {
		return "", false
	}
	if plain != name {
		plain, err = new(mime.WordDecoder).DecodeHeader(plain)
	}
	return name, err == nil && plain == name
}

// oneFilename refuses names that file systems and filters read in different ways.
func oneFilename(name string) *Fault {
	if name == "" {
		return nil
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	lower := strings.ToLower(name)
	switch {
	case strings.ContainsFunc(name, unicode.IsControl):
		return badBody("the filename %s holds a control character", quoted(name))
	case strings.ContainsAny(name, `/\`), strings.Contains(lower, "%2f"), strings.Contains(lower, "%5c"), strings.Contains(lower, "%00"):
		return badBody("the filename %s is a path", quoted(name))
	case unicode.IsSpace(first) || last == '.' || unicode.IsSpace(last):
		return badBody("the filename %s begins or ends with a blank, or ends with a dot", quoted(name))
	case len(name) > 1<<10:
		return badBody("the filename %s is longer than 1 KiB", quoted(name))
	}
	return nil
}

// content reads to the end of the next delimiter.
func (m *multipartReader) content() *Fault {
	before := [2]byte{0, '\n'} // what came last: the line before the content
	for {
		_, err := m.r.Peek(len(m.delimiter))
		chunk, _ := m.r.Peek(m.r.Buffered())
		if err != nil {
			return badBody("the multipart body ends early")
		}
		i := bytes.Index(chunk, m.delimiter)
		if i < 0 { // all but what may be its beginning
			n := len(chunk) - len(m.delimiter) + 1
			before = lastTwo(before, chunk[:n])
			m.skip(n)
			continue
		}
		before = lastTwo(before, chunk[:i])
		n := i + len(m.delimiter)
		switch {
		case before == [2]byte{'\r', '\n'}:
			m.skip(n)
			return nil
		case before[1] == '\r' || before[1] == '\n':
			return badBody("a boundary stands after a line that does not end with CRLF %s", position(m.at+int64(i)))
		}
		before = lastTwo(before, chunk[i:i+1])
		m.skip(i + 1)
	}
}

func lastTwo(before [2]byte, b []byte) [2]byte {
	switch n := len(b); n {
	case 0:
		return before
	case 1:
		return [2]byte{before[1], b[0]}
	default:
		return [2]byte{b[n-2], b[n-1]}
	}
}
