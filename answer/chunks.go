package answer

import "bytes"

const (
	maxChunkLine = 256     // the size of a chunk and its extensions
	maxTrailer   = 8 << 10 // all trailers
)

// chunks follows a chunked body as it passes: every size is hexadecimal digits,
// every line and every chunk ends in CRLF, extensions hold no control characters,
// trailers are fields like any other and say nothing about framing.
type chunks struct {
	step chunkStep
	left uint64 // of the size being read, or of the chunk
	seen int    // bytes of the line
	tail []byte // the trailers so far
}

type chunkStep uint8

const (
	atSize chunkStep = iota
	inExtension
	atSizeLF
	inData
	atDataCR
	atDataLF
	inTrailer
	atEnd
)

// pass follows b and returns how many bytes of it belong to the body.
func (c *chunks) pass(b []byte) (n int, err error) {
	for n < len(b) && c.step != atEnd {
		if c.step == inData {
			take := int(min(c.left, uint64(len(b)-n)))
			n += take
			if c.left -= uint64(take); c.left == 0 {
				c.step = atDataCR
			}
			continue
		}
		if err := c.next(b[n]); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (c *chunks) next(b byte) error {
	switch c.step {
	case atSize:
		return c.size(b)
	case inExtension:
		return c.extension(b)
	case atSizeLF:
		if b != '\n' {
			return malformed("the size of a chunk does not end in CRLF")
		}
		if c.step, c.seen = inData, 0; c.left == 0 {
			c.step = inTrailer
		}
	case atDataCR, atDataLF:
		if b != "\r\n"[c.step-atDataCR] {
			return malformed("a chunk is not as long as it says")
		}
		if c.step++; b == '\n' {
			c.step = atSize
		}
	case inTrailer:
		return c.trailer(b)
	}
	return nil
}

func (c *chunks) size(b byte) error {
	switch {
	case class[b]&hex != 0 && c.seen < 15:
		c.seen++
		c.left = c.left<<4 | uint64(digit(b))
	case c.seen == 0 || class[b]&hex != 0:
		return malformed("the size of a chunk is no number")
	case b == '\r':
		c.step = atSizeLF
	case b == ';':
		c.step = inExtension
	default:
		return malformed("the size of a chunk is no number")
	}
	return nil
}

func digit(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return b&^0x20 - 'A' + 10
}

func (c *chunks) extension(b byte) error {
	c.seen++
	switch {
	case b == '\r':
		c.step = atSizeLF
	case class[b]&text == 0 || c.seen > maxChunkLine:
		return malformed("the extension of a chunk is too long or holds a control character")
	}
	return nil
}

// trailer collects the trailers up to their end.
func (c *chunks) trailer(b byte) error {
	if c.tail = append(c.tail, b); len(c.tail) > maxTrailer {
		return malformed("trailers of more than %d bytes", maxTrailer)
	}
	if b != '\n' {
		return nil
	}
	line, _, ok := cutLine(c.tail[c.seen:])
	c.seen = len(c.tail)
	switch {
	case !ok:
		return malformed("a trailer does not end in CRLF")
	case len(line) == 0:
		c.step, c.tail = atEnd, nil
		return nil
	}
	name, _, err := parseField(line)
	if err == nil && (is(name, "content-length") || is(name, "transfer-encoding") || is(name, "trailer")) {
		err = malformed("a trailer is called %s", bytes.ToLower(name))
	}
	return err
}
