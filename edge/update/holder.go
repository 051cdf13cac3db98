package update

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// holder tells which process holds the lock of the agent that runs, as the kernel has it (proc_locks(5)); empty when it does
// not tell.
func (d *Dir) holder() string {
	info, err := os.Stat(filepath.Join(d.path, runLock))
	if err != nil {
		return ""
	}
	locks, _ := os.ReadFile("/proc/locks") // not every kernel has it
	inode := ":" + strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Ino), 10)
	for _, line := range strings.Split(string(locks), "\n") {
		f := strings.Fields(line) // 1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF
		if len(f) > 5 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) && f[4] != "0" {
			return " (process " + f[4] + ")"
		}
	}
	return ""
}
