//go:build arm || arm64

package confine

import "golang.org/x/sys/unix"

// callsArm32 is numbered as in the kernel's table for arm.
var callsArm32 = abi{arch: unix.AUDIT_ARCH_ARM, clone: 120, clone3: 435, refused: []denial{
	{309, ""},                // add_key
	{311, ""},                // keyctl
	{310, ""},                // request_key
	{347, ""},                // kexec_load
	{401, ""},                // kexec_file_load
	{169, ""},                // nfsservctl
	{135, ""},                // sysfs
	{86, ""},                 // uselib
	{388, ""},                // userfaultfd
	{62, ""},                 // ustat
	{249, ""},                // lookup_dcookie
	{344, ""},                // move_pages
	{149, ""},                // _sysctl
	{425, ""},                // io_uring_setup
	{426, ""},                // io_uring_enter
	{427, ""},                // io_uring_register
	{438, ""},                // pidfd_getfd
	{21, "SYS_ADMIN"},        // mount
	{52, "SYS_ADMIN"},        // umount2
	{218, "SYS_ADMIN"},       // pivot_root
	{375, "SYS_ADMIN"},       // setns
	{337, "SYS_ADMIN"},       // unshare
	{428, "SYS_ADMIN"},       // open_tree
	{467, "SYS_ADMIN"},       // open_tree_attr
	{429, "SYS_ADMIN"},       // move_mount
	{430, "SYS_ADMIN"},       // fsopen
	{431, "SYS_ADMIN"},       // fsconfig
	{432, "SYS_ADMIN"},       // fsmount
	{433, "SYS_ADMIN"},       // fspick
	{442, "SYS_ADMIN"},       // mount_setattr
	{131, "SYS_ADMIN"},       // quotactl
	{443, "SYS_ADMIN"},       // quotactl_fd
	{87, "SYS_ADMIN"},        // swapon
	{115, "SYS_ADMIN"},       // swapoff
	{128, "SYS_MODULE"},      // init_module
	{379, "SYS_MODULE"},      // finit_module
	{129, "SYS_MODULE"},      // delete_module
	{88, "SYS_BOOT"},         // reboot
	{51, "SYS_PACCT"},        // acct
	{79, "SYS_TIME"},         // settimeofday
	{262, "SYS_TIME"},        // clock_settime
	{404, "SYS_TIME"},        // clock_settime64
	{372, "SYS_TIME"},        // clock_adjtime
	{405, "SYS_TIME"},        // clock_adjtime64
	{378, "SYS_PTRACE"},      // kcmp
	{111, "SYS_TTY_CONFIG"},  // vhangup
	{103, "SYSLOG"},          // syslog
	{386, "BPF"},             // bpf
	{364, "PERFMON"},         // perf_event_open
	{371, "DAC_READ_SEARCH"}, // open_by_handle_at
}}
