package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// pauseFor is how long a node holds its telemetry back when the store takes none.
const pauseFor = 15 * time.Second

// deferral is the state of a telemetry store that takes nothing, for want of disk space or of the time, or because it is
// being mended.
// Batches are then put off: acknowledged to MQTT, so that the link goes on for commands, but not end to end, so that
// nodes keep them, and are told to wait. Cutting the link, the only refusal that MQTT 3.1.1 has, would take the commands
// away too (docs/adr/0005).
type deferral struct {
	batches atomic.Uint64
	on      atomic.Bool

	mu  sync.Mutex
	why string
}

// putOff notes a batch of node that was not stored.
func (a *Agent) putOff(node string, err error) {
	d := &a.deferral
	d.batches.Add(1)
	a.acks.pause(node)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.why = err.Error()
	if !d.on.Swap(true) {
		a.log.Error("telemetry is put off: nodes keep theirs until it can be stored", agent.KeyErr, err)
		a.note(api.ClassAlarm, "telemetry.put_off", "tsdb", clip("raised: "+d.why))
	}
}

// takesAgain notes that a batch was stored.
func (a *Agent) takesAgain() {
	d := &a.deferral
	if !d.on.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.on.Swap(false) {
		d.why = ""
		a.log.Info("telemetry is stored again")
		a.note(api.ClassAlarm, "telemetry.put_off", "tsdb", "cleared")
	}
}

// trouble is why telemetry is put off at present, or empty.
func (d *deferral) trouble() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.why
}
