package shim

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper collects every process that ends. As the first process of the namespace it gets those whose parents have ended too.
type reaper struct {
	mu      sync.Mutex // held while one is started, so that none ends unknown
	waiting map[int]chan<- unix.WaitStatus
}

// start starts a process and returns where its end will be told.
func (r *reaper) start(argv0 string, argv []string, attr *syscall.ProcAttr) (int, <-chan unix.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(argv0, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	ended := make(chan unix.WaitStatus, 1)
	r.waiting[pid] = ended
	return pid, ended, nil
}

// collect takes all that have ended; none is true when there is no process left.
func (r *reaper) collect(options int) (none bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, options, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return true
		case pid == 0:
			return false
		case ws.Exited() || ws.Signaled():
			if ended, ok := r.waiting[pid]; ok {
				ended <- ws
				delete(r.waiting, pid)
			}
		}
	}
}

// run collects whenever a child ends, until stop.
func (r *reaper) run(children <-chan os.Signal, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-children:
			r.collect(unix.WNOHANG)
		}
	}
}

// signal sends one to a process of ours that has not been collected, so that its number is still its own.
func (r *reaper) signal(pid int, group bool, sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiting[pid]; !ok {
		return unix.ESRCH
	}
	if group {
		return unix.Kill(-pid, sig)
	}
	return unix.Kill(pid, sig)
}

// end kills everything in the container and returns when it is gone. Only for the first process of a namespace.
func (r *reaper) end() {
	if err := unix.Kill(-1, unix.SIGKILL); err != nil {
		return // nobody is left
	}
	r.collect(0)
}
