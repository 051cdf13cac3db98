package workload

import (
	"fmt"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// showPull is how long a failed pull is told as such before it is told as a wait for the next.
const showPull = 3 * time.Second

// The reasons of containers that wait, as a kubelet has them.
const (
	reasonCreating  = "ContainerCreating"
	reasonPreparing = "PodInitializing"
	reasonCrash     = "CrashLoopBackOff"
	reasonPull      = "ErrImagePull"
	reasonPullWait  = "ImagePullBackOff"
	reasonNever     = "ErrImageNeverPull"
	reasonConfig    = "CreateContainerConfigError"
	reasonRun       = "RunContainerError"
)

// status tells how the workload stands. over says that nothing of it is to run.
func (d *decision) status(seen map[string]Seen, over bool) *api.WorkloadStatus {
	w := d.Want
	s := &api.WorkloadStatus{Name: w.Name, Hash: d.Hash, Runtime: d.mem.Runtime, Started: d.mem.Taken, Reason: d.mem.Failed, Message: d.mem.Message}
	done := d.done()
	s.Ready = !over
	for i := range w.Init {
		s.Containers = append(s.Containers, d.container(&w.Init[i], true, seen, over || done))
	}
	for i := range w.Containers {
		c := d.container(&w.Containers[i], false, seen, over || done)
		s.Ready = s.Ready && c.Ready
		s.Containers = append(s.Containers, c)
	}
	s.State = d.state(s.Containers, over)
	return s
}

// state sums up as the phase of a pod does.
func (d *decision) state(list []api.ContainerStatus, over bool) api.WorkloadState {
	running, waiting, failed := false, false, false
	for _, c := range list {
		switch {
		case c.State == api.ContainerRunning && !c.Init:
			running = true
		case c.State != api.ContainerTerminated && (c.Init || c.Last == nil):
			waiting = true // also for what has to come first
		case c.State == api.ContainerWaiting:
			running = true // between two runs
		case c.End != nil && c.End.Exit != 0:
			failed = true
		}
	}
	switch {
	case waiting:
		return api.WorkloadPending
	case running:
		return api.WorkloadRunning
	case failed || d.mem.Failed != "":
		return api.WorkloadFailed
	case !over && !d.done():
		return api.WorkloadRunning // between two runs
	}
	return api.WorkloadSucceeded
}

// container tells how one container stands. last says that it is not begun again.
func (d *decision) container(c *api.Container, first bool, seen map[string]Seen, last bool) api.ContainerStatus {
	p, t := d.mem.Containers[c.Name], d.Trials[c.Name]
	s := api.ContainerStatus{Name: c.Name, Init: first, State: api.ContainerWaiting, ImageDigest: p.Image, Restarts: p.Restarts, Last: p.Last}
	if p.Begun {
		s.ID = ContainerID(d.Want.Name, c.Name, p.Run)
	}
	at, there := seen[c.Name]
	switch {
	case there && at.Running:
		s.State, s.Started = api.ContainerRunning, p.Started
		t := d.Trials[c.Name]
		mine := t.Run == p.Run
		s.Up = c.Startup == nil || p.Up || mine && t.Up
		s.Ready = s.Up && !d.Want.Draining && (c.Readiness == nil || mine && t.Ready)
	case p.End != nil && (last || !p.Stale && !again(d.Want.Restart, first, p.End)):
		s.State, s.Reason, s.Message, s.End = api.ContainerTerminated, p.End.Reason, p.End.Message, p.End
		s.Ready, s.Up = first && p.End.Exit == 0, first && p.End.Exit == 0
	case p.End != nil:
		s.Last = p.End
		s.Reason = reasonCrash
		s.Message = fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", span(p.Backoff), c.Name, podName(d.Want))
		if p.Stale || p.wait(d.Now) == 0 {
			s.Reason, s.Message = reasonCreating, ""
		}
	case last && d.Busy[ContainerID(d.Want.Name, c.Name, p.Run)] == 0:
		s.State = api.ContainerTerminated
		s.End = &api.Termination{Exit: exitUnknown, Reason: reasonUnknown, Message: "it was not begun before the workload ended", Finished: d.mem.Taken}
		s.Reason, s.Message = s.End.Reason, s.End.Message
	default:
		s.Reason, s.Message = d.waiting(c, t)
	}
	s.Message = brief(s.Message)
	return s
}

// waiting tells why a container has not been begun.
func (d *decision) waiting(c *api.Container, t Trial) (reason, message string) {
	f := t.Failed
	switch {
	case f.Reason == reasonPull && d.Now.Sub(f.At) >= showPull:
		return reasonPullWait, fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, f.Reason, f.Message)
	case f.Reason == reasonPull:
		d.wake(showPull - d.Now.Sub(f.At))
		return f.Reason, f.Message
	case f.Reason != "":
		return f.Reason, f.Message
	case len(d.Want.Init) > 0:
		return reasonPreparing, ""
	}
	return reasonCreating, ""
}

// span writes a wait as a kubelet does: 10s, 1m20s, 5m0s.
func span(seconds int64) string { return (time.Duration(seconds) * time.Second).String() }

// podName names a workload as a kubelet names a pod.
func podName(w *api.Workload) string {
	if w.Pod == nil {
		return w.Name
	}
	return w.Pod.Name + "_" + w.Pod.Namespace + "(" + w.Pod.UID + ")"
}

// brief is the beginning of s as far as a status has room for it, in whole characters.
func brief(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), api.MaxReasonBytes)], "")
}

// clip is the end of s within n bytes, in whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return strings.ToValidUTF8(s, "")
	}
	return strings.ToValidUTF8(s[len(s)-n:], "")
}
