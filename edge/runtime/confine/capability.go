package confine

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
)

// capabilities are their names without CAP_, by number.
var capabilities = []string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE",
	"SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"}

// usual are those that a container has: containerd's, but for MKNOD, as there is no group for devices here.
var usual = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW",
	"SYS_CHROOT", "AUDIT_WRITE", "SETFCAP"}

// Set is capabilities, one bit each.
type Set uint64

// Has tells whether the set has the one of this name.
func (s Set) Has(name string) bool {
	n := slices.Index(capabilities, name)
	return n >= 0 && s&(1<<n) != 0
}

// Names are those of the set, as the kernel's documentation has them: CAP_CHOWN.
func (s Set) Names() []string {
	var out []string
	for n, name := range capabilities {
		if s&(1<<n) != 0 {
			out = append(out, "CAP_"+name)
		}
	}
	return out
}

// Capabilities works out the set of a container. ALL means all, in Drop before Add, as in a pod.
func Capabilities(c *api.Confinement) (Set, error) {
	all := Set(1)<<len(capabilities) - 1
	if c.Privileged {
		return all, nil
	}
	var set Set
	for _, name := range usual {
		set |= 1 << slices.Index(capabilities, name)
	}
	drop, err := bits("drop", c.Drop, all)
	if err != nil {
		return 0, err
	}
	add, err := bits("add", c.Add, all)
	if err != nil {
		return 0, err
	}
	if add == all {
		return all &^ drop, nil
	}
	return set&^drop | add, nil
}

func bits(field string, names []string, all Set) (Set, error) {
	var set Set
	for _, name := range names {
		plain := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		n := slices.Index(capabilities, plain)
		switch {
		case plain == "ALL":
			set |= all
		case n < 0:
			return 0, fmt.Errorf("security.%s: capability %q; wanted ALL or a name such as NET_ADMIN", field, name)
		default:
			set |= 1 << n
		}
	}
	return set, nil
}

// bound keeps this thread's programs within the set. Its own rights it keeps until then.
func bound(set Set) error {
	for n := range 64 {
		if set&(1<<n) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
			if err == unix.EINVAL && n > 0 { // beyond the last that this kernel knows
				break
			}
			return fmt.Errorf("drop capability %d: %w", n, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && err != unix.EINVAL {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&head, &data[0]); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	return nil
}

// Own are the capabilities of this process.
func Own() (Set, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return Set(data[0].Effective) | Set(data[1].Effective)<<32, nil
}
