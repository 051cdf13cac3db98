package api

import (
	"errors"
	"fmt"
)

// Desired is the one document that says what a node should be. It is level-triggered: the newest generation is the
// whole truth and an older one is never applied. Issued and Expires bound when it may be accepted; once accepted it
// stays in force until a newer one arrives, however long the node is alone. Issued is also the time: the first document of a
// session sets the node's clock, forwards or backwards.
type Desired struct {
	Node       string         `json:"node"`
	Generation uint64         `json:"generation"`
	Hash       string         `json:"hash"` // of workloads, policies, config and agent: what a Revision compares
	Epoch      uint64         `json:"epoch"`
	Issued     Millis         `json:"issued"`
	Expires    Millis         `json:"expires"`
	Workloads  []Workload     `json:"workloads"`
	Policies   []Policy       `json:"policies"`
	Config     map[string]any `json:"config,omitempty"`
	Agent      *AgentWant     `json:"agent,omitempty"` // absent: the agent stays what it is
	Claim      *Claim         `json:"claim,omitempty"` // of the replica that signed it; absent when there is only one cluster agent
}

// Policy is a rule or program that a node should obey. Spec is read by the engine that Kind names.
type Policy struct {
	Name string         `json:"name"`
	Kind string         `json:"kind"`
	Spec map[string]any `json:"spec,omitempty"`
}

// Validate checks d as it arrives at a node.
func (d *Desired) Validate() error {
	if d.Generation == 0 {
		return errors.New("generation is 0; the first is 1")
	}
	if len(d.Workloads) > MaxWorkloads || len(d.Policies) > MaxWorkloads {
		return fmt.Errorf("desired has %d workloads and %d policies; wanted at most %d each",
			len(d.Workloads), len(d.Policies), MaxWorkloads)
	}
	if d.Issued <= 0 || d.Expires <= d.Issued {
		return fmt.Errorf("issued %d, expires %d: wanted 0 < issued < expires", d.Issued, d.Expires)
	}
	errs := []error{ValidID("node", d.Node), d.Claim.Validate(), within("agent", d.Agent.Validate())}
	for i := range d.Workloads {
		errs = append(errs, within("workload "+d.Workloads[i].Name, d.Workloads[i].Validate()))
	}
	return errors.Join(errs...)
}

// Reported is what a node made of the desired document it holds.
type Reported struct {
	Generation uint64           `json:"generation"`
	Hash       string           `json:"hash"`
	Epoch      uint64           `json:"epoch"`
	At         Millis           `json:"at"`
	Workloads  []WorkloadStatus `json:"workloads"`
	Policies   []PolicyStatus   `json:"policies"`
	Config     ConfigStatus     `json:"config"`
	Agent      *AgentStatus     `json:"agent,omitempty"` // absent: no version is wanted, or the agent is too old to follow one
}

// PolicyStatus is the node's word on one policy.
type PolicyStatus struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// ConfigStatus tells how the settings stand that were made remotely, and apart from that what came of the last attempt to
// change them. State is applied, or trial while a change of the link has not proved itself; Hash is that of what is in
// force. Last is applied, rejected or rolled-back, empty since the agent's start for none; Reason says why the last
// attempt is not in force.
type ConfigStatus struct {
	State  string `json:"state"`
	Hash   string `json:"hash,omitempty"`
	Last   string `json:"last,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Validate checks r as it arrives from a node.
func (r *Reported) Validate() error {
	if len(r.Workloads) > MaxWorkloads || len(r.Policies) > MaxWorkloads {
		return fmt.Errorf("reported has %d workloads and %d policies; wanted at most %d each",
			len(r.Workloads), len(r.Policies), MaxWorkloads)
	}
	errs := []error{positiveEpoch(r.Epoch), maxLen("hash", r.Hash, MaxLabelBytes)}
	for i := range r.Workloads {
		errs = append(errs, r.Workloads[i].Validate())
	}
	return errors.Join(errs...)
}
