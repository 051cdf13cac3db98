//go:build linux

package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unsafe"
)

// who tells as whom, with what rights and where the program runs.
func who() {
	groups, err := os.Getgroups()
	report("groups", err)
	host, err := os.Hostname()
	report("hostname", err)
	dir, err := os.Getwd()
	report("getwd", err)
	fmt.Println("uid", os.Getuid(), "gid", os.Getgid(), "groups", groups, "pid", os.Getpid(), "host", host, "dir", dir)
	raw, err := os.ReadFile("/proc/self/status")
	report("status", err)
	for line := range strings.Lines(string(raw)) {
		if name, value, _ := strings.Cut(line, ":"); strings.HasPrefix(name, "Cap") || name == "NoNewPrivs" || name == "Seccomp" {
			fmt.Println(name, strings.TrimSpace(value))
		}
	}
}

// size tells the size of its terminal whenever that changes, until it is 40 columns.
func size() {
	changed := make(chan os.Signal, 16)
	signal.Notify(changed, syscall.SIGWINCH)
	fmt.Println("sizing")
	for {
		var ws struct{ rows, columns, x, y uint16 }
		_, _, e := syscall.Syscall(syscall.SYS_IOCTL, os.Stdout.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&ws)))
		if e != 0 {
			fmt.Println("no terminal:", e)
			return
		}
		if ws.columns == 40 {
			fmt.Println("size", ws.columns, ws.rows)
			return
		}
		<-changed
	}
}

func beStubborn() { signal.Ignore(syscall.SIGTERM) }
