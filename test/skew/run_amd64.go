package skew

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// Can tells whether this machine can show a program a wrong clock.
const Can = true

// Run runs a program and its arguments, with CLOCK_REALTIME off by what shift says at the time, and returns its exit
// code. The environment has to be without whatever made this process a tracer. Nothing else may wait for children.
func Run(shift func() time.Duration, line []string) (int, error) {
	if len(line) == 0 {
		return 0, errors.New("no program to run")
	}
	signals := make(chan os.Signal, 1) // meant for the program, which gets them too
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	runtime.LockOSThread() // a tracer is a thread, ptrace(2)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
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
	return follow(pid, shift)
}

// follow lets every thread go on until the program ends.
func follow(pid int, shift func() time.Duration) (int, error) {
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
			err = answer(thread, shift())
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

// answer changes what has just been answered to a question for the time. Before a call the result register holds -ENOSYS.
func answer(thread int, shift time.Duration) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(thread, &regs); err != nil || shift == 0 {
		return err
	}
	const clockRealtime, errnoFrom = 0, -4096
	if int64(regs.Rax) < 0 && int64(regs.Rax) > errnoFrom {
		return nil
	}
	switch {
	case regs.Orig_rax == syscall.SYS_CLOCK_GETTIME && regs.Rdi == clockRealtime:
		now, err := peek(thread, uintptr(regs.Rsi)) // struct timespec: seconds first
		if err != nil {
			return err
		}
		return poke(thread, uintptr(regs.Rsi), now+uint64(int64(shift/time.Second)))
	case regs.Orig_rax == syscall.SYS_ADJTIMEX: // such a clock is disciplined by nothing
		const status, unsynced = 40, 0x40 // struct timex
		word, err := peek(thread, uintptr(regs.Rdi)+status)
		if err != nil {
			return err
		}
		return poke(thread, uintptr(regs.Rdi)+status, word|unsynced)
	}
	return nil
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
