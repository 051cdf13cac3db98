//go:build !lite

package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/runtime/confine"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/workload"
)

// made is a specification, and what has to be at some of its mounts.
type made struct {
	spec  *specs.Spec
	found []found
}

// found is what a source was when it was looked for, which is to be mounted at target.
type found struct {
	target string
	file   *os.File
}

func (m *made) close() {
	for _, f := range m.found {
		_ = f.file.Close() // they were only looked at
	}
}

const plainMount = "nosuid,noexec,nodev"

// spec describes a container as runc wants it: apart from the node as those of package process are.
func (r *Runtime) spec(c *workload.Container, image *launch.Image) (*made, error) {
	who, err := identity(c, image)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", workload.ErrBadContainer, err)
	}
	set, err := confine.Capabilities(&c.Security)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", workload.ErrBadContainer, err)
	}
	argv := launch.Command(c, &image.Config)
	if len(argv) == 0 || argv[0] == "" {
		return nil, fmt.Errorf("%w: no command: neither the image nor the workload has one", workload.ErrBadContainer)
	}
	dir := launch.Dir(c, &image.Config)
	if dir == "" {
		dir = "/"
	}
	privileged := c.Security.Privileged
	process := &specs.Process{Terminal: c.TTY, User: specs.User{UID: who.UID, GID: who.GID, AdditionalGids: who.Groups}, Args: argv,
		Env: launch.Complete(launch.Environment(image.Config.Env, c.Env), who.Home, c.Hostname, c.TTY), Cwd: dir, NoNewPrivileges: !privileged,
		Capabilities: capabilities(set, who.UID)}
	if process.Rlimits, err = limits(); err != nil {
		return nil, err
	}
	m := &made{spec: &specs.Spec{Version: "1.0.2", Process: process, Root: &specs.Root{Path: "rootfs", Readonly: c.Security.ReadOnlyRoot}, Hostname: c.Hostname,
		Linux: &specs.Linux{CgroupsPath: filepath.Join(r.cfg.Cgroup, r.called(c.ID)), Resources: r.resources(c),
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}}}}}
	if c.Hostname == "" {
		if m.spec.Hostname, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	m.spec.Mounts = system(privileged)
	if !privileged {
		m.spec.Linux.MaskedPaths = slices.Clone(masked)
		m.spec.Linux.ReadonlyPaths = slices.Clone(readOnly)
		m.spec.Linux.Seccomp = seccomp(set)
	}
	for _, mount := range append(launch.Network(c.Mounts), c.Mounts...) {
		if err := m.mount(mount); err != nil {
			m.close()
			return nil, fmt.Errorf("mount %s: %w", mount.Target, err)
		}
	}
	return m, nil
}

// limits are those of programs on the node. runc may set none above its own, which is taken to be that of this process.
func limits() ([]specs.POSIXRlimit, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("read limit of open files: %w", err)
	}
	hard := min(files.Max, 1<<20)
	return []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_NOFILE", Soft: min(hard, 1024), Hard: hard}}, nil
}

// identity is as whom a container runs, by the accounts of its image.
func identity(c *workload.Container, image *launch.Image) (confine.Identity, error) {
	root, err := os.OpenRoot(image.Lower[0])
	if err != nil {
		return confine.Identity{}, err
	}
	defer root.Close()
	passwd, err1 := account(root, "etc/passwd")
	group, err2 := account(root, "etc/group")
	if err := errors.Join(err1, err2); err != nil {
		return confine.Identity{}, err
	}
	return confine.Who(image.Config.User, &c.Security, passwd, group)
}

// maxAccounts bounds what is read of a file that an image brings.
const maxAccounts = 1 << 20

func account(root *os.Root, name string) ([]byte, error) {
	info, err := root.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxAccounts {
		return nil, fmt.Errorf("%s of the image: wanted a file of at most %d bytes", name, maxAccounts)
	}
	return root.ReadFile(name)
}

