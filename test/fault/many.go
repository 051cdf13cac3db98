package fault

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// spacePrefix begins the names of all namespaces of this program; the id of the process that made them follows.
const spacePrefix = "skfault"

// many runs a job for each seed, some at once, and tells how each went.
func (d *Door) many(ctx context.Context, f *flags, seeds []uint64) int {
	if err := sweep(ctx); err != nil {
		fmt.Fprintln(d.Err, "skerry-fault:", err)
		return ExitFailed
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(d.Err, "skerry-fault:", err)
		return ExitFailed
	}
	var mu sync.Mutex
	var all []*Outcome
	failed := 0
	next := make(chan uint64)
	var wg sync.WaitGroup
	for range min(f.parallel, len(seeds)) {
		wg.Go(func() {
			for seed := range next {
				job := f.job
				job.Seed, job.Dir = seed, filepath.Join(f.dir, fmt.Sprintf("seed-%d", seed))
				job.Prefix = fmt.Sprintf("%s%d-%d-", spacePrefix, os.Getpid(), seed)
				list, err := job.isolate(ctx, self)
				mu.Lock()
				all = append(all, list...)
				if !d.tell(f, &job, list, err) {
					failed++
				}
				mu.Unlock()
			}
		})
	}
	for _, s := range seeds {
		select {
		case next <- s:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	wg.Wait()
	if err := d.summary(f, all, failed); err != nil {
		fmt.Fprintln(d.Err, "skerry-fault:", err)
		return ExitFailed
	}
	if failed > 0 || ctx.Err() != nil {
		return ExitFailed
	}
	return ExitOK
}

// isolate makes the namespaces, runs the job in them as a process of its own, and removes them.
func (j *Job) isolate(ctx context.Context, self string) (list []*Outcome, err error) {
	if err := errors.Join(os.RemoveAll(j.Dir), os.MkdirAll(j.Dir, 0o700)); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	s := j.schedule(j.Seed)
	if err := os.WriteFile(filepath.Join(j.Dir, "schedule.yaml"), []byte(s.YAML()), 0o600); err != nil {
		return nil, fmt.Errorf("keep schedule: %w", err)
	}
	after := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, DropSpaces(after, j.Prefix)) }()
	var names []string
	for _, h := range hosts() {
		names = append(names, h.Name)
	}
	if err := MakeSpaces(ctx, j.Prefix, names); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(j.Dir, "harness.log"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	// The harness carries every packet, and a schedule is one of seconds: it goes before whatever else the machine does.
	cmd := exec.CommandContext(ctx, "nice", "-n", "-5", "ip", "netns", "exec", j.Prefix+hub, self, insideArg, string(text))
	cmd.Env = append(cmd.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Run()
	list, rerr := readOutcomes(filepath.Join(j.Dir, outcomes))
	if err != nil {
		err = fmt.Errorf("%w: %s", err, lastLine(log.Name()))
	}
	return list, errors.Join(err, rerr)
}

// insideEnv tells a test program that it is the harness of a run.
const insideEnv = "SKERRY_FAULT_INSIDE"

func lastLine(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return lines[len(lines)-1]
}

func readOutcomes(path string) (list []*Outcome, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		o := &Outcome{}
		if err := json.Unmarshal(lines.Bytes(), o); err != nil {
			return list, fmt.Errorf("read outcome: %w", err)
		}
		list = append(list, o)
	}
	return list, lines.Err()
}

// sweep removes the namespaces of runs whose process is gone.
func sweep(ctx context.Context) error {
	list, err := filepath.Glob(filepath.Join(netnsDir, spacePrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range list {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), spacePrefix), "-")
		pid, err := strconv.Atoi(id)
		if err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		errs = append(errs, ip(ctx, "netns", "del", filepath.Base(path)))
	}
	return errors.Join(errs...)
}
