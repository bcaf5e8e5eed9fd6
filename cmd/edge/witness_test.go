package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"edge/blocklog"
)

// tail is a log as it grows.
type tail struct {
	path string
	at   int64
}

func (l *tail) next(t *testing.T) (events []blocklog.Event) {
	t.Helper()
	f, err := os.Open(l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, l.at, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	l.at += int64(len(text))
	for line := range bytes.Lines(text) {
		var e blocklog.Event
		if err := json.Unmarshal(line, &e); err != nil || !json.Valid(line) || len(line) > blocklog.MaxLine {
			t.Errorf("no record: %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// witness is an application that keeps all it receives.
type witness struct {
	net.Listener
	mu    sync.Mutex
	seen  bytes.Buffer
	whole int // requests
	busy  int // connections in the middle of one
	next  string
}

func bearWitness(t *testing.T) *witness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{Listener: l}
	w.answer("")
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.serve(c)
		}
	}()
	return w
}

// Write implements io.Writer.
func (w *witness) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.Write(p)
}

func (w *witness) count(busy, whole int) (answer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy, w.whole = w.busy+busy, w.whole+whole
	return w.next
}

func (w *witness) answer(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next = s; strings.TrimSpace(s) == "" {
		w.next = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	}
}

func (w *witness) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(io.TeeReader(c, w))
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		w.count(1, 0)
		req, err := http.ReadRequest(r)
		if err == nil {
			_, err = io.Copy(io.Discard, req.Body)
		}
		if err != nil {
			w.count(-1, 0)
			return
		}
		answer, hangup := strings.CutSuffix(w.count(-1, 1), "HANGUP")
		if _, err := io.WriteString(c, answer); err != nil || hangup {
			return
		}
	}
}

// take returns what has been received since the last time, and how many whole requests it was.
func (w *witness) take(t *testing.T) (seen string, whole int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		if w.busy == 0 {
			defer w.mu.Unlock()
			seen, whole = w.seen.String(), w.whole
			w.seen.Reset()
			w.whole = 0
			return seen, whole
		}
		w.mu.Unlock()
	}
	t.Fatal("the application is left waiting for the rest of a request")
	return "", 0
}
