package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"edge/blocklog"
	"edge/form"
	"edge/internal/strictyaml"
	"edge/rules"
)

// uploads returns what the rules say of uploads like this one, or nil. Bodies that
// mean something only as a whole are no uploads, whatever the rules say.
func (x *exchange) uploads() *rules.Upload {
	if k := x.kind.Kind; k != form.Multipart && k != form.Other {
		return nil
	}
	asked := x.asked()
	for i := range x.app.uploads {
		if u := &x.app.uploads[i]; u.Match.MatchesAll(asked) {
			return u
		}
	}
	return nil
}

// sample holds the beginning of an upload for the WAF and lets the rest flow after it.
// What turns out to be small is held as a whole.
func (s *Server) sample(x *exchange, u *rules.Upload) (pass blocklog.Decision) {
	limit, most := int64(u.Body.Inspect), int64(u.Body.Max)
	if x.r.ContentLength > most {
		return tooLarge(most)
	}
	memory := s.spool.claim(limit)
	if memory == nil {
		return x.noRoom(errSpoolFull)
	}
	x.body = memory // given back whatever happens
	x.upload.within(timeFor(limit))
	beginning, err := io.ReadAll(io.LimitReader(x.r.Body, limit))
	if err != nil {
		return x.brokenBody(err, int64(len(beginning)))
	}
	x.upload.within(0)
	x.r.Body = decoded{io.MultiReader(bytes.NewReader(beginning), x.r.Body), x.r.Body}
	if int64(len(beginning)) < limit {
		memory.close()
		return s.holdBody(x, limit)
	}
	head, f := presentable(x.kind, beginning, x.bodyLimits())
	if f != nil && x.checksBody() {
		return faulty(f)
	}
	memory.head, x.reach = head, blocklog.InspectedPartial
	x.flow(&capped{ReadCloser: x.r.Body, left: most, most: most})
	return pass
}

// presentable makes of the beginning of a body one that is whole, so that the engine
// can take it apart: multipart is ended after the last part whose header is complete.
// What is wrong with the beginning is returned with it, unless it is that it ends.
func presentable(t form.Type, beginning []byte, limits form.Limits) ([]byte, *form.Fault) {
	if t.Kind != form.Multipart {
		return beginning, nil
	}
	var last *form.Part
	note := limits.Part
	limits.Part = func(p form.Part) { last = &p; note(p) }
	var f *form.Fault
	if err := form.Body(t, ending{bytes.NewReader(beginning)}, limits); errors.As(err, &f) {
		return beginning, f
	}
	if last == nil {
		return beginning, &form.Fault{Reason: blocklog.ReasonBodyForm, Status: http.StatusBadRequest, Detail: "the first part of the body has no end to its header"}
	}
	delimiter := []byte("\r\n--" + t.Boundary)
	content := beginning[last.Content:]
	if i := bytes.Index(content, delimiter); i >= 0 { // the next part's header is not complete
		content = content[:i]
	}
	whole := append([]byte{}, beginning[:int(last.Content)+len(content)]...)
	return append(append(whole, delimiter...), "--\r\n"...), nil
}

// errEnding says that there is more of a body than was read.
var errEnding = errors.New("the beginning ends here")

// ending is the beginning of something, of which nobody shall think it is all.
type ending struct{ io.Reader }

func (e ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errEnding
	}
	return n, err
}

// capped is a body that flows, of at most some bytes.
type capped struct {
	io.ReadCloser
	left, most int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, &refusal{tooLarge(c.most)}
	}
	return n, err
}

func tooLarge(limit int64) blocklog.Decision {
	return deny(blocklog.ReasonBodyTooLarge, http.StatusRequestEntityTooLarge, "the body is larger than %s", strictyaml.Size(limit))
}
