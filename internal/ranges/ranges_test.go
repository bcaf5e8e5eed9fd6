package ranges

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"203.0.113.0/24":                      "",
		"203.0.113.7":                         "",
		"203.0.113.7/32":                      "203.0.113.7",
		"2001:db8::/32":                       "",
		"2001:DB8:0::7":                       "2001:db8::7",
		"0.0.0.0/0":                           "",
		"::/0":                                "",
		"::ffff:203.0.113.7":                  "203.0.113.7",
		"::ffff:203.0.113.0/120":              "203.0.113.0/24",
		"::ffff:0:0/96":                       "0.0.0.0/0",
		" \t203.0.113.7\t until  2027-03-01 ": "203.0.113.7 until 2027-03-01",
		"203.0.113.7 # seen in May":           "",
		"203.0.113.7#seen":                    "203.0.113.7 # seen",
		"203.0.113.0/24 until 2028-02-29 # Zürich, # 2":        "",
		"203.0.113.7 # until 2027-03-01 is what we would like": "",
	} {
		if want == "" {
			want = text
		}
		if e, err := Parse(text); err != nil || e.String() != want {
			t.Errorf("%q: %q, %v", text, e, err)
		}
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                `there is no address`,
		"# only a comment":                `there is no address`,
		"127.1":                           `"127.1" is no address or range; write 10.0.0.7 or 10.0.0.0/8`,
		"2130706433":                      `is no address or range`,
		"0x7f.0.0.1":                      `is no address or range`,
		"010.0.0.1":                       `is no address or range`,
		"10.0.0.0/":                       `is no address or range`,
		"10.0.0.0/08":                     `is no address or range`,
		"10.0.0.0/33":                     `is no address or range`,
		"10.0.0.0-10.0.0.9":               `is no address or range`,
		"hr.example.com":                  `is no address or range`,
		"10.0.0.7/8":                      `"10.0.0.7/8" has bits set behind its length; did you mean 10.0.0.0/8?`,
		"::ffff:10.0.0.7/104":             `did you mean 10.0.0.0/8?`,
		"fe80::1%eth0":                    `"fe80::1%eth0" has a zone`,
		"fe80::%eth0/64":                  `has a zone`,
		"10.0.0.7 2027-03-01":             `"2027-03-01": an address is followed by until`,
		"10.0.0.7, 10.0.0.8":              `"10.0.0.7," is no address`,
		"10.0.0.7 until":                  `until "": that is no date`,
		"10.0.0.7 until tomorrow":         `until "tomorrow": that is no date; write until 2027-03-01`,
		"10.0.0.7 until 2027-02-29":       `that is no date`,
		"10.0.0.7 until 2027-03-01 12:00": `"12:00": a date is followed by # and a comment`,
		"10.0.0.7 # \x1b[31mred":          `U+001B is no character for a list`,
		"10.0.0.7 # \u202egnp.exe":        `U+202E is no character`,
		"10.0.0.7 # Z\xfcrich":            `that is not UTF-8`,
		"10.0.0.7\n10.0.0.8":              `U+000A is no character`,
	} {
		if e, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, e, err)
		}
	}
}

// The day that was written counts, to its end in UTC.
func TestUntil(t *testing.T) {
	e, err := Parse("10.0.0.7 until 2027-03-01")
	if err != nil {
		t.Fatal(err)
	}
	east := time.FixedZone("", 2*60*60)
	for now, want := range map[time.Time]bool{
		time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC):     true,
		time.Date(2027, 3, 1, 23, 59, 59, 1, time.UTC):  true,
		time.Date(2027, 3, 2, 1, 59, 59, 0, east):       true,
		time.Date(2027, 3, 2, 0, 0, 0, 0, time.UTC):     false,
		time.Date(2027, 3, 2, 2, 0, 0, 0, east):         false,
		time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC):  true,
		time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC):     false,
		time.Date(2027, 3, 1, 20, 0, 0, 0, time.Local):  true,
		time.Date(2027, 3, 10, 20, 0, 0, 0, time.Local): false,
	} {
		if e.Live(now) != want {
			t.Errorf("at %s: %v", now, !want)
		}
	}
}

