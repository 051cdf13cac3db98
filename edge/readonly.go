package edge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/store"
)

// openStore opens the state. A card that fails becomes read-only, and a node that has its identity can say so: it goes on with a copy of
// the state in memory, and keeps nothing.
func (a *Agent) openStore(enrolled bool) (*store.Store, error) {
	st, err := store.Open(a.cfg.Dir, a.clock.Now())
	spare := filepath.Join(a.cfg.RuntimeDir, "state")
	if !enrolled || !errors.Is(err, unix.EROFS) {
		if err == nil && os.RemoveAll(spare) != nil {
			a.log.Warn("copy of the state not removed", agent.KeyPath, spare)
		}
		return st, err
	}
	a.readOnly = clip(fmt.Sprintf("%s is read-only: telemetry, commands and settings are kept in memory alone, and are lost at a reboot", a.cfg.Dir))
	a.log.Error("state directory is read-only; nothing is kept there", agent.KeyPath, a.cfg.Dir, agent.KeyErr, err)
	if err := copyState(a.cfg.Dir, spare); err != nil {
		return nil, fmt.Errorf("copy state to memory: %w", err)
	}
	return store.Open(spare, a.clock.Now())
}

// copyState makes to a copy of the state in from, unless there is one: that knows what was done since.
func copyState(from, to string) error {
	const name = "state.db"
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(to, name)); err == nil {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(from, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	part := filepath.Join(to, "part")
	if err == nil {
		err = os.WriteFile(part, raw, 0o600)
	}
	if err == nil {
		err = os.Rename(part, filepath.Join(to, name))
	}
	return err
}

// tellReadOnly raises the alarm, once per life.
func (a *Agent) tellReadOnly() {
	if a.readOnly != "" {
		a.event(api.ClassAlarm, "state.read-only", "", a.readOnly)
	}
}
