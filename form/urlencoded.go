package form

import "bufio"

// formBody passes what encoders of application/x-www-form-urlencoded make: no
// raw control characters, only %HH for escapes, UTF-8 without NUL once decoded, no
// more parameters than allowed. UTF-8 that is not escaped passes, since many
// clients send it. What begins as JSON, XML or a quoted string is no form, and
// neither is what has neither "=" nor "&" and is more than one word.
func formBody(t Type, r *bufio.Reader, l Limits) *Fault {
	u := urlencoded{text: runes{off: !t.unicode()}, params: 1, most: l.Params}
	return each(r, u.next, u.end)
}

// urlencoded is a form as it is read.
type urlencoded struct {
	text         runes
	params, most int

	digits int  // that an escape still lacks
	high   byte // the first of them
	begun  bool // something else than a blank was there
	odd    bool // something else than a word was there
	pairs  bool // "=" or "&" was there
}

func (u *urlencoded) next(b byte, at int64) *Fault {
	if u.digits > 0 {
		return u.digit(b, at)
	}
	if !u.begun && b != ' ' {
		switch u.begun = true; b {
		case '{', '[', '"', '<':
			return badBody("the form begins with %q, as other types of body do", b)
		}
	}
	switch {
	case control(b):
		return badBody("the form holds a raw control character %s", position(at))
	case b == '%':
		u.digits = 2
		return nil
	case b == '&':
		u.pairs = true
		if u.params++; u.params > u.most {
			return badBody("the form has more than %d parameters", u.most)
		}
	case b == '=':
		u.pairs = true
	case !wordByte(b) && b != '-' && b != '.' && b != '_' && b != '~' && b != '+' && b != '*':
		u.odd = true
	}
	return u.decoded(b, at)
}

// digit takes a digit of an escape.
func (u *urlencoded) digit(b byte, at int64) *Fault {
	d := hexDigit(b)
	if d == 16 {
		return badBody("the form holds an escape that is none, %s", position(at))
	}
	if u.digits--; u.digits == 1 {
		u.high = d
		return nil
	}
	if b = u.high<<4 | d; b == 0 {
		return badBody("the form holds NUL %s", position(at))
	}
	return u.decoded(b, at)
}

func (u *urlencoded) decoded(b byte, at int64) *Fault {
	if !u.text.next(b) {
		return badBody("the form is not UTF-8 %s", position(at))
	}
	return nil
}

func (u *urlencoded) end() *Fault {
	switch {
	case u.digits > 0:
		return badBody("the form ends within an escape")
	case u.text.left > 0:
		return badBody("the form ends within a character")
	case u.odd && !u.pairs:
		return badBody("the form has no parameter, and is not one word")
	}
	return nil
}
