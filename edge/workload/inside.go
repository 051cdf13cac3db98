package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// running finds a container that runs.
func (e *Engine) running(workload, container string) (Runtime, string, error) {
	at, name, l, err := e.find(workload, container)
	if err != nil {
		return nil, "", err
	}
	if !l.running {
		return nil, "", fmt.Errorf("container %s of %s: %w", name, workload, ErrNotRunning)
	}
	return e.sources[at.runtime].rt, ContainerID(workload, name, l.run), nil
}

// Check reports why a conversation with a container cannot begin. An empty container is the only one.
func (e *Engine) Check(workload, container string) error {
	_, _, err := e.running(workload, container)
	return err
}

// Alive reports why nothing of a workload runs.
func (e *Engine) Alive(workload string) error {
	e.mu.Lock()
	at, ok := e.shown.places[workload]
	e.mu.Unlock()
	if !ok {
		return fmt.Errorf("this node has no workload %.80q", workload)
	}
	for _, l := range at.runs {
		if l.running {
			return nil
		}
	}
	return fmt.Errorf("workload %s: %w", workload, ErrNotRunning)
}

// Exec runs a command in a container and returns its exit code.
func (e *Engine) Exec(ctx context.Context, workload, container string, x Exec) (int, error) {
	rt, id, err := e.running(workload, container)
	if err != nil {
		return 0, err
	}
	return rt.Exec(ctx, id, x)
}

// Attach ties streams to those of a container.
func (e *Engine) Attach(ctx context.Context, workload, container string, s Streams) error {
	rt, id, err := e.running(workload, container)
	if err != nil {
		return err
	}
	return rt.Attach(ctx, id, s)
}

// Usage is what one container uses. Durations are in nanoseconds.
type Usage struct {
	Workload  string        `json:"workload"`
	Container string        `json:"container"`
	At        int64         `json:"at"` // ms
	CPU       time.Duration `json:"cpuNanos"`
	Memory    uint64        `json:"memoryBytes"`
	RSS       uint64        `json:"rssBytes,omitempty"`
	Processes uint64        `json:"processes,omitempty"`
	Disk      uint64        `json:"diskBytes,omitempty"`
	Throttled time.Duration `json:"throttledNanos,omitempty"`
}

// statsWithin bounds the wait for one container's numbers.
const statsWithin = 5 * time.Second

// Stats tells what every running container uses, by workload and container. Of those that it cannot tell of, it counts how
// many there are.
func (e *Engine) Stats(ctx context.Context) (list []Usage, failed int) {
	e.mu.Lock()
	places := e.shown.places
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, statsWithin)
	defer cancel()
	var wg sync.WaitGroup
	var asked []*Usage
	for _, workload := range slices.Sorted(maps.Keys(places)) {
		at := places[workload]
		for _, container := range slices.Sorted(maps.Keys(at.runs)) {
			if l := at.runs[container]; l.running {
				u := &Usage{Workload: workload, Container: container}
				asked = append(asked, u)
				wg.Go(func() { u.ask(ctx, e.sources[at.runtime].rt, ContainerID(workload, container, l.run)) })
			}
		}
	}
	wg.Wait()
	for _, u := range asked {
		if u.At == 0 {
			failed++
			continue
		}
		list = append(list, *u)
	}
	return list, failed
}

func (u *Usage) ask(ctx context.Context, rt Runtime, id string) {
	if s, err := rt.Stats(ctx, id); err == nil {
		u.At, u.CPU, u.Memory, u.RSS = s.At.UnixMilli(), s.CPU, s.MemoryBytes, s.RSSBytes
		u.Processes, u.Disk, u.Throttled = s.Processes, s.DiskBytes, s.ThrottledTime
	}
}

const (
	tidyEvery  = time.Hour
	tidyWithin = 5 * time.Minute
)

// tidy removes images that nothing needs, of runtimes where a workload was removed. Nothing is begun meanwhile: an image that
// was just made present is in no container yet.
func (e *Engine) tidy(ctx context.Context) {
	for _, s := range e.sources {
		if !s.unused || s.collecting || !s.known || e.beginning(s) {
			continue
		}
		var keep []string
		for _, en := range e.entries {
			for _, p := range en.mem.Containers {
				if en.mem.Runtime == s.rt.Name() && p.Image != "" && !slices.Contains(keep, p.Image) {
					keep = append(keep, p.Image)
				}
			}
		}
		s.collecting, s.unused = true, false
		e.wg.Go(func() {
			cctx, cancel := context.WithTimeout(ctx, tidyWithin)
			defer cancel()
			freed, err := s.rt.Collect(cctx, keep)
			e.post(ctx, func() {
				s.collecting = false
				if err != nil {
					s.unused = true
					e.cfg.Log.Warn("unused images are not removed", keyRuntime, s.rt.Name(), agent.KeyErr, err)
				} else if freed > 0 {
					e.cfg.Log.Info("unused images removed", keyRuntime, s.rt.Name(), agent.KeyBytes, freed)
				}
			})
		})
	}
}

// beginning tells whether a container of a runtime is being begun.
func (e *Engine) beginning(s *source) bool {
	for _, en := range e.entries {
		for _, w := range en.busy {
			if w.deed == Begin && w.runtime == s.rt.Name() {
				return true
			}
		}
	}
	return false
}
