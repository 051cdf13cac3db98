//go:build riscv64

package confine

import "golang.org/x/sys/unix"

// callsRiscv is numbered as in the kernel's table for riscv64.
var callsRiscv = abi{arch: unix.AUDIT_ARCH_RISCV64, clone: 220, clone3: 435, refused: []denial{
	{217, ""},                // add_key
	{219, ""},                // keyctl
	{218, ""},                // request_key
	{104, ""},                // kexec_load
	{294, ""},                // kexec_file_load
	{42, ""},                 // nfsservctl
	{282, ""},                // userfaultfd
	{18, ""},                 // lookup_dcookie
	{239, ""},                // move_pages
	{425, ""},                // io_uring_setup
	{426, ""},                // io_uring_enter
	{427, ""},                // io_uring_register
	{438, ""},                // pidfd_getfd
	{447, ""},                // memfd_secret
	{40, "SYS_ADMIN"},        // mount
	{39, "SYS_ADMIN"},        // umount2
	{41, "SYS_ADMIN"},        // pivot_root
	{268, "SYS_ADMIN"},       // setns
	{97, "SYS_ADMIN"},        // unshare
	{428, "SYS_ADMIN"},       // open_tree
	{467, "SYS_ADMIN"},       // open_tree_attr
	{429, "SYS_ADMIN"},       // move_mount
	{430, "SYS_ADMIN"},       // fsopen
	{431, "SYS_ADMIN"},       // fsconfig
	{432, "SYS_ADMIN"},       // fsmount
	{433, "SYS_ADMIN"},       // fspick
	{442, "SYS_ADMIN"},       // mount_setattr
	{60, "SYS_ADMIN"},        // quotactl
	{443, "SYS_ADMIN"},       // quotactl_fd
	{224, "SYS_ADMIN"},       // swapon
	{225, "SYS_ADMIN"},       // swapoff
	{105, "SYS_MODULE"},      // init_module
	{273, "SYS_MODULE"},      // finit_module
	{106, "SYS_MODULE"},      // delete_module
	{142, "SYS_BOOT"},        // reboot
	{89, "SYS_PACCT"},        // acct
	{170, "SYS_TIME"},        // settimeofday
	{112, "SYS_TIME"},        // clock_settime
	{266, "SYS_TIME"},        // clock_adjtime
	{272, "SYS_PTRACE"},      // kcmp
	{58, "SYS_TTY_CONFIG"},   // vhangup
	{116, "SYSLOG"},          // syslog
	{280, "BPF"},             // bpf
	{241, "PERFMON"},         // perf_event_open
	{265, "DAC_READ_SEARCH"}, // open_by_handle_at
}}
