//go:build amd64

package confine

import "golang.org/x/sys/unix"

// callsX64 is numbered as in the kernel's table for amd64.
var callsX64 = abi{arch: unix.AUDIT_ARCH_X86_64, x32: true, clone: 56, clone3: 435, refused: []denial{
	{248, ""},                // add_key
	{250, ""},                // keyctl
	{249, ""},                // request_key
	{246, ""},                // kexec_load
	{320, ""},                // kexec_file_load
	{174, ""},                // create_module
	{177, ""},                // get_kernel_syms
	{178, ""},                // query_module
	{180, ""},                // nfsservctl
	{139, ""},                // sysfs
	{134, ""},                // uselib
	{323, ""},                // userfaultfd
	{136, ""},                // ustat
	{212, ""},                // lookup_dcookie
	{279, ""},                // move_pages
	{156, ""},                // _sysctl
	{425, ""},                // io_uring_setup
	{426, ""},                // io_uring_enter
	{427, ""},                // io_uring_register
	{438, ""},                // pidfd_getfd
	{447, ""},                // memfd_secret
	{165, "SYS_ADMIN"},       // mount
	{166, "SYS_ADMIN"},       // umount2
	{155, "SYS_ADMIN"},       // pivot_root
	{308, "SYS_ADMIN"},       // setns
	{272, "SYS_ADMIN"},       // unshare
	{428, "SYS_ADMIN"},       // open_tree
	{467, "SYS_ADMIN"},       // open_tree_attr
	{429, "SYS_ADMIN"},       // move_mount
	{430, "SYS_ADMIN"},       // fsopen
	{431, "SYS_ADMIN"},       // fsconfig
	{432, "SYS_ADMIN"},       // fsmount
	{433, "SYS_ADMIN"},       // fspick
	{442, "SYS_ADMIN"},       // mount_setattr
	{179, "SYS_ADMIN"},       // quotactl
	{443, "SYS_ADMIN"},       // quotactl_fd
	{167, "SYS_ADMIN"},       // swapon
	{168, "SYS_ADMIN"},       // swapoff
	{175, "SYS_MODULE"},      // init_module
	{313, "SYS_MODULE"},      // finit_module
	{176, "SYS_MODULE"},      // delete_module
	{169, "SYS_BOOT"},        // reboot
	{163, "SYS_PACCT"},       // acct
	{164, "SYS_TIME"},        // settimeofday
	{227, "SYS_TIME"},        // clock_settime
	{305, "SYS_TIME"},        // clock_adjtime
	{173, "SYS_RAWIO"},       // ioperm
	{172, "SYS_RAWIO"},       // iopl
	{312, "SYS_PTRACE"},      // kcmp
	{153, "SYS_TTY_CONFIG"},  // vhangup
	{103, "SYSLOG"},          // syslog
	{321, "BPF"},             // bpf
	{298, "PERFMON"},         // perf_event_open
	{304, "DAC_READ_SEARCH"}, // open_by_handle_at
}}
