package main_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// call is one connection to the door.
type call struct {
	name, host, sni, from, hello string
	hangup                       bool
	raw, answer                  string
	want                         string
	all                          string   // that the application received
	claims                       []string // "+ text" and so on
}

var (
	repeated = regexp.MustCompile(`\{([^{}]*)\*(\d+)\}`)
	packed   = regexp.MustCompile(`(?s)\[\[(gzip|deflate) (.*?)\]\]`)
)

// readCalls reads a file of cases.
func readCalls(t *testing.T, file string) (calls []call) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut("\n"+string(text), "\n== ")
	for part := range strings.SplitSeq(rest, "\n== ") {
		head, part, _ := strings.Cut(part, "\n")
		request, want, ok := strings.Cut("\n"+part, "\n=> ")
		if !ok {
			t.Fatalf("%s: %s: no expectation", file, head)
		}
		c := call{}
		request, answer, _ := strings.Cut(request, "\n<=")
		lines := strings.Split(strings.TrimRight(want, "\n"), "\n")
		c.want = lines[0]
		var variants, all, claims []string
		for _, line := range lines[1:] {
			switch kind, text, _ := strings.Cut(line, " "); kind {
			case "X":
				variants = append(variants, text)
			case "|":
				all = append(all, text+"\n")
			case "+", "-", ">", "<":
				claims = append(claims, line)
			}
		}
		words := strings.Fields(head)
		var apps []string
		for _, w := range words[1:] {
			switch key, value, _ := strings.Cut(w, "="); {
			case w == "@all":
				apps = append(apps, "block", "detect", "off")
			case w[0] == '@':
				apps = append(apps, w[1:])
			case w == "hangup":
				c.hangup = true
			case key == "sni":
				c.sni = value
			case key == "from":
				c.from = value
			case key == "hello":
				c.hello = unescape(t, strings.ReplaceAll(value, "_", " "))
			default:
				t.Fatalf("%s: %s: %s", file, head, w)
			}
		}
		if apps == nil {
			apps = []string{"block"}
		}
		for _, app := range apps {
			for i, x := range append(variants, "")[:max(1, len(variants))] {
				c := c
				c.name, c.host = words[0], app+".test"
				if len(variants) > 0 {
					c.name += "/" + strconv.Itoa(i+1)
				}
				if len(apps) > 1 {
					c.name += "/" + app
				}
				fill := strings.NewReplacer("$APP", c.host, "$X", strings.ReplaceAll(x, "$APP", c.host))
				c.raw = wireForm(t, fill.Replace(strings.TrimPrefix(request, "\n")+"\n"))
				c.answer = wireForm(t, strings.TrimPrefix(answer+"\n", "\n"))
				c.all = wireForm(t, fill.Replace(strings.Join(all, "")))
				c.claims = strings.Split(fill.Replace(strings.Join(claims, "\n")), "\n")
				calls = append(calls, c)
			}
		}
	}
	return calls
}

// wireForm makes bytes of lines.
func wireForm(t *testing.T, lines string) string {
	for repeated.MatchString(lines) {
		lines = repeated.ReplaceAllStringFunc(lines, func(s string) string {
			m := repeated.FindStringSubmatch(s)
			n, _ := strconv.Atoi(m[2])
			return strings.Repeat(m[1], n)
		})
	}
	s := unescape(t, strings.ReplaceAll(strings.ReplaceAll(lines, "\n", `\r\n`), `\\r\n`, ""))
	s = packed.ReplaceAllStringFunc(s, func(s string) string {
		m := packed.FindStringSubmatch(s)
		var b bytes.Buffer
		var w io.WriteCloser = gzip.NewWriter(&b)
		if m[1] == "deflate" {
			w = zlib.NewWriter(&b)
		}
		_, _ = io.WriteString(w, m[2])
		_ = w.Close()
		return b.String()
	})
	head, body, _ := strings.Cut(s, "\r\n\r\n")
	return strings.Replace(s, "$LENGTH", strconv.Itoa(len(body)), strings.Count(head, "$LENGTH"))
}

func unescape(t *testing.T, s string) string {
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%v: %.200q", err, s)
	}
	return out
}
