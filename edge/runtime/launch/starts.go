package launch

import (
	"errors"
	"sync"
)

// Starts are the containers that are being started: one at a time of each. The zero value has none.
type Starts struct {
	mu  sync.Mutex
	ids map[string]bool
}

// Begin is an error while id has begun already; otherwise the caller calls End when it has started, or has failed to.
func (s *Starts) Begin(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[id] {
		return errors.New("container " + id + " is being started")
	}
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	s.ids[id] = true
	return nil
}

// End lets id begin anew.
func (s *Starts) End(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
}

// Has reports whether id is being started.
func (s *Starts) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}
