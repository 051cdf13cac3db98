package api

import (
	"errors"
	"time"
)

// AgentWant is the release that a node's agent should be, from the desired document on for as long as that says so. The node comes to
// it as by agent.update.
type AgentWant struct {
	Version string `json:"version"`
	URL     string `json:"url,omitempty"`    // of a release server in place of the cluster agent
	Force   bool   `json:"force,omitempty"`  // also when it is not newer
	Window  string `json:"window,omitempty"` // when an update may begin, in UTC, as 22:00-04:00; empty: always
	Try     uint64 `json:"try"`              // rises each time it is stated: a version that failed is tried again only then
}

// Validate checks w as it arrives at a node; nil is valid.
func (w *AgentWant) Validate() error {
	if w == nil {
		return nil
	}
	errs := []error{maxLen("version", w.Version, MaxLabelBytes), maxLen("url", w.URL, MaxReasonBytes), maxLen("window", w.Window, MaxLabelBytes)}
	if w.Version == "" {
		errs = append(errs, errors.New("version is empty"))
	}
	if w.Try == 0 {
		errs = append(errs, errors.New("try is 0; the first is 1 or more"))
	}
	return errors.Join(errs...)
}

// Opens tells whether an update may begin at now.
func (w *AgentWant) Opens(now time.Time) (bool, error) {
	return (&RolloutSpec{Window: w.Window}).Opens(now)
}

// The states of an agent on its way to the version that is wanted.
const (
	AgentCurrent  = "current"  // it runs
	AgentWaiting  = "waiting"  // for its window, or for the next attempt, after what Reason says
	AgentUpdating = "updating" // it is fetched and checked
	AgentTrial    = "trial"    // it runs, and has to show its health
	AgentFailed   = "failed"   // it is not tried again until it is stated anew
)

// AgentStatus is how a node's agent stands to the version that is wanted.
type AgentStatus struct {
	Version string `json:"version"` // that runs
	Wanted  string `json:"wanted"`
	Try     uint64 `json:"try"`   // of the AgentWant that this is about
	State   string `json:"state"` // current, waiting, updating, trial or failed
	Reason  string `json:"reason,omitempty"`
}

// AgentRequest states the version that a node's agent should be.
type AgentRequest struct {
	Version string `json:"version"`
	URL     string `json:"url,omitempty"`    // of a release server in place of the cluster agent
	Force   bool   `json:"force,omitempty"`  // also when it is not newer
	Window  string `json:"window,omitempty"` // when the update may begin, in UTC, as 22:00-04:00; empty: always
	Retry   bool   `json:"retry,omitempty"`  // try once more what failed, though nothing else changes
}