// capabilities are those of a set; a user other than root starts without.
func capabilities(set confine.Set, uid uint32) *specs.LinuxCapabilities {
	names := set.Names()
	out := &specs.LinuxCapabilities{Bounding: names}
	if uid == 0 {
		out.Effective, out.Permitted = names, names
	}
	return out
}

func (r *Runtime) resources(c *workload.Container) *specs.LinuxResources {
	out := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: c.Security.Privileged, Access: "rwm"}}, Pids: &specs.LinuxPids{Limit: &r.cfg.Processes}}
	if bytes := c.Limits.MemoryBytes; bytes > 0 {
		out.Memory = &specs.LinuxMemory{Limit: &bytes, Swap: &bytes}
	}
	out.CPU = &specs.LinuxCPU{}
	if r.tree.Weighs() { // runc would refuse a weight that the kernel lacks
		shares := cgroup.Shares(c.Requests.CPUMillis)
		out.CPU.Shares = &shares
	}
	if millis := c.Limits.CPUMillis; millis > 0 {
		period := uint64(100_000)
		quota := max(millis*int64(period)/1000, 1000)
		out.CPU.Period, out.CPU.Quota = &period, &quota
	}
	return out
}

// masked shows nothing and readOnly cannot be written.
var (
	masked = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
		"/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}
	readOnly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// system are the file systems that every container has.
func system(privileged bool) []specs.Mount {
	split := func(s string) []string { return strings.Split(s, ",") }
	sys := plainMount + ",ro"
	if privileged {
		sys = plainMount
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: split(plainMount)},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: split(sys)},
	}
	if privileged {
		return append(list, specs.Mount{Destination: "/dev", Type: "bind", Source: "/dev", Options: []string{"rbind"}})
	}
	return append(list,
		specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: split("nosuid,strictatime,mode=755,size=64k")},
		specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: split("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620")},
		specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: split(plainMount + ",mode=1777,size=64m")},
		specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: split(plainMount)})
}

// mount adds one. A source that may not leave a folder is found beneath it, and named by what it is called without symbolic links. runc
// may find something else there, when a link is put in its way meanwhile: see verify.
func (m *made) mount(w workload.Mount) error {
	source := w.Source
	if w.Within != "" {
		rel, err := filepath.Rel(w.Within, w.Source)
		if err != nil || !filepath.IsLocal(rel) {
			return fmt.Errorf("%s: wanted a path within %s", w.Source, w.Within)
		}
		root, err := os.OpenRoot(w.Within)
		if err != nil {
			return err
		}
		defer root.Close()
		f, err := root.OpenFile(rel, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		m.found = append(m.found, found{w.Target, f})
		if source, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))); err != nil {
			return err
		}
	} else if _, err := os.Stat(source); err != nil {
		return err
	}
	options := []string{"rbind", "rprivate", "nosuid", "nodev"}
	if w.ReadOnly {
		options = append(options, "ro")
	}
	m.spec.Mounts = append(m.spec.Mounts, specs.Mount{Destination: w.Target, Type: "bind", Source: source, Options: options})
	return nil
}

// verify tells whether the container of a process, which is made and not started, has mounted what was found and nothing else. To hand
// descriptors to runc would be simpler, but a kernel binds no mount of another namespace.
func (m *made) verify(pid int) error {
	if len(m.found) == 0 {
		return nil
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("look at the mounts of process %d: %w", pid, err)
	}
	defer unix.Close(root)
	for _, f := range m.found {
		if err := f.verify(root); err != nil {
			return fmt.Errorf("mount %s: %w", f.target, err)
		}
	}
	return nil
}

func (f found) verify(root int) error {
	at, err := unix.Openat2(root, f.target, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if errors.Is(err, unix.ENOSYS) {
		return errors.New("this kernel cannot tell what was mounted; wanted Linux 5.6 or later for a path within a volume")
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	var is, was unix.Stat_t
	if err := errors.Join(unix.Fstat(at, &is), unix.Fstat(int(f.file.Fd()), &was)); err != nil {
		return err
	}
	if is.Dev != was.Dev || is.Ino != was.Ino {
		return errors.New("something else was put in its place while the container was made")
	}
	return nil
}
