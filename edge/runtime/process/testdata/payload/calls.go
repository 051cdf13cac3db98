package main

import "syscall"

// calls are system calls with arguments that the kernel itself would answer otherwise than with EPERM to root.
var calls = []struct {
	name string
	nr   uintptr
	a, b uintptr
}{
	{"mount", syscall.SYS_MOUNT, 0, 0},
	{"unshare", syscall.SYS_UNSHARE, 0, 0},
	{"setns", 308, ^uintptr(0), 0},
	{"keyctl", syscall.SYS_KEYCTL, 0, ^uintptr(0)},
	{"getpid", syscall.SYS_GETPID, 0, 0},
	{"clone3", 435, 0, 0},
	{"clone_newuser", syscall.SYS_CLONE, 0x10000000 | 17 | 0x0200_0000, 0},
	{"io_uring_setup", 425, 0, 0},
}
