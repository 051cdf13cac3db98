//go:build mipsle

package confine

import "golang.org/x/sys/unix"

// callsMips32 is numbered as in the kernel's table for mipsle.
var callsMips32 = abi{arch: unix.AUDIT_ARCH_MIPSEL, clone: 4120, clone3: 4435, refused: []denial{
	{4280, ""},                // add_key
	{4282, ""},                // keyctl
	{4281, ""},                // request_key
	{4311, ""},                // kexec_load
	{4127, ""},                // create_module
	{4130, ""},                // get_kernel_syms
	{4187, ""},                // query_module
	{4189, ""},                // nfsservctl
	{4135, ""},                // sysfs
	{4086, ""},                // uselib
	{4357, ""},                // userfaultfd
	{4062, ""},                // ustat
	{4113, ""},                // vm86
	{4247, ""},                // lookup_dcookie
	{4308, ""},                // move_pages
	{4153, ""},                // _sysctl
	{4425, ""},                // io_uring_setup
	{4426, ""},                // io_uring_enter
	{4427, ""},                // io_uring_register
	{4438, ""},                // pidfd_getfd
	{4021, "SYS_ADMIN"},       // mount
	{4022, "SYS_ADMIN"},       // umount
	{4052, "SYS_ADMIN"},       // umount2
	{4216, "SYS_ADMIN"},       // pivot_root
	{4344, "SYS_ADMIN"},       // setns
	{4303, "SYS_ADMIN"},       // unshare
	{4428, "SYS_ADMIN"},       // open_tree
	{4467, "SYS_ADMIN"},       // open_tree_attr
	{4429, "SYS_ADMIN"},       // move_mount
	{4430, "SYS_ADMIN"},       // fsopen
	{4431, "SYS_ADMIN"},       // fsconfig
	{4432, "SYS_ADMIN"},       // fsmount
	{4433, "SYS_ADMIN"},       // fspick
	{4442, "SYS_ADMIN"},       // mount_setattr
	{4131, "SYS_ADMIN"},       // quotactl
	{4443, "SYS_ADMIN"},       // quotactl_fd
	{4087, "SYS_ADMIN"},       // swapon
	{4115, "SYS_ADMIN"},       // swapoff
	{4128, "SYS_MODULE"},      // init_module
	{4348, "SYS_MODULE"},      // finit_module
	{4129, "SYS_MODULE"},      // delete_module
	{4088, "SYS_BOOT"},        // reboot
	{4051, "SYS_PACCT"},       // acct
	{4079, "SYS_TIME"},        // settimeofday
	{4025, "SYS_TIME"},        // stime
	{4262, "SYS_TIME"},        // clock_settime
	{4404, "SYS_TIME"},        // clock_settime64
	{4341, "SYS_TIME"},        // clock_adjtime
	{4405, "SYS_TIME"},        // clock_adjtime64
	{4101, "SYS_RAWIO"},       // ioperm
	{4110, "SYS_RAWIO"},       // iopl
	{4347, "SYS_PTRACE"},      // kcmp
	{4111, "SYS_TTY_CONFIG"},  // vhangup
	{4103, "SYSLOG"},          // syslog
	{4355, "BPF"},             // bpf
	{4333, "PERFMON"},         // perf_event_open
	{4340, "DAC_READ_SEARCH"}, // open_by_handle_at
}}
