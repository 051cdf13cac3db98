//go:build 386 || amd64

package confine

import "golang.org/x/sys/unix"

// callsX86 is numbered as in the kernel's table for 386.
var callsX86 = abi{arch: unix.AUDIT_ARCH_I386, clone: 120, clone3: 435, refused: []denial{
	{286, ""},                // add_key
	{288, ""},                // keyctl
	{287, ""},                // request_key
	{283, ""},                // kexec_load
	{127, ""},                // create_module
	{130, ""},                // get_kernel_syms
	{167, ""},                // query_module
	{169, ""},                // nfsservctl
	{135, ""},                // sysfs
	{86, ""},                 // uselib
	{374, ""},                // userfaultfd
	{62, ""},                 // ustat
	{166, ""},                // vm86
	{113, ""},                // vm86old
	{253, ""},                // lookup_dcookie
	{317, ""},                // move_pages
	{149, ""},                // _sysctl
	{425, ""},                // io_uring_setup
	{426, ""},                // io_uring_enter
	{427, ""},                // io_uring_register
	{438, ""},                // pidfd_getfd
	{447, ""},                // memfd_secret
	{21, "SYS_ADMIN"},        // mount
	{22, "SYS_ADMIN"},        // umount
	{52, "SYS_ADMIN"},        // umount2
	{217, "SYS_ADMIN"},       // pivot_root
	{346, "SYS_ADMIN"},       // setns
	{310, "SYS_ADMIN"},       // unshare
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
	{350, "SYS_MODULE"},      // finit_module
	{129, "SYS_MODULE"},      // delete_module
	{88, "SYS_BOOT"},         // reboot
	{51, "SYS_PACCT"},        // acct
	{79, "SYS_TIME"},         // settimeofday
	{25, "SYS_TIME"},         // stime
	{264, "SYS_TIME"},        // clock_settime
	{404, "SYS_TIME"},        // clock_settime64
	{343, "SYS_TIME"},        // clock_adjtime
	{405, "SYS_TIME"},        // clock_adjtime64
	{101, "SYS_RAWIO"},       // ioperm
	{110, "SYS_RAWIO"},       // iopl
	{349, "SYS_PTRACE"},      // kcmp
	{111, "SYS_TTY_CONFIG"},  // vhangup
	{103, "SYSLOG"},          // syslog
	{357, "BPF"},             // bpf
	{336, "PERFMON"},         // perf_event_open
	{342, "DAC_READ_SEARCH"}, // open_by_handle_at
}}
