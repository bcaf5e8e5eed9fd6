package proxy

import (
	"errors"
	"io"
	"sync"

	"edge/form"
)

// checked is a body that flows and is held against its type on the way. Its last
// byte is kept back until the verdict, so that the application never gets the whole of
// a body that is refused, whatever length was announced.
type checked struct {
	io.ReadCloser
	start   func() // begins the check, once
	check   *io.PipeWriter
	verdict chan error
	kept    []byte // the byte kept back, or none
	rest    []byte // given out next: what did not fit where one byte was asked for
	err     error
}

// checking returns body, held against t. A body of which nothing is read need not be
// closed: one that is refused after this is neither.
func checking(body io.ReadCloser, t form.Type, limits form.Limits) *checked {
	r, w := io.Pipe()
	c := &checked{ReadCloser: body, check: w, verdict: make(chan error, 1)}
	c.start = sync.OnceFunc(func() {
		go func() {
			err := recovering(func() error { return form.Body(t, r, limits) })
			_ = r.CloseWithError(err) // nobody writes any more, or learns why they need not
			c.verdict <- err
		}()
	})
	return c
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case len(c.rest) > 0:
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	case c.err != nil:
		return 0, c.err
	case len(p) == 1: // as net/http asks, to see whether there is a body
		var two [2]byte
		n, err := c.Read(two[:])
		if copy(p, two[:n]); n < 2 {
			return n, err
		}
		c.rest = two[1:]
		return 1, nil // the error comes again
	}
	c.start()
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
	if c.err = err; !errors.Is(err, io.EOF) || n == 0 { // no body at all is in order, whatever it would have been
		_ = c.end(err) // what came is wrong or right; it is not all
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
