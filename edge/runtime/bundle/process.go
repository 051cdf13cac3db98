package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// BootID names this run of the kernel.
func BootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}

// StartOf tells when a process started, in ticks since boot.
func StartOf(pid int) (uint64, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	return parseStart(raw)
}

// parseStart finds the 22nd field. The second is a name in parentheses that may hold any character.
func parseStart(stat []byte) (uint64, error) {
	i := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[i+1:])
	if i < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("stat of a process has %d fields after its name; wanted 20", len(fields))
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil { // which comes with the largest number where the text is one too large
		return 0, fmt.Errorf("start of a process: %w", err)
	}
	return start, nil
}

// Alive tells whether the process that began still is: of this boot, with this number, started then.
func (b *Begun) Alive(boot string) bool {
	if b.Boot != boot || b.Pid <= 0 {
		return false
	}
	start, err := StartOf(b.Pid)
	return err == nil && start == b.Start
}

// Kill ends the process that began, and with it all of a container of processes; nil when it is gone.
func (b *Begun) Kill(boot string) error {
	fd, err := unix.PidfdOpen(b.Pid, 0)
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.3: between this look and the signal, the number could be another's
		if !b.Alive(boot) {
			return nil
		}
		return gone(unix.Kill(b.Pid, unix.SIGKILL))
	}
	if err != nil {
		return gone(err)
	}
	if b.Alive(boot) { // what is alive now is what the descriptor is of
		err = gone(unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
	}
	return errors.Join(err, unix.Close(fd))
}

func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// Running is Alive, but for one that has ended and only waits to be collected by its parent: nothing of it runs.
func (b *Begun) Running(boot string) bool {
	if !b.Alive(boot) {
		return false
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(b.Pid) + "/stat")
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(raw, ')')
	return !(i >= 0 && i+2 < len(raw) && (raw[i+2] == 'Z' || raw[i+2] == 'X'))
}
