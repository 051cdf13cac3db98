package vnode

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/skerry-edge/skerry/agent"
)

// Faults are the devices that do not agree with their Nodes, and why. Safe for concurrent use.
type Faults struct {
	log  *slog.Logger
	room *room

	mu   sync.Mutex
	byID map[string]string
}

// note keeps the newest error of a device; nil: it is well. It is logged when it is another one than before.
func (f *Faults) note(id string, err error) {
	f.mu.Lock()
	was := f.byID[id]
	switch {
	case err == nil:
		delete(f.byID, id)
	case f.byID == nil:
		f.byID = map[string]string{id: err.Error()}
	default:
		f.byID[id] = err.Error()
	}
	f.mu.Unlock()
	if err != nil && err.Error() != was {
		f.log.Warn("device and its node do not agree; it is tried again", agent.KeyNode, id, agent.KeyErr, err)
	}
}

// troubleNames is how many devices Trouble names.
const troubleNames = 3

// NoRoom says why a device has no Node although it runs workloads: there is no room for one. Empty: that is not so.
func (f *Faults) NoRoom(id string) string { return f.room.why(id) }

// Trouble is a line for each kind of trouble.
func (f *Faults) Trouble() []string {
	out := f.room.trouble()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.byID) == 0 {
		return out
	}
	ids := slices.Sorted(maps.Keys(f.byID))
	shown := ids[:min(len(ids), troubleNames)]
	return append(out, fmt.Sprintf("%d devices do not agree with their nodes, such as %s: %.300s; it is tried again", len(ids), strings.Join(shown, ", "), f.byID[ids[0]]))
}
