package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
)

// Fake is a runtime without containers: what programs do is told by their arguments, a few words such as "exit 3", and by
// methods. It holds its containers as long as it lives, whoever asks. Safe for concurrent use.
type Fake struct {
	name    string
	changes chan struct{}

	mu         sync.Mutex
	images     map[string]string // digests by reference; those that can be had
	present    map[string]bool   // references that were pulled
	containers map[string]*fakeContainer
	starts     map[string]int
	hang       map[string]chan struct{} // by the name of a call
	faults     map[string]error         // by the name of a call
	pulls      int
	last       map[string]workload.Container
}

type fakeContainer struct {
	spec     workload.Container
	observed workload.Observed
	stubborn bool // ends by SIGKILL alone
	ended    chan struct{}
	input    chan []byte
}

// NewFake returns a runtime of a name that can have images, by reference.
func NewFake(name string, images ...string) *Fake {
	f := &Fake{name: name, changes: make(chan struct{}, 1), images: map[string]string{}, present: map[string]bool{}, containers: map[string]*fakeContainer{},
		starts: map[string]int{}, hang: map[string]chan struct{}{}, faults: map[string]error{}, last: map[string]workload.Container{}}
	for i, ref := range images {
		f.images[ref] = fmt.Sprintf("sha256:%064x", i+1)
	}
	return f
}

// Name is that of the runtime.
func (f *Fake) Name() string { return f.name }

// Can is everything.
func (f *Fake) Can() workload.Ability { return workload.Ability{Exec: true, Signals: true} }

// Changes is signalled when List would tell something new.
func (f *Fake) Changes() <-chan struct{} { return f.changes }

func (f *Fake) changed() {
	select {
	case f.changes <- struct{}{}:
	default: // it is known
	}
}

// enter fails or hangs when it was told to.
func (f *Fake) enter(ctx context.Context, call string) error {
	f.mu.Lock()
	gate, fault := f.hang[call], f.faults[call]
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fault != nil {
		return fmt.Errorf("%s: %w", call, fault)
	}
	return ctx.Err()
}

// Hang has a call, such as "Start" or "Pull busybox", not return until the function that is returned is called, or its context ends.
func (f *Fake) Hang(call string) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.hang[call] = gate
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.hang, call)
		close(gate)
	})
}

// Break has a call fail with err until it is nil.
func (f *Fake) Break(call string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[call] = err
}

// Offer makes an image one that can be had.
func (f *Fake) Offer(ref, digest string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[ref] = digest
}

// Pull makes an image present.
func (f *Fake) Pull(ctx context.Context, ref string, policy api.PullPolicy, progress func(done, total int64)) (string, error) {
	f.mu.Lock()
	f.pulls++
	digest, known := f.images[ref]
	if f.present[ref] && policy != api.PullAlways {
		defer f.mu.Unlock()
		return digest, nil
	}
	f.mu.Unlock()
	if policy == api.PullNever {
		return "", fmt.Errorf("image %s: %w", ref, workload.ErrNoImage)
	}
	if err := errors.Join(f.enter(ctx, "Pull"), f.enter(ctx, "Pull "+ref)); err != nil {
		return "", err
	}
	if !known {
		return "", fmt.Errorf("image %s: %w", ref, workload.ErrNoImage)
	}
	if progress != nil {
		progress(1, 1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.present[ref] = true
	return digest, nil
}

// Collect removes images.
func (f *Fake) Collect(ctx context.Context, keep []string) (int64, error) {
	if err := f.enter(ctx, "Collect"); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var freed int64
	for ref := range maps.Clone(f.present) {
		used := slices.Contains(keep, f.images[ref])
		for _, c := range f.containers {
			used = used || c.spec.Image == f.images[ref]
		}
		if !used {
			delete(f.present, ref)
			freed++
		}
	}
	return freed, nil
}

// Start begins a container.
func (f *Fake) Start(ctx context.Context, c workload.Container) error {
	if err := errors.Join(f.enter(ctx, "Start"), f.enter(ctx, "Start "+c.Name)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if have := f.containers[c.ID]; have != nil && have.observed.Running {
		return nil
	}
	f.starts[c.ID]++
	f.last[c.Name] = c
	made := &fakeContainer{spec: c, ended: make(chan struct{}), input: make(chan []byte, 16), observed: workload.Observed{ID: c.ID, Workload: c.Workload, Running: true,
		Pid: 1000 + len(f.containers), Image: c.Image, Started: time.Now()}}
	f.containers[c.ID] = made
	defer f.changed()
	return f.obey(made, strings.Fields(strings.Join(slices.Concat(c.Command, c.Args), " ")))
}

// obey does what the words of a program say: echo WORD, complain WORD, exit N, message WORD, stubborn; in a row.
func (f *Fake) obey(c *fakeContainer, words []string) error {
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch words[i] {
		case "echo", "complain":
			if err := writeLog(c.spec.Log, words[i] == "complain", next); err != nil {
				return err
			}
			i++
		case "message":
			for _, m := range c.spec.Mounts {
				if m.Target == "/dev/termination-log" {
					if err := os.WriteFile(m.Source, []byte(next), 0o666); err != nil {
						return err
					}
				}
			}
			i++
		case "stubborn":
			c.stubborn = true
		case "exit":
			exit := 0
			if _, err := fmt.Sscan(next, &exit); err != nil {
				return err
			}
			c.end(exit, 0)
			return nil
		}
	}
	return nil
}

func writeLog(path string, stderr bool, text string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	stream := "stdout"
	if stderr {
		stream = "stderr"
	}
	_, err = fmt.Fprintf(file, "%s %s F %s\n", time.Now().UTC().Format(time.RFC3339Nano), stream, text)
	return errors.Join(err, file.Close())
}

func (c *fakeContainer) end(exit, signal int) {
	if !c.observed.Running {
		return
	}
	c.observed.Running, c.observed.Finished, c.observed.Exit, c.observed.Signal = false, time.Now(), exit, signal
	close(c.ended)
}

// Stop ends a container.
func (f *Fake) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := f.enter(ctx, "Stop"); err != nil {
		return err
	}
	f.mu.Lock()
	c := f.containers[id]
	if c == nil || !c.observed.Running {
		f.mu.Unlock()
		return nil
	}
	if !c.stubborn && grace > 0 {
		defer f.mu.Unlock()
		c.end(143, 15)
		f.changed()
		return nil
	}
	f.mu.Unlock()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
	case <-timer.C:
		f.mu.Lock()
		c.end(137, 9)
		f.mu.Unlock()
		f.changed()
	}
	return nil
}

// Remove forgets a container that has ended.
func (f *Fake) Remove(ctx context.Context, id string) error {
	if err := f.enter(ctx, "Remove"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.containers[id]; c != nil && c.observed.Running {
		return fmt.Errorf("remove %s: it runs", id)
	}
	delete(f.containers, id)
	f.changed()
	return nil
}

// List tells of all containers.
func (f *Fake) List(ctx context.Context) ([]workload.Observed, error) {
	if err := f.enter(ctx, "List"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []workload.Observed
	for _, id := range slices.Sorted(maps.Keys(f.containers)) {
		list = append(list, f.containers[id].observed)
	}
	return list, nil
}
