package system

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const canShift = true

// runShifted runs a program as it is, static or not, with CLOCK_REALTIME off by shift, and returns its exit code. Time
// namespaces do not cover that clock, and nothing can be preloaded into a static program. So it is traced: the vDSO is
// hidden from it, which makes it ask the kernel for the time, and what clock_gettime(2) answers is changed.
func runShifted(shift string, line []string) int {
	code, err := traceShifted(shift, line)
	if err != nil {
		fmt.Fprintln(os.Stderr, "run with a wrong clock:", err)
		return 125
	}
	return code
}

func traceShifted(shift string, line []string) (int, error) {
	by, err := time.ParseDuration(shift)
	if err != nil || len(line) == 0 {
		return 0, fmt.Errorf("shift %q of %v: %w", shift, line, err)
	}
	runtime.LockOSThread() // a tracer is a thread, ptrace(2)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	for _, e := range os.Environ() {
		if len(e) < len(clockShift) || e[:len(clockShift)] != clockShift {
			cmd.Env = append(cmd.Env, e)
		}
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil { // it stops at its execve(2)
		return 0, err
	}
	const traceSysGood, exitKill = 0x1, 0x100000
	if err := errors.Join(hideVDSO(pid), syscall.PtraceSetOptions(pid, traceSysGood|exitKill|syscall.PTRACE_O_TRACECLONE),
		syscall.PtraceSyscall(pid, 0)); err != nil {
		return 0, err
	}
	return follow(pid, int64(by/time.Second))
}

// follow lets every thread go on until the program ends.
func follow(pid int, seconds int64) (int, error) {
	for {
		var status syscall.WaitStatus
		thread, err := syscall.Wait4(-1, &status, syscall.WALL, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		switch {
		case err != nil:
			return 0, err
		case status.Exited() && thread == pid:
			return status.ExitStatus(), nil
		case status.Signaled() && thread == pid:
			return 128 + int(status.Signal()), nil
		case !status.Stopped():
			continue
		}
		deliver := 0
		switch signal := status.StopSignal(); signal {
		case syscall.SIGTRAP | 0x80: // before or after a system call
			err = shiftTime(thread, seconds)
		case syscall.SIGTRAP, syscall.SIGSTOP: // a thread was born
		default:
			deliver = int(signal)
		}
		err = errors.Join(err, syscall.PtraceSyscall(thread, deliver))
		if err != nil && !errors.Is(err, syscall.ESRCH) { // killed meanwhile: its end is reported next
			return 0, err
		}
	}
}

// shiftTime changes what clock_gettime(CLOCK_REALTIME) has just written. Before a call the result register holds -ENOSYS.
func shiftTime(thread int, seconds int64) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(thread, &regs); err != nil {
		return err
	}
	const clockRealtime = 0
	if regs.Orig_rax != syscall.SYS_CLOCK_GETTIME || regs.Rdi != clockRealtime || regs.Rax != 0 {
		return nil
	}
	now, err := peek(thread, uintptr(regs.Rsi)) // struct timespec: seconds first
	if err != nil {
		return err
	}
	return poke(thread, uintptr(regs.Rsi), now+uint64(seconds))
}

// hideVDSO strikes AT_SYSINFO_EHDR from the auxiliary vector, getauxval(3), which lies above arguments and environment.
func hideVDSO(pid int) error {
	const atNull, atIgnore, atSysinfoEHDR = 0, 1, 33
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	at := uintptr(regs.Rsp)
	argc, err := peek(pid, at)
	if err != nil {
		return err
	}
	for at += 8 * uintptr(argc+2); ; at += 8 {
		if v, err := peek(pid, at); err != nil || v == 0 {
			at += 8
			break
		}
	}
	for ; ; at += 16 {
		switch kind, err := peek(pid, at); {
		case err != nil:
			return err
		case kind == atSysinfoEHDR:
			return poke(pid, at, atIgnore)
		case kind == atNull:
			return errors.New("no vDSO to hide")
		}
	}
}

func peek(thread int, at uintptr) (uint64, error) {
	var word [8]byte
	_, err := syscall.PtracePeekData(thread, at, word[:])
	return binary.LittleEndian.Uint64(word[:]), err
}

func poke(thread int, at uintptr, v uint64) error {
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], v)
	_, err := syscall.PtracePokeData(thread, at, word[:])
	return err
}
