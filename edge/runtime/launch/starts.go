package launch

import (
	"fmt"
	"sync"
)

// Starts are the containers that are being started: one at a time of each. The zero value has none.
type Starts struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

// Begin is an error while id has begun already; otherwise the caller calls done when it has started, or has failed to.
func (s *Starts) Begin(id string) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, busy := s.ids[id]; busy {
		return nil, fmt.Errorf("container %s is being started", id)
	}
	if s.ids == nil {
		s.ids = map[string]struct{}{}
	}
	s.ids[id] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ids, id)
	}, nil
}

// Has reports whether id is being started.
func (s *Starts) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, busy := s.ids[id]
	return busy
}
