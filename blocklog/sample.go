package blocklog

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// maxClients is how many clients are told apart in a minute.
const maxClients = 50_000

// sample lets so many requests of one client a minute be recorded that were refused,
// or would have been. A client who is refused a thousand times a second would
// otherwise push what others did out of the log.
type sample struct {
	most   int // 0: any number
	logger *zap.Logger

	mu     sync.Mutex
	minute time.Time
	seen   map[string]int
	out    uint64 // in all
	lately uint64 // in this minute
}

// takes reports whether one more request of client is recorded.
func (s *sample) takes(client string, now time.Time) bool {
	if s.most == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.minute) >= time.Minute || now.Before(s.minute) {
		s.turn(now)
	}
	if _, known := s.seen[client]; !known && len(s.seen) >= maxClients {
		client = "" // all others together
	}
	if s.seen[client]++; s.seen[client] <= s.most {
		return true
	}
	s.out++
	s.lately++
	return false
}

// turn begins another minute, and says what was left out in the last.
func (s *sample) turn(now time.Time) {
	if s.lately > 0 {
		worst := ""
		for client, n := range s.seen {
			if n > s.seen[worst] {
				worst = client
			}
		}
		s.logger.Warn("records were left out: clients were refused too often (log.max_per_client)",
			zap.Uint64("left_out", s.lately), zap.String("most_of", worst), zap.Int("refused", s.seen[worst]), zap.Time("in_the_minute_of", s.minute))
	}
	s.minute, s.seen, s.lately = now, map[string]int{}, 0
}

// leftOut is how many requests were not recorded.
func (s *sample) leftOut() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out
}
