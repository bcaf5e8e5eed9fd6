package proxy

import (
	"errors"
	"io"

	"edge/form"
)

// checked is a body that flows and is held against its type on the way. Its last
// byte is kept back until the verdict, so that the application never gets the whole of
// a body that is refused, whatever length was announced.
type checked struct {
	io.ReadCloser
	check   *io.PipeWriter
	verdict chan error
	kept    []byte // the byte kept back, or none
	err     error
}

// checking returns body, held against t.
func checking(body io.ReadCloser, t form.Type, limits form.Limits) *checked {
	r, w := io.Pipe()
	c := &checked{ReadCloser: body, check: w, verdict: make(chan error, 1)}
	go func() {
		err := form.Body(t, r, limits)
		_ = r.CloseWithError(err) // nobody writes any more, or learns why they need not
		c.verdict <- err
	}()
	return c
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if len(p) == 1 {
		var two [2]byte
		n, err := c.Read(two[:])
		return copy(p, two[:n]), err
	}
	for {
		had := copy(p, c.kept)
		n, err := c.ReadCloser.Read(p[had:])
		if n > 0 {
			if _, wrong := c.check.Write(p[had : had+n]); wrong != nil {
				c.err = c.end(wrong)
				return 0, c.err
			}
		}
		if n += had; err != nil {
			return c.last(n, err)
		}
		if n > 0 {
			n--
			c.kept = append(c.kept[:0], p[n])
		}
		if n > 0 {
			return n, nil
		}
	}
}

// last gives out what is left of a body that has ended, if it is in order.
func (c *checked) last(n int, err error) (int, error) {
	if c.err = err; !errors.Is(err, io.EOF) {
		_ = c.end(err)
		return 0, err
	}
	if wrong := c.end(nil); wrong != nil {
		c.err = wrong
		return 0, wrong
	}
	return n, err
}

// end ends the check, and returns its verdict.
func (c *checked) end(err error) error {
	_ = c.check.CloseWithError(err)
	wrong := <-c.verdict
	c.verdict <- wrong
	return wrong
}

// Close implements io.Closer.
func (c *checked) Close() error {
	_ = c.check.CloseWithError(io.ErrClosedPipe)
	return c.ReadCloser.Close()
}
