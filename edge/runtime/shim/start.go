package shim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
)

// start starts the container's program.
func (s *supervisor) start() (<-chan *bundle.End, error) {
	if s.spec.Kind == bundle.KindWasm {
		return s.startModule()
	}
	p, err := s.plumb(s.spec.TTY, s.spec.Stdin)
	if err != nil {
		return nil, err
	}
	pid, status, err := s.spawn(s.spec.Argv, s.env, p)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	s.adopt(pid, p)
	ended := make(chan *bundle.End, 1)
	go func() { ended <- endOf(<-status) }()
	return ended, nil
}

// adopt makes a process the container's program, whose output is its log.
func (s *supervisor) adopt(pid int, p *plumbing) {
	s.mu.Lock()
	s.program, s.stdin, s.term = pid, p.stdin, p.term
	s.mu.Unlock()
	for stream, r := range p.outputs() {
		s.output.Go(func() { copyLog(r, stream, s.log, s.publish) })
	}
}

func endOf(ws unix.WaitStatus) *bundle.End {
	if ws.Signaled() {
		return &bundle.End{Exit: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
	}
	return &bundle.End{Exit: ws.ExitStatus()}
}

// plumbing is both ends of a program's standard streams.
type plumbing struct {
	tty                   bool
	stdin, stdout, stderr *os.File // our ends; of a terminal only stdin and term, which are one
	term                  *os.File
	theirs                []*os.File // what is closed once the program has them
	fds                   [3]*os.File
	extra                 []*os.File // from descriptor 3 on
}

func (s *supervisor) plumb(tty, stdin bool) (*plumbing, error) {
	p := &plumbing{tty: tty}
	if tty {
		ours, theirs, err := terminal(s.root.Pts)
		if err != nil {
			return nil, err
		}
		p.term, p.theirs, p.fds = ours, []*os.File{theirs}, [3]*os.File{theirs, theirs, theirs}
		if stdin {
			p.stdin = ours
		}
		if err := theirs.Chown(int(s.who.UID), int(s.who.GID)); err != nil {
			return nil, errors.Join(err, p.close())
		}
		return p, nil
	}
	p.fds[0] = s.root.Null
	var err error
	add := func(i int, ours **os.File, weRead bool) {
		var theirs *os.File
		var perr error
		if *ours, theirs, perr = pipe(weRead); perr != nil {
			err = errors.Join(err, perr)
			return
		}
		p.fds[i] = theirs
		p.theirs = append(p.theirs, theirs)
		err = errors.Join(err, theirs.Chown(int(s.who.UID), int(s.who.GID))) // some open /dev/stdout by its name
	}
	if stdin {
		add(0, &p.stdin, false)
	}
	add(1, &p.stdout, true)
	add(2, &p.stderr, true)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// outputs are what the program prints, by stream.
func (p *plumbing) outputs() map[string]*os.File {
	if p.tty {
		return map[string]*os.File{"stdout": p.term}
	}
	return map[string]*os.File{"stdout": p.stdout, "stderr": p.stderr}
}

func (p *plumbing) close() error {
	var errs []error
	for _, f := range append(p.theirs, p.stdin, p.stdout, p.stderr, p.term) {
		if f != nil {
			if err := f.Close(); !errors.Is(err, os.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// spawn starts a program inside, confined, and moves it to the container's groups.
func (s *supervisor) spawn(argv, env []string, p *plumbing) (int, <-chan unix.WaitStatus, error) {
	if len(argv) == 0 || argv[0] == "" {
		return 0, nil, errors.New("no command: neither the image nor the workload has one")
	}
	dir := s.spec.Dir
	if dir == "" {
		dir = "/"
	}
	file, err := lookUp(argv[0], dir, env)
	if err != nil {
		return 0, nil, err
	}
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: p.tty,
		Credential: &syscall.Credential{Uid: s.who.UID, Gid: s.who.GID, Groups: s.who.Groups}}}
	for _, f := range append(p.fds[:], p.extra...) {
		attr.Files = append(attr.Files, f.Fd())
	}
	type result struct {
		pid    int
		status <-chan unix.WaitStatus
		err    error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: this thread ends with this function, and its confinement with it
		r := result{err: s.profile.Thread()}
		if r.err == nil {
			if r.pid, r.status, r.err = s.reaper.start(file, argv, attr); r.err != nil {
				r.err = fmt.Errorf("start %s: %w", file, r.err)
			}
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		return 0, nil, r.err
	}
	for _, f := range p.theirs {
		r.err = errors.Join(r.err, f.Close())
	}
	if err := errors.Join(r.err, s.gather()); err != nil {
		return 0, nil, errors.Join(err, s.reaper.signal(r.pid, true, unix.SIGKILL))
	}
	return r.pid, r.status, nil
}

// gather moves every process inside to the container's groups, again until no new one is seen: a program that was just
// started may have started others before it was moved.
func (s *supervisor) gather() error {
	moved := map[int]bool{1: true}
	for again := true; again; {
		again = false
		dir, err := s.root.Proc.Open(".")
		if err != nil {
			return err
		}
		names, err := dir.Readdirnames(-1)
		if err := errors.Join(err, dir.Close()); err != nil {
			return err
		}
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil || moved[pid] {
				continue
			}
			if err := s.group.Add(pid); err != nil {
				return fmt.Errorf("move process to its control group: %w", err)
			}
			moved[pid], again = true, true
		}
	}
	return nil
}

// lookUp finds a program as a shell would.
func lookUp(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var search string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	for d := range strings.SplitSeq(search, ":") {
		if !path.IsAbs(d) {
			d = path.Join(dir, d)
		}
		file := path.Join(d, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("start %s: no such program in PATH %q: %w", name, search, os.ErrNotExist)
}
