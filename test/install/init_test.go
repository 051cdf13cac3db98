package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// booting makes what a first process needs, as an engine does for a container (systemd.io/CONTAINER_INTERFACE): control groups of
// its own at the top of every hierarchy, and namespaces; $1 is the root and $2 the name of the groups.
const booting = `set -e
for top in /sys/fs/cgroup /sys/fs/cgroup/*; do
	[ ! -L "$top" ] && mountpoint -q "$top" && [ -e "$top/cgroup.procs" ] || continue
	mkdir "$top/$2"
	if [ -e "$top/cpuset.cpus" ]; then for f in cpuset.cpus cpuset.mems; do cat "$top/$f" >"$top/$2/$f"; done; fi
	echo $$ >"$top/$2/cgroup.procs"
done
exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --propagation private sh -c "$3" sh "$1"
`

// beginning is run in them, as what becomes the first process.
const beginning = `set -e
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
if [ "$(cut -d: -f2 /proc/self/cgroup | tr -d '\n')" = "" ]; then
	mount -t cgroup2 cgroup2 sys/fs/cgroup
else
	mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
	mkdir sys/fs/cgroup/systemd
	mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
	for kind in $(cut -d: -f2 /proc/self/cgroup | grep -v =); do
		mkdir "sys/fs/cgroup/$kind"
		mount -t cgroup -o "$kind" cgroup "sys/fs/cgroup/$kind"
	done
fi
umount -l dev
mount -t tmpfs -o mode=755 tmpfs dev
for d in null zero full random urandom tty; do
	: >dev/$d
	mount --bind /dev/$d dev/$d
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir -p run/systemd/system
for unit in sysctl modules-load remount-fs update-utmp random-seed binfmt machine-id-commit; do # the machine below is not theirs
	ln -s /dev/null run/systemd/system/systemd-$unit.service
done
rm -f etc/machine-id
: >etc/machine-id
pivot_root . .
umount -l .
cd /
mount --make-rshared /
exec env -i container=skerry-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=sysinit.target --log-target=journal --show-status=0
`

// Boot starts systemd, the real one, as the machine's first process, and waits until it has done what it begins with. Programs that Run
// starts are in its namespaces from then on. What ends with the test is all that it has started.
func (m *Machine) Boot() {
	m.t.Helper()
	name := filepath.Base(m.dir)
	cmd := exec.Command("sh", "-c", booting, "sh", m.root, name, beginning)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.Do(cmd.Start)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it the first process, and all others
		<-ended
		if err := removeGroups(name); err != nil {
			m.t.Error(err)
		}
	})
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		// Before there is a first process there are passing ones; what systemd has there says that it is the one.
		child := childOf(cmd.Process.Pid)
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/systemd/private", child)); child != 0 && err == nil {
			m.first = child
			break
		}
		select {
		case err := <-ended:
			ended <- err
			m.t.Fatalf("systemd ended: %v\n%s", err, said.String())
		default:
		}
		if time.Since(begun) > 3*time.Minute {
			m.t.Fatalf("systemd takes no orders after three minutes\n%s", said.String())
		}
	}
	if out, _ := m.Run(nil, "systemctl", "is-system-running", "--wait"); !strings.Contains("running degraded", strings.TrimSpace(out)) {
		m.t.Fatalf("systemd is %s", out)
	}
}

// childOf returns the only child of a process, 0 when there is none.
func childOf(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0
	}
	return child
}

// removeGroups removes the control groups of a name from every hierarchy, once the kernel has reaped what was in them.
func removeGroups(name string) error {
	tops, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	tops = append(tops, "/sys/fs/cgroup/"+name)
	for _, top := range tops {
		var groups []string
		err = errors.Join(err, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return err
		}))
		for i := len(groups) - 1; i >= 0; i-- {
			gone := os.Remove(groups[i])
			for begun := time.Now(); errors.Is(gone, syscall.EBUSY) && time.Since(begun) < time.Minute; gone = os.Remove(groups[i]) {
				time.Sleep(10 * time.Millisecond)
			}
			err = errors.Join(err, gone)
		}
	}
	return err
}
