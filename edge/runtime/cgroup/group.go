package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Group is the folders of one container, open: it can be used after its paths are out of reach.
type Group struct{ places []*os.Root }

// Open opens the folders that Create made. Those that are gone are left out.
func Open(dirs []string) (*Group, error) {
	g := &Group{}
	for _, dir := range dirs {
		root, err := os.OpenRoot(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, g.Close())
		}
		g.places = append(g.places, root)
	}
	return g, nil
}

// Close gives the folders back; they stay.
func (g *Group) Close() error {
	var errs []error
	for _, p := range g.places {
		errs = append(errs, p.Close())
	}
	g.places = nil
	return errors.Join(errs...)
}

// Limits bound a group; 0 is no bound.
type Limits struct {
	MemoryBytes int64
	CPUMillis   int64
	Processes   int64
}

// period is over which time on a CPU is counted, the kernel's default.
const period = 100_000 // µs

// Set sets the limits. A limit that no hierarchy can hold is an error: nothing runs unbounded that was to be bounded.
func (g *Group) Set(l Limits) error {
	if l.MemoryBytes > 0 {
		n := strconv.FormatInt(l.MemoryBytes, 10)
		v1, err1 := g.write("memory.limit_in_bytes", n)
		v2, err2 := g.write("memory.max", n)
		if err := errors.Join(err1, err2); err != nil || !v1 && !v2 {
			return lacks("memory", n+" bytes", "cgroup_enable=memory", err)
		}
		if err := g.noSwap(n); err != nil {
			return err
		}
	}
	if l.CPUMillis > 0 {
		quota := strconv.FormatInt(max(l.CPUMillis*period/1000, 1000), 10)
		v1, err1 := g.write("cpu.cfs_quota_us", quota)
		v2, err2 := g.write("cpu.max", quota+" "+strconv.Itoa(period))
		if err := errors.Join(err1, err2); err != nil || !v1 && !v2 {
			return lacks("cpu", strconv.FormatInt(l.CPUMillis, 10)+"m", "CONFIG_CFS_BANDWIDTH", err)
		}
	}
	if l.Processes > 0 {
		_, err := g.write("pids.max", strconv.FormatInt(l.Processes, 10))
		return err
	}
	return nil
}

// Shares are what a request of so many thousandths of a CPU weighs in cpu.shares of version 1, as a kubelet counts: without one the least there is.
func Shares(millis int64) uint64 { return uint64(min(max(millis*1024/1000, 2), 262144)) }

// Weigh sets which part of the CPUs the group has when there are not enough for all. held is false where the kernel has no weights.
func (g *Group) Weigh(shares uint64) (held bool, err error) {
	v1, err1 := g.write("cpu.shares", strconv.FormatUint(shares, 10))
	v2, err2 := g.write("cpu.weight", strconv.FormatUint(1+(shares-2)*9999/262142, 10)) // as runc and kubelets convert it
	return v1 || v2, errors.Join(err1, err2)
}

// noSwap makes the bound one of memory and swap together, and one that kills all of a container at once where the kernel
// can. Kernels without swap accounting have no such files.
func (g *Group) noSwap(n string) error {
	_, err := g.write("memory.memsw.limit_in_bytes", n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil
	}
	_, err2 := g.write("memory.swap.max", "0")
	_, err3 := g.write("memory.oom.group", "1")
	return errors.Join(err, err2, err3)
}

func lacks(what, limit, hint string, err error) error {
	if err != nil {
		return fmt.Errorf("%s limit %s: %w", what, limit, err)
	}
	return fmt.Errorf("%s limit %s: this kernel has no control group for it (%s)", what, limit, hint)
}

// HasPids tells whether the number of processes can be bounded.
func (g *Group) HasPids() bool {
	for _, p := range g.places {
		if _, err := p.Lstat("pids.max"); err == nil {
			return true
		}
	}
	return false
}

// write writes a file wherever it is.
func (g *Group) write(name, value string) (found bool, err error) {
	for _, p := range g.places {
		f, err := p.OpenFile(name, os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = io.WriteString(f, value)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return true, err
		}
		found = true
	}
	return found, nil
}

// read reads the file of the first folder that has it.
func (g *Group) read(name string) []byte {
	for _, p := range g.places {
		if raw, err := p.ReadFile(name); err == nil {
			return raw
		}
	}
	return nil
}

// Add moves a process, numbered as the caller counts, to the group.
func (g *Group) Add(pid int) error {
	_, err := g.write("cgroup.procs", strconv.Itoa(pid))
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended
	}
	return err
}

// Pids are the processes in the group, as the caller counts.
func (g *Group) Pids() []int {
	var pids []int
	for _, p := range g.places {
		raw, err := p.ReadFile("cgroup.procs")
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(raw)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Kill ends every process of the group and returns when there is none, or ctx ended. Processes that are in no
// hierarchy of the group are not reached.
func (g *Group) Kill(ctx context.Context) error {
	for {
		pids := g.Pids()
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes do not end: %w", len(pids), ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// removeTime is how long a group may stay busy whose processes have all ended: the kernel takes them out of it a little after
// their parent has collected them.
const removeTime = 5 * time.Second

// Remove removes the folders, whose processes have ended; those that are gone are no error.
func Remove(dirs []string) error {
	var errs []error
	late := time.Now().Add(removeTime)
	for _, dir := range dirs {
		err := unix.Rmdir(dir)
		for errors.Is(err, unix.EBUSY) && time.Now().Before(late) {
			<-time.After(5 * time.Millisecond)
			err = unix.Rmdir(dir)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove control group %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// OOMKills counts the processes that were killed as the group had no memory left.
func (g *Group) OOMKills() uint64 {
	return field(g.read("memory.oom_control"), "oom_kill") + field(g.read("memory.events"), "oom_kill")
}

// field finds the number after a name in lines of name and number; 0 when it is not there.
func field(raw []byte, name string) uint64 {
	for line := range bytes.Lines(raw) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			return number(rest)
		}
	}
	return 0
}

func number(raw []byte) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
