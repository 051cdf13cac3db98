package api

import (
	"errors"
	"fmt"
	"time"
)

// Class orders what an outbox drops first when it is full: telemetry, then events, alarms last.
type Class string

// The classes, most precious first.
const (
	ClassAlarm     Class = "alarm"
	ClassEvent     Class = "event"
	ClassTelemetry Class = "telemetry"
)

// Event is something that happened on a node, numbered like a Batch but in a sequence of its own.
type Event struct {
	Epoch       uint64            `json:"epoch"`
	Seq         uint64            `json:"seq"`
	Prev        uint64            `json:"prev"`
	Boot        string            `json:"boot"`
	At          Millis            `json:"at"`
	Mono        int64             `json:"mono"`
	TimeQuality TimeQuality       `json:"timeQuality"`
	Class       Class             `json:"class"`
	Kind        string            `json:"kind"`   // what: agent.started, config.changed, probe.failed, outbox.dropped
	Object      string            `json:"object"` // to whom: a probe, a workload, a policy
	Message     string            `json:"message"`
	Data        map[string]string `json:"data,omitempty"`
}

// Validate checks e as it arrives from a node.
func (e *Event) Validate() error {
	if e.Class != ClassAlarm && e.Class != ClassEvent {
		return fmt.Errorf("class %q: wanted alarm or event", e.Class)
	}
	if e.Seq == 0 {
		return errors.New("seq is 0; the first event of an epoch is 1")
	}
	if e.Prev >= e.Seq {
		return fmt.Errorf("prev %d: wanted less than seq %d", e.Prev, e.Seq)
	}
	if e.Kind == "" {
		return errors.New("kind is empty; wanted what happened, such as probe.failed")
	}
	return errors.Join(positiveEpoch(e.Epoch), maxLen("kind", e.Kind, MaxLabelBytes), maxLen("object", e.Object, MaxLabelBytes),
		maxLen("message", e.Message, MaxReasonBytes), validLabels("data", e.Data), maxLen("boot", e.Boot, MaxIDLength))
}

// Ack is the cluster agent's word that it has stored what the node sent: every batch of Epoch up to Seq, every event up
// to Events, and the final status of each of Commands. Only now may the node forget them. 0 and empty acknowledge
// nothing. Time is the cluster agent's clock; it is not signed, and no clock is set by it.
//
// PauseMillis, when it is not 0, says that telemetry cannot be stored at present, for want of disk space or of the time: the
// node keeps what it has, all of it that is not acknowledged, and sends telemetry again after that long.
//
// RetryMillis, when it is not 0, is how long the broker takes to let all nodes of the site in, and comes once in a session: a node
// that the broker sends away, with a connection that ends before TLS has begun, comes back at a random time within that. It knows of no
// such time after its own restart, nor from the cluster agent of an external broker, and goes by its backoff then.
type Ack struct {
	Epoch    uint64   `json:"epoch"`
	Seq      uint64   `json:"seq"`
	Events   uint64   `json:"events"`
	Commands []string `json:"commands,omitempty"`
	Time     Millis   `json:"time"`

	PauseMillis int64 `json:"pauseMillis,omitempty"`
	RetryMillis int64 `json:"retryMillis,omitempty"`

	// EpochFloor tells a node whose session counter fell behind, because its state was lost or put back, which session the
	// cluster agent knows of: it begins a new one with a greater number. 0, or one that is not greater than its own: nothing.
	EpochFloor uint64 `json:"epochFloor,omitempty"`
}

// maxEpoch bounds an epoch: what a double holds exactly, and more than a node can count to.
const maxEpoch = 1 << 53

// maxPause bounds Ack.PauseMillis: a node asks again at least this often.
const maxPause = 10 * time.Minute

// MaxRetry bounds Ack.RetryMillis.
const MaxRetry = 30 * time.Minute

// Validate checks a as it arrives at a node.
func (a *Ack) Validate() error {
	if limit := maxPause.Milliseconds(); a.PauseMillis < 0 || a.PauseMillis > limit {
		return fmt.Errorf("pauseMillis %d: wanted 0 to %d", a.PauseMillis, limit)
	}
	if limit := MaxRetry.Milliseconds(); a.RetryMillis < 0 || a.RetryMillis > limit {
		return fmt.Errorf("retryMillis %d: wanted 0 to %d", a.RetryMillis, limit)
	}
	if len(a.Commands) > MaxOpenCommands {
		return fmt.Errorf("commands has %d entries; wanted at most %d", len(a.Commands), MaxOpenCommands)
	}
	if a.EpochFloor > maxEpoch {
		return fmt.Errorf("epochFloor %d: wanted at most %d", a.EpochFloor, uint64(maxEpoch))
	}
	if a.Epoch == 0 && (a.Seq != 0 || a.Events != 0) {
		return errors.New("epoch is 0 with a watermark; the first session of a node is 1")
	}
	return nil
}
