// Command payload is what containers of the tests run: each argument list is a small deed.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"serve"}
	}
	if err := do(args[0], args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "payload:", err)
		os.Exit(1)
	}
}

func do(deed string, args []string) error {
	switch deed {
	case "serve": // until SIGTERM, which it obeys
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println("serving")
		<-term
		fmt.Println("stopping")
		os.Exit(3)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("serving")
		for {
			time.Sleep(time.Hour)
		}
	case "exit":
		n, _ := strconv.Atoi(args[0])
		os.Exit(n)
	case "say":
		fmt.Println(strings.Join(args, " "))
	case "both":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "lines": // count, length, exit
		n, _ := strconv.Atoi(args[0])
		width, _ := strconv.Atoi(args[1])
		w := bufio.NewWriter(os.Stdout)
		for i := range n {
			fmt.Fprintf(w, "%06d %s\n", i, strings.Repeat("x", width))
		}
		return w.Flush()
	case "hog": // touch memory for ever
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
			if len(all) > 1<<14 {
				return fmt.Errorf("took 16 GiB")
			}
		}
	case "burn": // CPU, for a duration
		d, _ := time.ParseDuration(args[0])
		for end := time.Now().Add(d); time.Now().Before(end); {
		}
	case "fork": // leaves processes behind that hold its output
		for range 3 {
			cmd := exec.Command("/payload", "stubborn")
			cmd.Stdout = os.Stdout
			if err := cmd.Start(); err != nil {
				return err
			}
		}
		fmt.Println("left three")
	case "forks": // as many as it can
		for i := range 10000 {
			if err := exec.Command("/payload", "stubborn").Start(); err != nil {
				fmt.Println("refused after", i)
				return nil
			}
		}
	case "who":
		groups, _ := os.Getgroups()
		host, _ := os.Hostname()
		dir, _ := os.Getwd()
		fmt.Println("uid", os.Getuid(), "gid", os.Getgid(), "groups", groups, "host", host, "dir", dir, "pid", os.Getpid(), "ppid", os.Getppid())
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "read":
		raw, err := os.ReadFile(args[0])
		fmt.Print(string(raw))
		return err
	case "write":
		return os.WriteFile(args[0], []byte(args[1]), 0o644)
	case "link":
		return os.Symlink(args[0], args[1])
	case "list":
		return filepath.WalkDir(args[0], func(p string, d os.DirEntry, err error) error {
			fmt.Println(p)
			return err
		})
	case "status":
		raw, err := os.ReadFile("/proc/self/status")
		fmt.Print(string(raw))
		return err
	case "calls": // one line for each system call that should be refused
		for _, c := range calls {
			_, _, e := syscall.Syscall6(c.nr, c.a, c.b, 0, 0, 0, 0)
			fmt.Println(c.name, int(e))
		}
	case "kill": // pid, signal
		pid, _ := strconv.Atoi(args[0])
		sig, _ := strconv.Atoi(args[1])
		return syscall.Kill(pid, syscall.Signal(sig))
	case "size": // of the terminal, again whenever it changes
		change := make(chan os.Signal, 1)
		signal.Notify(change, syscall.SIGWINCH)
		for {
			var ws [4]uint16
			if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&ws))); e != 0 {
				return e
			}
			fmt.Println("size", ws[1], ws[0])
			if ws[0] != 0 {
				return nil
			}
			<-change
		}
	case "mknod":
		if err := syscall.Mknod(args[0], syscall.S_IFCHR|0o666, 1<<8|1); err != nil {
			return err
		}
		_, err := os.Open(args[0])
		return err
	case "append": // its own pid to a file, then serve: a witness that it ran
		f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(f, "ran\n"); err != nil {
			return err
		}
		if len(args) > 1 {
			return do(args[1], args[2:])
		}
		return nil
	case "hold": // the lock of a file for as long as it lives
		f, err := os.OpenFile(args[0], os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			fmt.Println("second at once")
			return err
		}
		return do("serve", nil)
	default:
		return fmt.Errorf("unknown deed %q", deed)
	}
	return nil
}
