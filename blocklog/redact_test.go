package blocklog

import "testing"

// What is not looked at closely has nothing in it.
func FuzzRedactorIsNotFooled(f *testing.F) {
	for _, s := range []string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0)", "password=1", "paſſword=1", "api%20key: x", "API-KEY>x", "Basic  x", "eyJabcdefg",
		"bankAccount%3a1", "toKen\\u003d1", "x-otp\r\n\r\n1", "<my.Pin x='1'>2",
	} {
		f.Add(s)
	}
	r := NewRedactor([]string{"bank-account", "salÄr", "-"})
	f.Fuzz(func(t *testing.T, s string) {
		if m := r.text.FindString(s); m != "" && !r.suspicious(s) {
			t.Errorf("%q is in %q, which does not look like it", m, s)
		}
	})
}
