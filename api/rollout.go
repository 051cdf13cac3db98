package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// RolloutSpec says how a fleet goes to a release.
type RolloutSpec struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	URL     string `json:"url,omitempty"`   // of a release server in place of the cluster agent
	Force   bool   `json:"force,omitempty"` // also nodes for which the version is not newer
	// Selector or Nodes say which nodes, as they are when the rollout is created.
	Selector string   `json:"selector,omitempty"`
	Nodes    []string `json:"nodes,omitempty"`
	// Batch is how many nodes are updated at a time: a number, or a share of all such as 10%; empty: 10%.
	Batch string `json:"batch,omitempty"`
	// SuccessPercent is the share of a batch that has to succeed, or the rollout pauses; 0: 100.
	SuccessPercent int `json:"successPercent,omitempty"`
	// PauseSeconds is how long to wait between two batches.
	PauseSeconds int64 `json:"pauseSeconds,omitempty"`
	// Window is when updates may begin, in UTC, as 22:00-04:00; empty: always.
	Window string `json:"window,omitempty"`
	// NodeSeconds is how long a node has from its order to its end, however long it is away; 0: an hour.
	NodeSeconds int64 `json:"nodeSeconds,omitempty"`
}

// RolloutState is where a rollout stands.
type RolloutState string

// The states. Paused is by a person or by itself, when a batch failed: Reason tells. The last three are final.
const (
	RolloutRunning   RolloutState = "running"
	RolloutPaused    RolloutState = "paused"
	RolloutSucceeded RolloutState = "succeeded" // every batch reached its share
	RolloutFailed    RolloutState = "failed"    // it came to its end, and a batch that somebody went on after did not
	RolloutAborted   RolloutState = "aborted"
)

// Final reports whether nothing more happens.
func (s RolloutState) Final() bool {
	return s == RolloutSucceeded || s == RolloutFailed || s == RolloutAborted
}

// The states of a node in a rollout.
const (
	RolloutWaiting  = "waiting"
	RolloutUpdating = "updating"
	RolloutDone     = "succeeded"
	RolloutLost     = "failed"
	RolloutSkipped  = "skipped"
)

// RolloutNode is one node of a rollout.
type RolloutNode struct {
	Node    string `json:"node"`
	Batch   int    `json:"batch"` // from 1
	State   string `json:"state"` // waiting, updating, succeeded, failed or skipped
	Command string `json:"command,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Rollout is one under way or past.
type Rollout struct {
	RolloutSpec
	ID        string        `json:"id"`
	State     RolloutState  `json:"state"`
	Reason    string        `json:"reason,omitempty"`
	By        string        `json:"by"`
	Object    bool          `json:"object,omitempty"` // By is an object of Kubernetes, which says whether it is paused
	Created   Millis        `json:"created"`
	Changed   Millis        `json:"changed"`
	Batches   int           `json:"batches"`
	Current   int           `json:"current"`             // the batch under way; 0 before the first
	BatchDone Millis        `json:"batchDone,omitempty"` // when the one before ended
	Accepted  int           `json:"accepted,omitempty"`  // the last batch that somebody went on after although it failed
	Members   []RolloutNode `json:"members,omitempty"`   // a list of rollouts leaves them out
	Counts    RolloutCounts `json:"counts"`
}

// Summary is r as a list tells it: without its nodes, of which a fleet has many. Counts sums them up.
func (r Rollout) Summary() Rollout {
	r.Members, r.Nodes = nil, nil
	return r
}

// RolloutCounts sums up the nodes.
type RolloutCounts struct {
	Waiting   int `json:"waiting"`
	Updating  int `json:"updating"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Skipped   int `json:"skipped"`
}

// Total is how many nodes a rollout has.
func (c RolloutCounts) Total() int {
	return c.Waiting + c.Updating + c.Succeeded + c.Failed + c.Skipped
}

// Validate checks a specification, and fills in what was left out.
func (s *RolloutSpec) Validate() error {
	errs := []error{ValidID("name", s.Name), maxLen("version", s.Version, MaxLabelBytes), maxLen("url", s.URL, MaxReasonBytes)}
	if s.Version == "" {
		errs = append(errs, errors.New("version is empty"))
	}
	if (s.Selector == "") == (len(s.Nodes) == 0) {
		errs = append(errs, errors.New("wanted either nodes or a selector"))
	}
	if s.Batch == "" {
		s.Batch = "10%"
	}
	if s.SuccessPercent == 0 {
		s.SuccessPercent = 100
	}
	if s.NodeSeconds == 0 {
		s.NodeSeconds = int64(time.Hour / time.Second)
	}
	if s.BatchOf(100) < 1 {
		errs = append(errs, fmt.Errorf("batch %.20q; wanted a number of nodes, or a share such as 10%%", s.Batch))
	}
	if s.SuccessPercent < 1 || s.SuccessPercent > 100 {
		errs = append(errs, fmt.Errorf("successPercent %d; wanted 1 to 100", s.SuccessPercent))
	}
	if s.PauseSeconds < 0 || s.NodeSeconds < 60 {
		errs = append(errs, fmt.Errorf("pauseSeconds %d, nodeSeconds %d; wanted 0 or more, and 60 or more", s.PauseSeconds, s.NodeSeconds))
	}
	if _, err := s.Opens(time.Unix(0, 0)); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// BatchOf is how many of n nodes are a batch: at least one, or 0 when Batch cannot be read.
func (s *RolloutSpec) BatchOf(n int) int {
	text, share := strings.CutSuffix(s.Batch, "%")
	v, err := strconv.Atoi(text)
	if err != nil || v < 1 || share && v > 100 {
		return 0
	}
	if share {
		v = max(1, n*v/100)
	}
	return v
}

// Opens tells whether the window is open at now.
func (s *RolloutSpec) Opens(now time.Time) (bool, error) {
	if s.Window == "" {
		return true, nil
	}
	from, to, _ := strings.Cut(s.Window, "-")
	a, errA := time.Parse("15:04", from)
	b, errB := time.Parse("15:04", to)
	if errA != nil || errB != nil || a.Equal(b) {
		return false, fmt.Errorf("window %.20q; wanted a time of day in UTC to another, as 22:00-04:00", s.Window)
	}
	minute := func(t time.Time) int { return t.Hour()*60 + t.Minute() }
	at, first, last := minute(now.UTC()), minute(a), minute(b)
	if first < last {
		return at >= first && at < last, nil
	}
	return at >= first || at < last, nil
}
