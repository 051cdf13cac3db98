package api

import (
	"errors"
	"fmt"
)

// WorkloadState is how a workload stands as a whole.
type WorkloadState string

// The states.
const (
	WorkloadPending   WorkloadState = "pending" // not all of its containers have been started once
	WorkloadRunning   WorkloadState = "running"
	WorkloadSucceeded WorkloadState = "succeeded" // all have ended well and none is started again
	WorkloadFailed    WorkloadState = "failed"    // all have ended, one of them badly, and none is started again
	WorkloadRejected  WorkloadState = "rejected"  // this node will not run it: Reason
)

// WorkloadStatus is the node's word on one workload. Hash is that of the Workload it speaks of: another one than desired
// means that the node has not come to it yet.
type WorkloadStatus struct {
	Name       string            `json:"name"`
	State      WorkloadState     `json:"state"`
	Reason     string            `json:"reason,omitempty"`  // one word, as a kubelet has them
	Message    string            `json:"message,omitempty"` // for people
	Hash       string            `json:"hash,omitempty"`
	Runtime    string            `json:"runtime,omitempty"`
	Started    Millis            `json:"started,omitempty"` // when the node took it on
	Ready      bool              `json:"ready,omitempty"`   // all of its containers are
	Containers []ContainerStatus `json:"containers,omitempty"`
}

// ContainerState is how one container stands.
type ContainerState string

// The states, those of a pod's containers.
const (
	ContainerWaiting    ContainerState = "waiting"
	ContainerRunning    ContainerState = "running"
	ContainerTerminated ContainerState = "terminated"
)

// ContainerStatus is the node's word on one container. Reason and Message go with State.
type ContainerStatus struct {
	Name        string         `json:"name"`
	Init        bool           `json:"init,omitempty"`
	State       ContainerState `json:"state"`
	Reason      string         `json:"reason,omitempty"` // as a kubelet has them: ContainerCreating, CrashLoopBackOff, ErrImagePull, …
	Message     string         `json:"message,omitempty"`
	ID          string         `json:"id,omitempty"`          // the runtime's name for it
	ImageDigest string         `json:"imageDigest,omitempty"` // sha256:… of what runs
	Ready       bool           `json:"ready,omitempty"`
	Up          bool           `json:"up,omitempty"` // the startup check has passed, or there is none and it runs
	Restarts    int32          `json:"restarts,omitempty"`
	Started     Millis         `json:"started,omitempty"` // of what runs
	End         *Termination   `json:"end,omitempty"`     // of what has ended, when State is terminated
	Last        *Termination   `json:"last,omitempty"`    // of the run before this one
}

// Termination is how a run of a container ended.
type Termination struct {
	Exit     int    `json:"exit"`
	Signal   int    `json:"signal,omitempty"`
	Reason   string `json:"reason"` // Completed, Error, OOMKilled, ContainerStatusUnknown, DeadlineExceeded
	Message  string `json:"message,omitempty"`
	ID       string `json:"id,omitempty"`
	Started  Millis `json:"started,omitempty"`
	Finished Millis `json:"finished"`
}

// MaxTerminationBytes bounds a termination message in a status, less than a kubelet's 4 KiB: all workloads of a node share one
// message.
const MaxTerminationBytes = 1 << 10

// Validate checks s as it arrives from a node.
func (s *WorkloadStatus) Validate() error {
	errs := []error{ValidID("name", s.Name), maxLen("reason", s.Reason, MaxReasonBytes), maxLen("message", s.Message, MaxReasonBytes),
		maxLen("hash", s.Hash, MaxLabelBytes), maxLen("runtime", s.Runtime, MaxLabelBytes),
		oneOf("state", string(s.State), string(WorkloadPending), string(WorkloadRunning), string(WorkloadSucceeded), string(WorkloadFailed), string(WorkloadRejected))}
	if len(s.Containers) > MaxContainers {
		errs = append(errs, fmt.Errorf("%d containers: wanted at most %d", len(s.Containers), MaxContainers))
	}
	for i := range s.Containers {
		c := &s.Containers[i]
		errs = append(errs, within("container "+c.Name, errors.Join(ValidID("name", c.Name),
			maxLen("reason", c.Reason, MaxReasonBytes), maxLen("message", c.Message, MaxReasonBytes),
			oneOf("state", string(c.State), string(ContainerWaiting), string(ContainerRunning), string(ContainerTerminated)))))
	}
	return within("workload "+s.Name, errors.Join(errs...))
}
