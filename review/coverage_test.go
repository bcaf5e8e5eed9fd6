package review

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"edge/blocklog"
)

func TestRoute(t *testing.T) {
	for path, want := range map[string]string{
		"/":                   "/",
		"/api/employees":      "/api/employees",
		"/api/employees/7":    "/api/employees/*",
		"/api/v2/entries/42/": "/api/v2/entries/*/",
		"/o/3f2504e0-4f89-41d3-9a0c-0305e82c3301/x": "/o/*/x",
		"/o/aabbccdd-eeff-4aaa-baaa-aabbccddeeff":   "/o/*",
		"/blob/deadbeef":                    "/blob/*",
		"/blob/DEADBEE":                     "/blob/DEADBEE",
		"/decade-facade":                    "/decade-facade",
		"/u/ann@example.com":                "/u/*",
		"/week/2027-03-01/report":           "/week/*/report",
		"/week/01.03.2027":                  "/week/*",
		"/inv/INV-2027-0001.pdf":            "/inv/*",
		"/t/eyJhbGciOiJIUzI1NiJ9abc":        "/t/*",
		"/docs/terms-and-conditions-of-use": "/docs/terms-and-conditions-of-use",
		"/p/" + strings.Repeat("x", 60):     "/p/*",
		"/s/q1w2":                           "/s/q1w2",
		strings.Repeat("/a", 20):            strings.Repeat("/a", 9) + "/**",
		"":                                  "",
	} {
		if got := Route("GET", path); got != "GET "+want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for method, want := range map[string]string{"POST": "POST /", "": " /", "get": "* /", "QQQQQQQQQQQQ": "* /", "A\x1bB": "* /"} {
		if got := Route(method, "/"); got != want {
			t.Errorf("%q: %s", method, got)
		}
	}
	if got := Route("GET", "/"+strings.Repeat("é/", 9)+strings.Repeat("y z", 2000)); len(got) > 4+maxRoute {
		t.Errorf("a route of %d bytes", len(got))
	}
}

func TestCoverage(t *testing.T) {
	c := NewCoverage()
	add := func(n int, app, path, inspection string, action blocklog.Action) {
		for range n {
			e := blocklog.Event{HTTP: blocklog.HTTP{Request: blocklog.Request{Method: "GET"}}, URL: blocklog.URL{Path: path},
				Edge: blocklog.Edge{App: app, Inspection: inspection, Action: action}}
			c.Add(&e)
		}
	}
	add(8, "hr", "/a/1", blocklog.InspectedFull, "")
	add(2, "hr", "/a/2", blocklog.InspectedHeaders, "")
	add(3, "hr", "/b", blocklog.InspectedNone, "")
	add(5, "hr", "/c", blocklog.InspectedNone, blocklog.Deny)
	add(1, "time", "/d", blocklog.InspectedPartial, "")
	add(4, "", "/e", blocklog.InspectedNone, blocklog.Deny)
	add(2, "hr", "/old", "", "")
	want := []Seen{
		{App: "hr", Route: "GET /b", Requests: 3, None: 3},
		{App: "time", Route: "GET /d", Requests: 1, Partial: 1},
		{App: "hr", Route: "GET /a/*", Requests: 10, Full: 8, Headers: 2},
		{App: "hr", Route: "GET /c", Requests: 5, Refused: 5},
	}
	if got := c.Rows(); fmt.Sprint(got) != fmt.Sprint(want) || c.Silent != 2 {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if sums := c.Apps(); len(sums) != 2 || sums[1] != (Seen{App: "hr", Requests: 18, Full: 8, Headers: 2, None: 3, Refused: 5}) {
		t.Errorf("%+v", sums)
	}
	var out bytes.Buffer
	if err := c.Print(&out, 2); err != nil || !strings.Contains(out.String(), "8 (44.4%)") || !strings.Contains(out.String(), "2 more routes") || !strings.Contains(out.String(), "2 older") {
		t.Errorf("%v\n%s", err, out.String())
	}
	for i := range 2 * maxRoutes {
		add(1, "hr", "/"+strings.Repeat("a", i%40)+strings.Repeat("z", i/40), blocklog.InspectedFull, "")
	}
	if n := len(c.rows); n > maxRoutes+2 {
		t.Errorf("%d routes", n)
	}
}
