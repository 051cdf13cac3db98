//go:build !lite

package containerd

import (
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/confine"
)

// refused are the system calls that a container is refused, by the capability that lifts it; those below "" never are given. They
// are those of package confine, by name.
var refused = map[string][]string{
	"": {"add_key", "keyctl", "request_key", "kexec_load", "kexec_file_load", "create_module", "get_kernel_syms", "query_module", "nfsservctl", "sysfs",
		"uselib", "userfaultfd", "ustat", "lookup_dcookie", "move_pages", "_sysctl", "io_uring_setup", "io_uring_enter", "io_uring_register", "pidfd_getfd",
		"memfd_secret"},
	"SYS_ADMIN": {"mount", "umount", "umount2", "pivot_root", "setns", "unshare", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig", "fsmount",
		"fspick", "mount_setattr", "quotactl", "quotactl_fd", "swapon", "swapoff"},
	"SYS_MODULE":      {"init_module", "finit_module", "delete_module"},
	"SYS_BOOT":        {"reboot"},
	"SYS_PACCT":       {"acct"},
	"SYS_TIME":        {"settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64"},
	"SYS_RAWIO":       {"ioperm", "iopl"},
	"SYS_PTRACE":      {"kcmp"},
	"SYS_TTY_CONFIG":  {"vhangup"},
	"SYSLOG":          {"syslog"},
	"BPF":             {"bpf"},
	"PERFMON":         {"perf_event_open"},
	"DAC_READ_SEARCH": {"open_by_handle_at"},
}

// subArchitectures are the other ways into the kernel that a processor has.
var subArchitectures = map[string][]specs.Arch{
	"amd64": {specs.ArchX86_64, specs.ArchX86},
	"arm64": {specs.ArchAARCH64, specs.ArchARM},
}

// seccomp is the filter of a container with these capabilities.
func seccomp(set confine.Set) *specs.LinuxSeccomp {
	eperm, enosys := uint(unix.EPERM), uint(unix.ENOSYS)
	out := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: subArchitectures[runtime.GOARCH]}
	var names []string
	for unless, calls := range refused {
		if unless == "" || !set.Has(unless) {
			names = append(names, calls...)
		}
	}
	slices.Sort(names)
	out.Syscalls = []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno, ErrnoRet: &eperm}}
	if set.Has("SYS_ADMIN") {
		return out
	}
	// Its arguments are in memory, where no filter sees them; programs then take clone, which may make no namespaces.
	out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &enosys})
	for _, flag := range []uint64{unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWPID, unix.CLONE_NEWNET, unix.CLONE_NEWIPC, unix.CLONE_NEWUTS, unix.CLONE_NEWCGROUP} {
		out.Syscalls = append(out.Syscalls, specs.LinuxSyscall{Names: []string{"clone"}, Action: specs.ActErrno, ErrnoRet: &eperm,
			Args: []specs.LinuxSeccompArg{{Index: 0, Value: flag, ValueTwo: flag, Op: specs.OpMaskedEqual}}})
	}
	return out
}
