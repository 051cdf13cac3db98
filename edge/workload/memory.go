package workload

import (
	"maps"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Memory is what the node remembers of a workload beyond what its runtimes tell. It is kept on flash, and written when it
// changes. The zero value is that of a workload that is not taken on.
type Memory struct {
	Hash       string           `json:"hash"`            // of the form that was taken on
	Frame      string           `json:"frame,omitempty"` // of the same; empty: an agent that did not know frames took it on
	Runtime    string           `json:"runtime"`
	Taken      api.Millis       `json:"taken"`             // when
	Boot       string           `json:"boot"`              // kernel's boot id when its containers were last looked at
	Grace      int64            `json:"grace"`             // seconds, for when it is no longer wanted and nobody can be asked
	Failed     string           `json:"failed,omitempty"`  // why it is not run any more, in a word: DeadlineExceeded, Evicted
	Message    string           `json:"message,omitempty"` // the same for people
	Containers map[string]*Past `json:"containers"`        // by name
}

// Past is what is remembered of a container.
type Past struct {
	Run      int               `json:"run"`             // number of the latest run, from 1; 0: none was begun
	Begun    bool              `json:"begun,omitempty"` // the runtime has begun it
	Up       bool              `json:"up,omitempty"`    // its startup check has passed
	Form     string            `json:"form,omitempty"`  // of the latest run
	Stale    bool              `json:"stale,omitempty"` // the latest run is to end, because another form is wanted
	Restarts int32             `json:"restarts,omitempty"`
	Image    string            `json:"image,omitempty"` // digest
	Started  api.Millis        `json:"started,omitempty"`
	End      *api.Termination  `json:"end,omitempty"`     // of the latest run
	Last     *api.Termination  `json:"last,omitempty"`    // of the run before
	Backoff  int64             `json:"backoff,omitempty"` // seconds between the end of a run and the next
	Lengthen api.Millis        `json:"since,omitempty"`   // when Backoff was last lengthened
	PreStop  *api.HealthAction `json:"preStop,omitempty"`
}

func (m Memory) clone() Memory {
	m.Containers = maps.Clone(m.Containers)
	for name, p := range m.Containers {
		own := *p // what it points to is replaced, never changed
		m.Containers[name] = &own
	}
	return m
}

// Bounds of the wait between two runs, or between two attempts to begin one: those of a kubelet.
const (
	backoffMin   = 10 * time.Second
	backoffMax   = 5 * time.Minute
	backoffReset = 2 * backoffMax
)

// lengthened is the wait after a wait.
func lengthened(d time.Duration) time.Duration { return min(max(2*d, backoffMin), backoffMax) }

// left is how much of a wait that began at since is left. A since that is yet to come tells of a clock that was set back: nobody
// waits for it.
func left(now, since time.Time, wait time.Duration) time.Duration {
	if passed := now.Sub(since); passed >= 0 {
		return max(0, wait-passed)
	}
	return 0
}

// wait is how long the next run has to wait.
func (p *Past) wait(now time.Time) time.Duration {
	if p.End == nil || p.Backoff == 0 || left(now, p.Lengthen.Time(), backoffReset) == 0 {
		return 0
	}
	return left(now, p.End.Finished.Time(), time.Duration(p.Backoff)*time.Second)
}

// again makes p that of the next run.
func (p *Past) again(now time.Time) {
	if left(now, p.Lengthen.Time(), backoffReset) == 0 {
		p.Backoff = 0
	}
	p.Backoff = int64(lengthened(time.Duration(p.Backoff)*time.Second) / time.Second)
	p.Lengthen = api.At(now)
	p.Last, p.End = p.End, nil
	p.Run++
	p.Restarts++
	if p.Stale {
		p.Backoff = 0 // it did not fail
	}
	p.Begun, p.Up, p.Stale = false, false, false
}

// Trial is what is known of a container for as long as the agent runs.
type Trial struct {
	Run    int     // that the rest speaks of
	Failed Failure // last attempt to begin it; zero: none, or it succeeded
	Stuck  Failure // last attempt to stop or remove it
	Up     bool    // the startup check has passed
	Ready  bool    // the readiness check has passed
	Sick   string  // why it has to end: the liveness or startup check has failed
}

// Failure is an attempt that failed.
type Failure struct {
	Reason  string // as a kubelet has them
	Message string
	At      time.Time
	Wait    time.Duration // until the next
}

func (f Failure) left(now time.Time) time.Duration {
	if f.Wait == 0 {
		return 0
	}
	return left(now, f.At, f.Wait)
}
