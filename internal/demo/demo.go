// Package demo holds three small applications such as an edge stands in front
// of: personnel records (HR), activity tracking and timesheets. "edge demo"
// serves them, and tests use them as real upstreams.
//
// They trust their input no more than a demonstration needs, keep what they are
// sent in memory, and have among them what breaks in front of careless edges: a
// login that can fail, JSON APIs, an upload, a WebSocket and an event stream.
package demo

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// App is one of the applications.
type App struct {
	Name    string // hr, track or time
	Title   string
	Handler http.Handler
}

// Password is what every user of the sample applications signs in with.
const Password = "correct horse"

// Apps returns the three applications, fresh.
func Apps() []App {
	return []App{
		{"hr", "Personnel", hr()},
		{"track", "Activity tracking", track()},
		{"time", "Timesheets", timesheets()},
	}
}

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// base is what all three have: a page, a login and a profile.
func base(title, about string) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, map[string]string{
			"Title": title, "About": about, "User": user(r), "Tenant": strings.Split(r.Host, ".")[0],
		})
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("password") != Password {
			http.Error(w, "wrong name or password", http.StatusUnauthorized)
			return
		}
		http.SetCookie(w, &http.Cookie{
			Name: "session", Value: r.FormValue("email"), Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
		})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	return mux
}

func user(r *http.Request) string {
	if c, err := r.Cookie("session"); err == nil {
		return c.Value
	}
	return "nobody"
}

// hr keeps employees and takes documents.
func hr() http.Handler {
	type employee struct {
		Name string `json:"name"`
		City string `json:"city"`
	}
	people := []employee{{"Siobhán O'Brien", "Galway"}, {"José Núñez", "Sevilla"}, {"Ann & Bob Ltd", "Leeds"}}
	mux := base("Personnel", "Employees and their documents.")
	mux.HandleFunc("GET /api/employees", func(w http.ResponseWriter, r *http.Request) {
		found := []employee{}
		for _, p := range people {
			if strings.Contains(strings.ToLower(p.Name), strings.ToLower(r.FormValue("q"))) {
				found = append(found, p)
			}
		}
		reply(w, found)
	})
	mux.HandleFunc("PUT /api/employees/{id}", echoJSON)
	mux.HandleFunc("DELETE /api/employees/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /documents", func(w http.ResponseWriter, r *http.Request) {
		file, header, err := r.FormFile("document")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		n, err := io.Copy(io.Discard, file)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, map[string]any{"name": header.Filename, "bytes": n})
	})
	return mux
}

// track takes what desktop agents report, and shows it live.
func track() http.Handler {
	mux := base("Activity tracking", "What desktop agents report, as it comes.")
	mux.HandleFunc("POST /api/events", echoJSON)
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) { // a WebSocket that sends back what it gets
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // the edge is in front
		if err != nil {
			return
		}
		defer c.CloseNow() //nolint:errcheck // it may be closed already
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, data); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) { // server-sent events, one a second
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 1; ; n++ {
			if _, err := fmt.Fprintf(w, "data: event %d\n\n", n); err != nil || control.Flush() != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	return mux
}

// timesheets keeps entries with free text in them.
func timesheets() http.Handler {
	var mu sync.Mutex
	var entries []json.RawMessage
	mux := base("Timesheets", "Hours and notes.")
	mux.HandleFunc("GET /api/entries", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		reply(w, append([]json.RawMessage{}, entries...))
	})
	mux.HandleFunc("POST /api/entries", func(w http.ResponseWriter, r *http.Request) {
		var entry json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&entry); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		entries = append(entries[max(0, len(entries)-99):], entry)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(entry)
	})
	mux.HandleFunc("PATCH /api/entries/{id}", echoJSON)
	mux.HandleFunc("GET /reports/{file}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "report %s\n", r.PathValue("file"))
	})
	return mux
}

// echoJSON sends a JSON body back.
func echoJSON(w http.ResponseWriter, r *http.Request) {
	var v any
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply(w, v)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that left needs no answer
}
