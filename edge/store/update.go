package store

var keyUpdate = []byte("update-failed")

// UpdateFailure returns what was kept of the desired version that failed last, nil when there is none. SetUpdateFailure keeps one.
func (s *Store) UpdateFailure() ([]byte, error) { return s.get(keyUpdate) }

// SetUpdateFailure keeps what became of a desired version that failed.
func (s *Store) SetUpdateFailure(doc []byte) error { return s.put(keyUpdate, doc) }