func TestParseFile(t *testing.T) {
	entries, err := ParseFile("a.txt", []byte("\uFEFF# offices\r\n\r\n10.0.0.0/8 # Zürich\r\n  2001:db8::/32\n\t \n10.0.0.7 until 2027-03-01"))
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	for i, want := range []string{"10.0.0.0/8 # Zürich", "2001:db8::/32", "10.0.0.7 until 2027-03-01"} {
		if e := entries[i]; e.String() != want || e.Source != "a.txt" {
			t.Errorf("%d: %q from %q", i, e, e.Source)
		}
	}
	for _, text := range []string{"", "\uFEFF", "# nobody", "\n\n"} {
		if entries, err := ParseFile("a.txt", []byte(text)); err != nil || len(entries) != 0 {
			t.Errorf("%q: %v, %v", text, entries, err)
		}
	}
}

func TestFileFaults(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1\n\n  10.0.0.7/8 # x\n127.1\r\n10.0.0.7 until  never": "a.txt:3:3: \"10.0.0.7/8\" has bits set behind its length; did you mean 10.0.0.0/8?\n" +
			"a.txt:4:1: \"127.1\" is no address or range; write 10.0.0.7 or 10.0.0.0/8\n" +
			"a.txt:5:17: until \"never\": that is no date; write until 2027-03-01",
		"10.0.0.1 # ä\x00":     "a.txt:1:13: U+0000 is no character for a list",
		"# \xff":               "a.txt:1:3: that is not UTF-8; is it a list at all?",
		"10.0.0.1\r10.0.0.2\r": "a.txt:1:9: U+000D is no character for a list",
		"\xff\xfe1\x000\x00":   "a.txt:1:1: that is not UTF-8; is it a list at all?",
		"10.0.0.1 #" + strings.Repeat("x", MaxLine): "a.txt:1:1: the line is longer than 1024 bytes",
	} {
		if _, err := ParseFile("a.txt", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.40q:\n%v", text, err)
		}
	}
	_, err := ParseFile("a.txt", []byte(strings.Repeat("<td>\n", 1000)))
	if err == nil || strings.Count(err.Error(), "\n") != maxFaults || !strings.HasSuffix(err.Error(), "a.txt: has more faults, from line 21 on; is it a list at all?") {
		t.Error(err)
	}
	_, err = parseFile("a.txt", []byte("::1\n# two\n::2\n::3\n"), 2)
	if err == nil || err.Error() != "a.txt:4:1: a list has at most 2 entries" {
		t.Error(err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, MaxFile+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir: "is no file", "/dev/zero": "is no file", large: "is larger than 128 MiB", filepath.Join(dir, "none"): "no such file",
	} {
		if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Whatever a list file holds, there is a list or a fault with a place, and what
// was understood can be written down and read again.
func FuzzParseFile(f *testing.F) {
	f.Add([]byte("\uFEFF# a\r\n10.0.0.0/8 until 2027-03-01 # b\n\n::ffff:10.0.0.7\n"))
	f.Add([]byte("127.1\nfe80::1%eth0\n10.0.0.7/8\n\x00\xff\r"))
	f.Add([]byte("10.0.0.1 until 9999-12-31#\n0.0.0.0/0 until 0000-01-01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ParseFile("a.txt", data)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "a.txt:") {
					t.Errorf("a fault without a place: %s", line)
				}
			}
			return
		}
		for _, e := range entries {
			again, err := Parse(e.String())
			again.Source = e.Source
			if err != nil || again != e || e.Prefix != e.Prefix.Masked() || e.Prefix.Addr().Is4In6() {
				t.Errorf("%q is %q, %v", e, again, err)
			}
		}
	})
}

func BenchmarkParseFile(b *testing.B) {
	text := []byte(strings.Repeat("203.0.113.0/24 # scanner seen in May\n2001:db8:1234::/48 until 2027-03-01\n", 500))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := ParseFile("a.txt", text); err != nil {
			b.Fatal(err)
		}
	}
}

func TestClient(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8::1": "2001:db8::/64", "2001:db8:0:1:ffff::%eth0": "2001:db8:0:1::/64",
	} {
		if got := Client(netip.MustParseAddr(text)); got.String() != want {
			t.Errorf("%s is counted as %s", text, got)
		}
	}
	if Client(netip.Addr{}).IsValid() {
		t.Error("no address is somebody")
	}
}
