package conformance

import (
	"fmt"
	"maps"
	"slices"

	"github.com/skerry-edge/skerry/edge/workload"
)

// End ends a running container, as if its program had.
func (f *Fake) End(id string, exit int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	if c == nil || !c.observed.Running {
		return fmt.Errorf("container %s: %w", id, workload.ErrNotRunning)
	}
	c.end(exit, 0)
	f.changed()
	return nil
}

// Kill ends a running container for want of memory.
func (f *Fake) Kill(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	if c == nil || !c.observed.Running {
		return fmt.Errorf("container %s: %w", id, workload.ErrNotRunning)
	}
	c.end(137, 9)
	c.observed.OOM = true
	f.changed()
	return nil
}

// Reboot ends all that runs, and nobody knows how.
func (f *Fake) Reboot() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.observed.Running {
			c.end(0, 0)
			c.observed.Unknown = true
		}
	}
	f.changed()
}

// Lose forgets containers, whatever they do.
func (f *Fake) Lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.containers)
	f.changed()
}

// Starts tells how often each container was started, by ID.
func (f *Fake) Starts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.starts)
}

// Pulls tells how often an image was asked for.
func (f *Fake) Pulls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pulls
}

// Running lists the IDs of what runs.
func (f *Fake) Running() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, id := range slices.Sorted(maps.Keys(f.containers)) {
		if f.containers[id].observed.Running {
			out = append(out, id)
		}
	}
	return out
}

// Has lists the IDs of all containers.
func (f *Fake) Has() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.containers))
}

// Spec is what a container of a name was last started from.
func (f *Fake) Spec(container string) workload.Container {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last[container]
}
