package scale

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cage is a control group with a limit of memory. Page cache counts, and is what the kernel takes back first.
type cage struct {
	dir  string
	kind string // for the result: what keeps the limit
	v2   bool
}

// cgroupRoot is where every distribution mounts control groups.
const cgroupRoot = "/sys/fs/cgroup"

// newCage makes a control group of its own, of version 2 where memory is there, else of version 1. It takes root.
func newCage(limit int64) (*cage, error) {
	name := fmt.Sprintf("skerry-scale-%d", os.Getpid())
	for _, root := range []string{cgroupRoot, filepath.Join(cgroupRoot, "unified")} {
		raw, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
		if err != nil || !strings.Contains(" "+strings.TrimSpace(string(raw))+" ", " memory ") {
			continue
		}
		c := &cage{dir: filepath.Join(root, name), kind: "cgroup v2 memory.max", v2: true}
		// The controller may be handed on already, and a kernel that refuses says so when the limit is set.
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0o644)
		return c, c.make("memory.max", limit)
	}
	root := filepath.Join(cgroupRoot, "memory")
	if _, err := os.Stat(filepath.Join(root, "memory.limit_in_bytes")); err != nil {
		return nil, fmt.Errorf("limit memory: no memory controller in %s: %w; --memory 0 goes without", cgroupRoot, err)
	}
	c := &cage{dir: filepath.Join(root, name), kind: "cgroup v1 memory.limit_in_bytes"}
	return c, c.make("memory.limit_in_bytes", limit)
}

func (c *cage) make(file string, limit int64) error {
	if err := os.Mkdir(c.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("limit memory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, file), strconv.AppendInt(nil, limit, 10), 0o644); err != nil {
		return errors.Join(fmt.Errorf("limit memory: %w", err), c.close())
	}
	return nil
}

// add puts a process into it.
func (c *cage) add(pid int) error {
	if c == nil {
		return nil
	}
	if err := os.WriteFile(filepath.Join(c.dir, "cgroup.procs"), strconv.AppendInt(nil, int64(pid), 10), 0o644); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	return nil
}

// peak is the most memory that was in it, page cache included; 0 when the kernel does not tell.
func (c *cage) peak() int64 {
	if c == nil {
		return 0
	}
	file := "memory.max_usage_in_bytes"
	if c.v2 {
		file = "memory.peak"
	}
	raw, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(raw)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// close removes it; its processes have ended.
func (c *cage) close() error {
	if c == nil {
		return nil
	}
	return os.Remove(c.dir)
}

// pin has this process, all of its threads, run on one processor. Threads to come inherit that.
func pin(cpu int) error {
	runtime.GOMAXPROCS(1)
	var set unix.CPUSet
	set.Set(cpu)
	for range 2 { // a thread that was made meanwhile was made by one that was not pinned yet
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("pin to processor %d: %w", cpu, err)
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin to processor %d: %w", cpu, err)
			}
		}
	}
	return nil
}
