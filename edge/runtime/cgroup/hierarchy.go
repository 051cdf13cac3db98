package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchy is one mounted tree of control groups.
type hierarchy struct {
	mount       string   // where it is mounted
	root        string   // which folder of the tree is mounted there
	unified     bool     // version 2
	controllers []string // version 1: of its mount options, such as memory or name=systemd
	own         string   // the group of this process, from the mount point
}

// Tree is all hierarchies of this machine, as this process sees them.
type Tree struct{ hierarchies []hierarchy }

// Find reads the hierarchies from /proc.
func Find() (Tree, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Tree{}, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if errors.Is(err, os.ErrNotExist) {
		return Tree{}, nil // a kernel without
	}
	if err != nil {
		return Tree{}, err
	}
	return parse(mounts, own), nil
}

// parse reads /proc/self/mountinfo and /proc/self/cgroup. Lines that it does not understand are of no hierarchy; a mount
// point that is not absolute is not the kernel's.
func parse(mounts, own []byte) Tree {
	var t Tree
	for line := range bytes.Lines(mounts) {
		before, after, ok := strings.Cut(strings.TrimSpace(string(line)), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 3 || !filepath.IsAbs(unescape(head[4])) {
			continue
		}
		h := hierarchy{mount: unescape(head[4]), root: unescape(head[3]), unified: tail[0] == "cgroup2"}
		if tail[0] == "cgroup" {
			h.controllers = strings.Split(tail[2], ",")
		} else if !h.unified {
			continue
		}
		if !slices.ContainsFunc(t.hierarchies, func(o hierarchy) bool { return h.same(o) }) { // a second mount of one tree
			t.hierarchies = append(t.hierarchies, h)
		}
	}
	for line := range bytes.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for i := range t.hierarchies {
			h := &t.hierarchies[i]
			if (parts[1] == "" && h.unified) || (parts[1] != "" && h.has(strings.Split(parts[1], ",")[0])) {
				h.own = "/" + strings.TrimPrefix(strings.TrimPrefix(parts[2], strings.TrimSuffix(h.root, "/")), "/")
			}
		}
	}
	return t
}

func (h *hierarchy) same(o hierarchy) bool {
	return h.unified && o.unified || len(h.controllers) > 0 && slices.Equal(h.controllers, o.controllers)
}

func (h *hierarchy) has(controller string) bool { return slices.Contains(h.controllers, controller) }

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// dir is the folder of a group: parent is a path from the root of the hierarchy, or, with ./, from the group of this
// process.
func (h *hierarchy) dir(parent, name string) string {
	if below, ok := strings.CutPrefix(parent, "./"); ok {
		return filepath.Join(h.mount, filepath.Clean("/"+h.own), filepath.Clean("/"+below), name)
	}
	return filepath.Join(h.mount, filepath.Clean("/"+parent), name)
}

// limiting are the controllers that a container is bounded by or counted with.
var limiting = []string{"memory", "cpu", "cpuacct", "pids"}

// Dirs are the folders of the group name below parent in every hierarchy that bounds or counts.
func (t Tree) Dirs(parent, name string) []string {
	var dirs []string
	for _, h := range t.counting() {
		dirs = append(dirs, h.dir(parent, name))
	}
	return dirs
}

// counting are the hierarchies that bound or count.
func (t Tree) counting() []*hierarchy {
	var out []*hierarchy
	for i := range t.hierarchies {
		h := &t.hierarchies[i]
		if h.unified && slices.ContainsFunc(limiting, h.offers) || !h.unified && slices.ContainsFunc(limiting, h.has) {
			out = append(out, h)
		}
	}
	return out
}

// Weighs tells whether the kernel has weights of CPU.
func (t Tree) Weighs() bool {
	return slices.ContainsFunc(t.hierarchies, func(h hierarchy) bool { return h.unified && h.offers("cpu") || !h.unified && h.has("cpu") })
}

// Create makes the folders that Dirs names.
func (t Tree) Create(parent, name string) ([]string, error) {
	var dirs []string
	for _, h := range t.counting() {
		dir := h.dir(parent, name)
		if h.unified {
			if err := h.delegate(filepath.Dir(dir)); err != nil {
				return dirs, err
			}
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return dirs, fmt.Errorf("make control group: %w", err)
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// offers tells whether the root of a hierarchy of version 2 has the controller.
func (h *hierarchy) offers(controller string) bool {
	raw, err := os.ReadFile(filepath.Join(h.mount, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(raw)), controller)
}

// delegate makes the folders down to parent and hands the controllers on to what is below each. A controller that
// cannot be handed on is missed where it is needed.
func (h *hierarchy) delegate(parent string) error {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	rel, err := filepath.Rel(h.mount, parent)
	if err != nil {
		return err
	}
	dir := h.mount
	for _, next := range append([]string{"."}, strings.Split(rel, "/")...) {
		dir = filepath.Join(dir, next)
		for _, c := range limiting {
			_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
	}
	return nil
}

// Leave moves this process to the group name below parent in every hierarchy by which a service manager or a limit could
// reach it. What could not be done is returned; the process goes on all the same.
func (t Tree) Leave(parent, name string) error {
	var errs []error
	for i := range t.hierarchies {
		h := &t.hierarchies[i]
		if !h.unified && !h.has("name=systemd") && !slices.ContainsFunc(limiting, h.has) {
			continue
		}
		dir := h.dir(parent, name)
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
