package form

import (
	"bufio"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// xmlBody passes one well-formed document in UTF-8 without a document type, and
// so without entities of its own, and without instructions to whoever processes it.
func xmlBody(r *bufio.Reader, l Limits) *Fault {
	if mark, _ := r.Peek(3); string(mark) == "\uFEFF" {
		_, _ = r.Discard(3)
	}
	x := xmlReader{limits: l, src: xmlSource{r: r, most: l.Token, quotes: 2 * l.Values}}
	x.dec = xml.NewDecoder(&x.src)
	x.dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // declaration has looked at it
	for {
		begin := x.dec.InputOffset()
		x.src.read, x.src.quoted = 0, 0
		token, err := x.dec.Token()
		switch {
		case x.src.fault != nil:
			return x.src.fault
		case errors.Is(err, io.EOF):
			return x.end()
		case err != nil:
			return badBody("the XML is malformed %s", position(x.dec.InputOffset()))
		}
		if f := x.token(token, begin); f != nil {
			return f
		}
	}
}

// xmlReader is a document as it is read.
type xmlReader struct {
	dec    *xml.Decoder
	src    xmlSource
	limits Limits
	depth  int
	values int
	root   bool // it has begun
	text   bool // there is some since the last tag
}

func (x *xmlReader) end() *Fault {
	if !x.root {
		return badBody("the XML has no element")
	}
	return nil
}

func (x *xmlReader) token(token xml.Token, begin int64) *Fault {
	switch t := token.(type) {
	case xml.StartElement:
		x.text = false
		return x.element(t)
	case xml.EndElement:
		x.text = false
		x.depth--
	case xml.CharData:
		// What a comment or the edge of CDATA takes apart, applications put together.
		text := strings.Trim(string(t), " \t\r\n") != ""
		if text && x.text {
			return badBody("a text of the XML is in pieces %s", position(begin))
		}
		x.text = x.text || text
		// A line end may have been two bytes; a reference and CDATA are more.
		size := int(x.dec.InputOffset() - begin)
		if x.depth == 0 && (strings.Trim(string(t), " \t\r\n") != "" || size-len(t) > strings.Count(string(t), "\n")) {
			return badBody("there is text outside of the XML's root %s", position(begin))
		}
	case xml.Directive:
		return badBody("the XML holds a DOCTYPE or another declaration %s", position(begin))
	case xml.ProcInst:
		if t.Target != "xml" || begin != 0 {
			return badBody("the XML holds the processing instruction %s", quoted(t.Target))
		}
		return declaration(string(t.Inst))
	}
	return nil
}

func (x *xmlReader) element(e xml.StartElement) *Fault {
	if x.depth == 0 && x.root {
		return badBody("the XML has two roots")
	}
	x.root = true
	if x.depth++; x.depth > x.limits.Depth {
		return badBody("the XML is nested more than %d deep", x.limits.Depth)
	}
	if x.values += 1 + len(e.Attr); x.values > x.limits.Values {
		return badBody("the XML has more than %d elements and attributes", x.limits.Values)
	}
	if len(e.Name.Local) > x.limits.Name {
		return badBody("an XML element has a name of more than %d bytes", x.limits.Name)
	}
	names := make(map[xml.Name]bool, len(e.Attr))
	for _, a := range e.Attr {
		if names[a.Name] {
			return badBody("an XML element has the attribute %s twice", quoted(a.Name.Local))
		}
		if len(a.Name.Local) > x.limits.Name {
			return badBody("an XML attribute has a name of more than %d bytes", x.limits.Name)
		}
		names[a.Name] = true
	}
	return nil
}

// declaration passes what may stand in <?xml …?>. The decoder looks for
// encoding= alone, others read it properly.
func declaration(s string) *Fault {
	allowed := []struct{ name, values string }{
		{"version", "1.0"}, {"encoding", "utf-8 us-ascii"}, {"standalone", "yes no"},
	}
	s = strings.TrimRight(s, " \t\r\n")
	if s == "" {
		return badBody("the XML declaration is malformed")
	}
	for s != "" {
		rest := strings.TrimLeft(s, " \t\r\n")
		name, value, ok := strings.Cut(rest, "=")
		for len(allowed) > 0 && allowed[0].name != name && allowed[0].name != "version" {
			allowed = allowed[1:]
		}
		if !ok || len(allowed) == 0 || allowed[0].name != name || value == "" {
			return badBody("the XML declaration is malformed")
		}
		inside, after, ok := strings.Cut(value[1:], value[:1])
		if !ok || value[0] != '"' && value[0] != '\'' || !oneOf(inside, allowed[0].values) {
			return badBody("the XML declaration has the %s %s", name, quoted(inside))
		}
		if allowed, s = allowed[1:], after; s != "" && strings.TrimLeft(s, " \t\r\n") == s {
			return badBody("the XML declaration is malformed")
		}
	}
	return nil
}

func oneOf(s, words string) bool {
	for word := range strings.FieldsSeq(words) {
		if strings.EqualFold(s, word) {
			return true
		}
	}
	return false
}

// maxReference is how much of a reference is looked at; longer numbers are refused.
const maxReference = 16

// xmlSource bounds what the decoder takes in for one token, and refuses
// references to characters that are none, which the decoder replaces.
type xmlSource struct {
	r           io.Reader
	read, most  int // bytes since the last token
	quoted      int // quotes among them
	quotes      int // how many there may be: two for each attribute
	reference   []byte
	inReference bool
	fault       *Fault
}

func (s *xmlSource) Read(p []byte) (int, error) {
	if s.fault != nil {
		return 0, s.fault
	}
	n, err := s.r.Read(p[:min(len(p), 4<<10)])
	for _, b := range p[:n] {
		s.next(b)
	}
	if s.read += n; s.read > s.most+8<<10 || s.quoted > s.quotes {
		s.fault = badBody("the XML holds a text of more than %d bytes, or too many attributes", s.most)
	}
	if s.fault != nil {
		return 0, s.fault
	}
	return n, err
}

func (s *xmlSource) next(b byte) {
	switch {
	case b == '"' || b == '\'':
		s.quoted++
	case b == '&':
		s.inReference, s.reference = true, s.reference[:0]
	case s.inReference && b == ';':
		s.inReference = false
		if ref := string(s.reference); !legalReference(ref) || len(ref) == maxReference && ref[0] == '#' {
			s.fault = badBody("the XML refers to a character that is none")
		}
	case s.inReference && len(s.reference) < maxReference:
		s.reference = append(s.reference, b)
	}
}

// legalReference says that what stands between "&" and ";" is not a number of
// what is no character of XML.
func legalReference(s string) bool {
	digits, ok := strings.CutPrefix(s, "#")
	if !ok {
		return true
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	r := rune(0)
	for i := range len(digits) {
		d := rune(hexDigit(digits[i]))
		if int(d) >= base || r > utf8.MaxRune {
			return false
		}
		r = r*rune(base) + d
	}
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && utf8.ValidRune(r) && r != 0xfffe && r != 0xffff
}
