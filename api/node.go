package api

import (
	"errors"
	"fmt"
)

// NodeState is what a node says of itself on its state topic.
type NodeState string

// The states of the wire. Lost is only ever a last will.
const (
	StateOnline   NodeState = "online"
	StateSleeping NodeState = "sleeping"
	StateDraining NodeState = "draining"
	StateOffline  NodeState = "offline"
	StateLost     NodeState = "lost"
)

// State is the retained presence of a node. Epoch counts its MQTT sessions and never falls, also across restarts; a
// last will carries the epoch of the session it belongs to, so that a late one is told from a current one. Boot is the
// kernel's boot id. Wake is when a sleeping node expects to be back, 0 when it cannot say.
type State struct {
	State  NodeState `json:"state"`
	Epoch  uint64    `json:"epoch"`
	Boot   string    `json:"boot"`
	At     Millis    `json:"at"`
	Reason string    `json:"reason,omitempty"`
	Wake   Millis    `json:"wake,omitempty"`
}

// Validate checks s as it arrives from a node.
func (s *State) Validate() error {
	switch s.State {
	case StateOnline, StateSleeping, StateDraining, StateOffline, StateLost:
	default:
		return fmt.Errorf("state %q: wanted online, sleeping, draining, offline or lost", s.State)
	}
	return errors.Join(positiveEpoch(s.Epoch), maxLen("boot", s.Boot, MaxIDLength), maxLen("reason", s.Reason, MaxReasonBytes))
}

// TimeQuality tells how far a node's clock can be believed.
type TimeQuality string

// From best to worst: disciplined by NTP or the like; corrected by the cluster agent's signed hint; merely not before
// the last time the node is sure of.
const (
	TimeSynced TimeQuality = "synced"
	TimeHinted TimeQuality = "hinted"
	TimeFloor  TimeQuality = "floor"
)

// Birth is the retained self-description of a node, published on every connect.
type Birth struct {
	Node           string            `json:"node"`
	Cluster        string            `json:"cluster"`
	Epoch          uint64            `json:"epoch"`
	Boot           string            `json:"boot"`
	At             Millis            `json:"at"`
	TimeQuality    TimeQuality       `json:"timeQuality"`
	Started        Millis            `json:"started"` // of the agent process
	Version        string            `json:"version"`
	Host           Host              `json:"host"`
	Labels         map[string]string `json:"labels,omitempty"`
	Runtimes       []string          `json:"runtimes,omitempty"`
	Renews         bool              `json:"renews,omitempty"` // what is sealed anew for a workload is taken without a new start
	Sensors        []Sensor          `json:"sensors,omitempty"`
	Probes         []Probe           `json:"probes,omitempty"`
	Verbs          []Verb            `json:"verbs,omitempty"`
	Certificate    Certificate       `json:"certificate"`
	Key            []byte            `json:"key,omitempty"` // SubjectPublicKeyInfo; what is for this node alone is sealed to it, if it is the one enrolled
	Backlog        Backlog           `json:"backlog"`
	IntervalMillis int64             `json:"intervalMillis"` // between telemetry batches
	AutonomyMillis int64             `json:"autonomyMillis"` // how long the node may be out of touch before it counts as lost
	Desired        Revision          `json:"desired"`        // what it last accepted; compared on every connect
	OpenCommands   []string          `json:"openCommands,omitempty"`
	Claim          *Claim            `json:"claim,omitempty"` // the greatest that it obeys
}

// Host is the machine under a node agent. Counts and sizes are 0 when the kernel does not tell.
type Host struct {
	Hostname    string `json:"hostname"`
	OS          string `json:"os"`     // PRETTY_NAME of os-release
	Kernel      string `json:"kernel"` // uname -r
	Arch        string `json:"arch"`   // GOARCH, with the ARM level: amd64, armv7
	CPUs        int    `json:"cpus"`
	MemoryBytes uint64 `json:"memoryBytes"`
	DiskBytes   uint64 `json:"diskBytes,omitempty"` // of the file system that holds workloads
	Model       string `json:"model,omitempty"`     // device tree or DMI product name
}

// Sensor is something attached to the node that measures.
type Sensor struct {
	Kind  string `json:"kind"`
	Model string `json:"model,omitempty"`
}

// Probe is a source of telemetry on the node. Error is the last failure, empty while it works.
type Probe struct {
	Name           string `json:"name"`
	IntervalMillis int64  `json:"intervalMillis"`
	Error          string `json:"error,omitempty"`
}

// Certificate tells which client certificate a node uses. SHA256 is the lower-case hex digest of its DER form.
type Certificate struct {
	SHA256   string `json:"sha256"`
	NotAfter Millis `json:"notAfter"`
}

// Backlog is what a node still holds unacknowledged, and what it had to drop, by class, since it enrolled.
type Backlog struct {
	Batches int     `json:"batches"`
	Events  int     `json:"events"`
	Bytes   int64   `json:"bytes"`
	Oldest  Millis  `json:"oldest,omitempty"`
	Dropped Dropped `json:"dropped"`
}

// Dropped counts what the outbox gave up because a bound of its policy was reached, since the node enrolled.
// Downsampled samples were merged into the ones kept and count apart from those lost outright.
type Dropped struct {
	Alarms      uint64 `json:"alarms"`
	Events      uint64 `json:"events"`
	Batches     uint64 `json:"batches"`
	Samples     uint64 `json:"samples"`
	Downsampled uint64 `json:"downsampled"`
}

// Revision identifies a document: a generation that only grows, and the SHA-256 (lower-case hex) of its bytes.
type Revision struct {
	Generation uint64 `json:"generation"`
	Hash       string `json:"hash,omitempty"`
}

// Validate checks b as it arrives from a node.
func (b *Birth) Validate() error {
	switch b.TimeQuality {
	case TimeSynced, TimeHinted, TimeFloor:
	default:
		return fmt.Errorf("timeQuality %q: wanted synced, hinted or floor", b.TimeQuality)
	}
	if len(b.Verbs) > MaxVerbs || len(b.Probes) > MaxVerbs || len(b.Sensors) > MaxSensors {
		return fmt.Errorf("birth lists %d verbs, %d probes, %d sensors; wanted at most %d, %d, %d",
			len(b.Verbs), len(b.Probes), len(b.Sensors), MaxVerbs, MaxVerbs, MaxSensors)
	}
	if len(b.OpenCommands) > MaxOpenCommands {
		return fmt.Errorf("openCommands has %d entries; wanted at most %d", len(b.OpenCommands), MaxOpenCommands)
	}
	if b.IntervalMillis < 0 || b.AutonomyMillis < 0 {
		return fmt.Errorf("intervalMillis %d and autonomyMillis %d: wanted no negative value", b.IntervalMillis, b.AutonomyMillis)
	}
	return errors.Join(ValidID("node", b.Node), ValidID("cluster", b.Cluster), positiveEpoch(b.Epoch), b.Claim.Validate(),
		maxLen("boot", b.Boot, MaxIDLength), maxLen("version", b.Version, MaxLabelBytes), validLabels("labels", b.Labels))
}

func positiveEpoch(epoch uint64) error {
	if epoch == 0 {
		return errors.New("epoch is 0; the first session of a node is 1")
	}
	return nil
}
