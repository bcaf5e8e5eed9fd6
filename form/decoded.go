package form

import (
	"bufio"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"

	"edge/blocklog"
)

// How far a compressed body may grow.
const (
	maxRatio = 20
	slack    = 64 << 10
)

// Decoded returns what r holds in a coding as [Coding] returns it; r itself where
// that is "". Deflate is the zlib format (RFC 1950), which the standard means, and
// never the raw one that some servers guess at. One stream is all there may be:
// data after it is refused, and so are further members of gzip, which some readers
// read and others drop.
//
// It fails with a *[Fault] where the stream is malformed or ends early (400), or
// where it grows to more than 20 times its size and 64 KiB (413), and with the
// error of r where that fails.
func Decoded(coding string, r io.Reader) io.Reader {
	if coding == "" {
		return r
	}
	src := &source{Reader: r}
	return &decoder{coding: coding, src: src, packed: &counter{bufio.NewReaderSize(src, 4<<10), 0}}
}

// counter counts what is taken of a reader. Decompressors take from an
// io.ByteReader no more than they need.
type counter struct {
	*bufio.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// decoder reads a compressed body.
type decoder struct {
	coding string
	src    *source
	packed *counter
	plain  io.Reader // nil until the first Read
	n      int64     // bytes of it so far
	err    error
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.err == nil && d.plain == nil {
		d.err = d.open()
	}
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.plain.Read(p)
	if err != nil {
		d.err = d.ended(err)
	}
	if d.n += int64(n); d.n > slack+maxRatio*d.packed.n {
		n = 0
		d.err = fault(blocklog.ReasonBodyTooLarge, http.StatusRequestEntityTooLarge,
			"the %s body grows to more than %d times its size, after %d bytes", d.coding, maxRatio, d.packed.n)
	}
	return n, d.err
}

func (d *decoder) open() error {
	if d.coding == "deflate" {
		plain, err := zlib.NewReader(d.packed)
		if err != nil {
			return d.broken(err)
		}
		d.plain = plain
		return nil
	}
	plain, err := gzip.NewReader(d.packed)
	if err != nil {
		return d.broken(err)
	}
	plain.Multistream(false)
	d.plain = plain
	return nil
}

// ended is what the end of the stream means, or its failure.
func (d *decoder) ended(err error) error {
	if !errors.Is(err, io.EOF) || d.src.err != nil {
		return d.broken(err)
	}
	_, err = d.packed.Peek(1)
	switch {
	case d.src.err != nil:
		return d.src.err
	case err == nil:
		return badCoding("something follows the %s body, after %d bytes", d.coding, d.packed.n)
	}
	return io.EOF
}

func (d *decoder) broken(err error) error {
	switch {
	case d.src.err != nil:
		return d.src.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return badCoding("the %s body ends early", d.coding)
	}
	return badCoding("the %s body is malformed, after %d bytes", d.coding, d.packed.n)
}

func badCoding(format string, args ...any) *Fault {
	return fault(blocklog.ReasonBodyEncoding, http.StatusBadRequest, format, args...)
}
