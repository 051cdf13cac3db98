package conformance

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/edge/workload"
)

func (f *Fake) running(id string) (*fakeContainer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	if c == nil || !c.observed.Running {
		return nil, fmt.Errorf("container %s: %w", id, workload.ErrNotRunning)
	}
	return c, nil
}

// Exec knows: cat, which gives back its input; echo; fail N; sleep, until ctx ends.
func (f *Fake) Exec(ctx context.Context, id string, e workload.Exec) (int, error) {
	if err := f.enter(ctx, "Exec"); err != nil {
		return 0, err
	}
	if _, err := f.running(id); err != nil {
		return 0, err
	}
	switch e.Argv[0] {
	case "cat":
		if e.Stdin != nil && e.Stdout != nil {
			_, err := io.Copy(e.Stdout, e.Stdin)
			return 0, err
		}
	case "echo":
		if e.Stdout != nil {
			_, err := fmt.Fprintln(e.Stdout, strings.Join(e.Argv[1:], " "))
			return 0, err
		}
	case "size":
		size := <-e.Resize
		_, err := fmt.Fprintf(e.Stdout, "%dx%d", size.Columns, size.Rows)
		return 0, err
	case "fail":
		exit := 1
		if len(e.Argv) > 1 {
			if _, err := fmt.Sscan(e.Argv[1], &exit); err != nil {
				return 0, err
			}
		}
		return exit, nil
	case "sleep":
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return 0, nil
}

// Attach gives back the input, line by line, until its end, the container's or that of ctx.
func (f *Fake) Attach(ctx context.Context, id string, s workload.Streams) error {
	c, err := f.running(id)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(s.Stdout, s.Stdin)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats tells of a container that uses little.
func (f *Fake) Stats(ctx context.Context, id string) (workload.Stats, error) {
	if err := f.enter(ctx, "Stats"); err != nil {
		return workload.Stats{}, err
	}
	c, err := f.running(id)
	if err != nil {
		return workload.Stats{}, err
	}
	return workload.Stats{At: time.Now(), CPU: time.Since(c.observed.Started), MemoryBytes: 1 << 20, RSSBytes: 1 << 19, Processes: 1}, nil
}
