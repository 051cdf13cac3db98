package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// What a caller may want to tell apart.
var (
	ErrUnknown  = errors.New("no such rollout")
	ErrConflict = errors.New("rollout conflicts with another")
)

const (
	bucket = "rollout"
	// keep is how many rollouts are kept; the oldest that are over go first.
	keep = 100
)

// Store keeps rollouts. Safe for concurrent use.
type Store struct {
	db *bbolt.DB

	mu  sync.Mutex
	all map[string]api.Rollout
}

// Open reads what is kept.
func Open(db *bbolt.DB) (*Store, error) {
	s := &Store{db: db, all: map[string]api.Rollout{}}
	err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		return b.ForEach(func(k, v []byte) error {
			var r api.Rollout
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("rollout %s: %w", k, err)
			}
			s.all[r.Name] = r
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("open rollouts: %w", err)
	}
	return s, nil
}

// Create keeps a new one. No two that are not over may have a node in common. One that is over and came from an object of Kubernetes gives
// way to another object of that name.
func (s *Store) Create(r api.Rollout) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, taken := s.all[r.Name]; taken && !(old.Object && r.Object && old.By == r.By && old.State.Final()) {
		return fmt.Errorf("%w: the name %s is taken", ErrConflict, r.Name)
	}
	mine := make(map[string]bool, len(r.Members))
	for _, m := range r.Members {
		mine[m.Node] = true
	}
	for _, other := range s.all {
		if other.State.Final() {
			continue
		}
		for _, m := range other.Members {
			if mine[m.Node] {
				return fmt.Errorf("%w: node %s is in rollout %s, which is %s", ErrConflict, m.Node, other.Name, other.State)
			}
		}
	}
	if err := s.write(r); err != nil {
		return err
	}
	return s.trim()
}

// write keeps r. Caller holds mu.
func (s *Store) write(r api.Rollout) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(r.Name), raw) }); err != nil {
		return fmt.Errorf("keep rollout %s: %w", r.Name, err)
	}
	s.all[r.Name] = r
	return nil
}

// trim forgets the oldest that are over. Caller holds mu.
func (s *Store) trim() error {
	var over []api.Rollout
	for _, r := range s.all {
		if r.State.Final() {
			over = append(over, r)
		}
	}
	slices.SortFunc(over, func(a, b api.Rollout) int { return int(a.Changed - b.Changed) })
	for i := 0; len(s.all) > keep && i < len(over); i++ {
		name := over[i].Name
		if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete([]byte(name)) }); err != nil {
			return fmt.Errorf("forget rollout %s: %w", name, err)
		}
		delete(s.all, name)
	}
	return nil
}

// Change changes one, and keeps it when change says so. What change sees is a copy.
func (s *Store) Change(name string, change func(r *api.Rollout) (keep bool, err error)) (api.Rollout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.all[name]
	if !ok {
		return r, fmt.Errorf("rollout %.63q: %w", name, ErrUnknown)
	}
	r.Members = slices.Clone(r.Members)
	changed, err := change(&r)
	if err != nil || !changed {
		return r, err
	}
	count(&r)
	return r, s.write(r)
}

// Get returns one.
func (s *Store) Get(name string) (api.Rollout, error) {
	return s.Change(name, func(*api.Rollout) (bool, error) { return false, nil })
}

// List returns all, the newest first. Their members are shared, and not to be changed.
func (s *Store) List() []api.Rollout {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]api.Rollout, 0, len(s.all))
	for _, r := range s.all {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b api.Rollout) int { return int(b.Created - a.Created) })
	return out
}
