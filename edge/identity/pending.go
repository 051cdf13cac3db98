package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skerry-edge/skerry/api"
)

// Pending is an enrolment that has begun and is not done: a join string that was given once, on the command line, serves
// the next start and the doctor too. It holds a secret; its file is 0600 and goes when there is a certificate.
type Pending struct {
	Join    string     `json:"join"`
	Waiting api.Millis `json:"waiting,omitempty"` // since when a person has to approve; 0: nobody has, as far as is known
}

const pendingName = "enrolment.json"

// LoadPending reads what dir keeps of an enrolment; the zero Pending when that is nothing.
func LoadPending(dir string) (Pending, error) {
	var p Pending
	raw, err := os.ReadFile(filepath.Join(dir, pendingName))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		return Pending{}, fmt.Errorf("read begun enrolment: %w", err)
	}
	return p, nil
}

func (p Pending) save(dir string) error {
	raw, err := json.Marshal(p)
	if err == nil {
		err = writeFile(filepath.Join(dir, pendingName), append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep begun enrolment: %w", err)
	}
	return nil
}

// dropPending forgets a begun enrolment.
func dropPending(dir string) error {
	if err := os.Remove(filepath.Join(dir, pendingName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget begun enrolment: %w", err)
	}
	return nil
}
