package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/runtime/confine"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/runtime/rootfs"
)

// supervisor runs one container.
type supervisor struct {
	spec    *bundle.Spec
	dir     string
	bundle  *bundle.Bundle
	reaper  *reaper
	log     *logFile
	tree    cgroup.Tree
	cgroups []string
	group   *cgroup.Group
	root    *rootfs.Root
	who     confine.Identity
	profile *confine.Profile
	env     []string
	door    net.Listener
	begun   bundle.Begun
	output  sync.WaitGroup // those who copy what the program prints

	mu       sync.Mutex
	program  int      // pid; 0 before it is started
	stdin    *os.File // our end of the program's; nil when it has none, or no more
	term     *os.File // our end of its terminal
	attached map[*attachment]struct{}
	over     chan struct{} // closed when the container has ended
	quit     chan struct{} // of a keeper of streams: closed when it is to end; nil for others
	calls    sync.WaitGroup
	count    int // of calls
}

// flushTime is how long those who are attached have to take the last that a container printed.
const flushTime = 5 * time.Second

// run does all from the first group to the last word on disk. An error means that the program was not started.
func (s *supervisor) run(ctx context.Context, children <-chan os.Signal, started func()) error {
	if err := s.settle(); err != nil {
		return errors.Join(err, s.abandon(ctx))
	}
	stop := make(chan struct{})
	defer close(stop)
	go s.reaper.run(children, stop)
	ended, err := s.start()
	if err != nil {
		end := &bundle.End{Exit: 128, Message: oneLine(err), Finished: time.Now()}
		return errors.Join(err, s.bundle.Finish(end), s.abandon(ctx))
	}
	started()
	go s.serve()
	end := <-ended
	s.reaper.end()
	s.output.Wait()
	s.finish(end)
	return nil
}

// abandon takes back the groups of a container that did not come to be.
func (s *supervisor) abandon(ctx context.Context) error {
	if s.group == nil {
		return nil
	}
	return errors.Join(s.group.Kill(ctx), s.group.Close())
}

// settle prepares everything that is outside of the container, and enters it.
func (s *supervisor) settle() error {
	pid, start, boot, err := self()
	if err != nil {
		return err
	}
	if s.tree, err = cgroup.Find(); err != nil {
		return err
	}
	if err := s.tree.Leave(s.spec.Cgroup, shedCgroup); err != nil {
		s.begun.Without = append(s.begun.Without, "supervisor's own control group: "+oneLine(err))
	}
	if s.cgroups, err = s.tree.Create(s.spec.Cgroup, s.spec.ID); err != nil {
		return err
	}
	if s.group, err = cgroup.Open(s.cgroups); err != nil {
		return err
	}
	limits := cgroup.Limits{MemoryBytes: s.spec.Limits.MemoryBytes, CPUMillis: s.spec.Limits.CPUMillis, Processes: s.spec.Processes}
	if s.spec.Kind == bundle.KindWasm && limits.MemoryBytes > 0 {
		limits.MemoryBytes += moduleMemory // the module's own is bounded by its pages
	}
	if err := s.group.Set(limits); err != nil {
		return err
	}
	if held, err := s.group.Weigh(cgroup.Shares(s.spec.Requests.CPUMillis)); err != nil {
		return fmt.Errorf("cpu weight: %w", err)
	} else if !held {
		s.begun.Without = append(s.begun.Without, "cpu weight: this kernel has no control group for it")
	}
	if limits.Processes > 0 && !s.group.HasPids() {
		s.begun.Without = append(s.begun.Without, "pids: this kernel does not bound the number of processes")
	}
	if s.log, err = openLog(s.spec.Log, s.spec.LogBytes); err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	s.begun.Pid, s.begun.Start, s.begun.Boot, s.begun.Cgroups = pid, start, boot, s.cgroups
	if err := s.enter(); err != nil {
		return err
	}
	s.begun.Started = time.Now()
	return s.bundle.Begin(&s.begun)
}

// listen opens the door, for root alone. Its name is relative, as the whole could be too long for a socket.
func (s *supervisor) listen() error {
	unix.Umask(0o177)
	door, err := net.ListenUnix("unix", &net.UnixAddr{Name: bundle.SocketFile, Net: "unix"})
	unix.Umask(0o022)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	door.SetUnlinkOnClose(false) // by then the name is out of reach; the bundle goes as a whole
	s.door = door
	return nil
}

// enter goes into the container: its files, name, user and confinement.
func (s *supervisor) enter() error {
	// Before there is anything inside: nobody reads the supervisor's memory or takes its descriptors.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid to be read: %w", err)
	}
	if s.spec.Hostname != "" {
		if err := unix.Sethostname([]byte(s.spec.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", s.spec.Hostname, err)
		}
	}
	cfg := &rootfs.Config{Dir: s.dir, Lower: s.spec.Lower, ReadOnly: s.spec.Security.ReadOnlyRoot,
		Privileged: s.spec.Security.Privileged, Work: s.spec.Dir}
	for _, m := range s.spec.Mounts {
		cfg.Mounts = append(cfg.Mounts, rootfs.Mount{Source: m.Source, Within: m.Within, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	var err error
	if s.root, err = rootfs.Enter(cfg); err != nil {
		return err
	}
	passwd, groups, err := confine.Accounts()
	if err != nil {
		return err
	}
	if s.who, err = confine.Who(s.spec.User, &s.spec.Security, passwd, groups); err != nil {
		return err
	}
	set, err := confine.Capabilities(s.rights())
	if err != nil {
		return err
	}
	var without []string
	s.profile, without = confine.NewProfile(set, s.spec.Security.Privileged)
	s.begun.Without = append(s.begun.Without, without...)
	s.env = launch.Complete(s.spec.Env, s.who.Home, s.spec.Hostname, s.spec.TTY)
	return ordinaryLimits()
}

// rights are those that were asked for. A module has none but those: it has no use for what programs usually have.
func (s *supervisor) rights() *api.Confinement {
	security := s.spec.Security
	if s.spec.Kind == bundle.KindWasm {
		security.Drop = []string{"ALL"} // before what is added
	}
	return &security
}

// ordinaryLimits are those of programs on the node rather than those of the agent's service.
func ordinaryLimits() error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	files.Max = min(files.Max, 1<<20)
	files.Cur = min(files.Max, 1024)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("set limit of open files: %w", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// finish writes how the container ended, and does not give up: a disk may be full today.
func (s *supervisor) finish(end *bundle.End) {
	end.Finished = time.Now()
	end.OOM = s.group.OOMKills() > 0 && end.Exit != 0
	end.LostLog = s.log.sync()
	for s.bundle.Finish(end) != nil {
		<-time.After(time.Second)
	}
	s.leave()
}
