package process

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/workload"
)

func TestAContainerOutlivesItsAgentAndIsFoundAgain(t *testing.T) {
	r := newRig(t)
	if err := os.Mkdir(filepath.Join(r.dir, "witness"), 0o755); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		started := r.agentIsKilled(time.Duration(rand.IntN(400)) * time.Millisecond)
		fresh := &rig{t: t, dir: r.dir, images: r.images, Runtime: newRuntime(t, r.dir, r.images)}
		all, err := fresh.List(t.Context())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		running := map[string]bool{}
		for _, o := range all {
			running[o.ID] = o.Running
			if !o.Running && !o.Unknown {
				t.Errorf("round %d: %+v; wanted it to run, or never to have been started", round, o)
			}
		}
		for _, id := range started {
			if !running[id] {
				t.Errorf("round %d: %s was started and is not found", round, id)
			}
		}
		for id := range running {
			fresh.ranAtMostOnce(id)
		}
		if err := fresh.clean(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(r.dir, "witness")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(r.dir, "witness"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// agentIsKilled lets an agent start containers, kills it after its first with a delay, and returns those whose start was told.
func (r *rig) agentIsKilled(delay time.Duration) (started []string) {
	r.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PROCESS_AGENT="+r.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if i, ok := strings.CutPrefix(sc.Text(), "started "); ok {
			started = append(started, workload.ContainerID("w", "c"+i, 0))
		}
		if len(started) == 1 && delay >= 0 {
			time.AfterFunc(delay, func() { _ = cmd.Process.Kill() }) // it cannot have been collected
			delay = -1
		}
	}
	_ = cmd.Wait() // killed
	return started
}

func (r *rig) ranAtMostOnce(id string) {
	r.t.Helper()
	_, name, _, _ := workload.ParseContainerID(id)
	raw, err := os.ReadFile(filepath.Join(r.dir, "witness", strings.TrimPrefix(name, "c")))
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	if n := strings.Count(string(raw), "ran"); n > 1 {
		r.t.Errorf("%s ran %d times", id, n)
	}
}

func TestTheEndIsKeptWhileNoAgentIsThere(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "serve")
	r.start(c)
	r.says(c, "serving")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	call, err := bundle.Dial(t.Context(), filepath.Join(r.cfg.Dir, c.ID), &bundle.Request{Op: bundle.OpSignal})
	if err != nil {
		t.Fatal(err)
	}
	if err := call.Close(); err != nil {
		t.Fatal(err)
	}
	r.Runtime = newRuntime(t, r.dir, r.images)
	if o := r.ended(c.ID); o.Exit != 3 || o.Unknown {
		t.Errorf("got %+v; wanted exit 3", o)
	}
}

func TestAnotherAgentIsToldOfTheEnd(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "serve")
	r.start(c)
	r.says(c, "serving")
	other := newRuntime(t, r.dir, r.images)
	if _, err := other.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context(), c.ID, time.Minute); err != nil {
		t.Fatal(err)
	}
	select {
	case <-other.Changes():
	case <-time.After(20 * time.Second):
		t.Error("nothing was told")
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

func TestAKilledSupervisorTakesAllWithItAndTheEndIsUnknown(t *testing.T) {
	r := newRig(t)
	for round := range 6 {
		c := r.container("a"+string(rune('a'+round)), "serve")
		r.start(c)
		if round%2 == 0 {
			r.says(c, "serving")
		}
		begun := r.begun(c.ID)
		<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
		if err := unix.Kill(begun.Pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		o := r.ended(c.ID)
		if !o.Unknown || o.Message != "its supervisor was killed" {
			t.Errorf("got %+v; wanted it unknown", o)
		}
		group, err := cgroup.Open(begun.Cgroups)
		if err != nil {
			t.Fatal(err)
		}
		if pids := group.Pids(); len(pids) > 0 {
			t.Errorf("processes %v are left", pids)
		}
		if err := group.Close(); err != nil {
			t.Error(err)
		}
		again := r.ended(c.ID)
		if !again.Started.Equal(o.Started) || !again.Finished.Equal(o.Finished) {
			t.Errorf("got %+v, then %+v", o, again)
		}
		again.Started, again.Finished = o.Started, o.Finished // equal, but one of them may have a monotonic part
		if again != o {
			t.Errorf("got %+v, then %+v", o, again)
		}
	}
}

func TestAfterARestartOfTheNodeContainersHaveEnded(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "serve")
	dir := filepath.Join(r.cfg.Dir, c.ID)
	if err := bundle.Create(dir, &bundle.Record{ID: c.ID, Workload: "w", Kind: bundle.KindProcess, Image: c.Image}); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	start, err := bundle.StartOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// The process of the same number, started at the same tick, is another's.
	if err := b.Begin(&bundle.Begun{Pid: os.Getpid(), Start: start, Boot: "another", Started: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	o, _ := r.observe(c.ID)
	if o.Running || !o.Unknown || o.Message != "the node was restarted" {
		t.Errorf("got %+v", o)
	}
	if err := r.Start(t.Context(), c); err == nil {
		t.Error("it was started again")
	}
}

func TestWhatAnAgentBeganAndNeverStartedCanBeStarted(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "exit", "0")
	if err := bundle.Create(filepath.Join(r.cfg.Dir, c.ID), &bundle.Record{ID: c.ID, Workload: "w", Kind: bundle.KindProcess}); err != nil {
		t.Fatal(err)
	}
	if o, _ := r.observe(c.ID); o.Running || !o.Unknown {
		t.Errorf("got %+v", o)
	}
	if o, _ := r.run(c); o.Unknown || o.Exit != 0 {
		t.Errorf("got %+v", o)
	}
}

func TestManyEndsLeaveNothing(t *testing.T) {
	r := newRig(t)
	rounds := 15
	if n, err := strconv.Atoi(os.Getenv("PROCESS_ROUNDS")); err == nil {
		rounds = n // thousands, for once
	}
	before := descriptors(t)
	for i := range rounds {
		c := r.container("a", "exit", "1")
		c.ID = workload.ContainerID("w", "a", i)
		if o, _ := r.run(c); o.Exit != 1 {
			t.Fatalf("round %d: %+v", i, o)
		}
		if err := r.Remove(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
	c := r.serving("many")
	for i := range rounds * 5 {
		if exit, _ := r.exec(c.ID, "/payload", "exit", "5"); exit != 5 {
			t.Fatalf("exec %d: exit %d", i, exit)
		}
	}
	pid := r.begun(c.ID).Pid
	for what, most := range map[string]int{"fd": 40, "task": 20} {
		r.until("the supervisor to hold but its own of "+what, func() bool {
			there, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/" + what)
			return err == nil && len(there) <= most
		})
	}
	if err := r.Stop(t.Context(), c.ID, 0); err != nil {
		t.Fatal(err)
	}
	r.until("descriptors to be given back", func() bool { return descriptors(t) <= before+3 })
	if left, err := os.ReadDir(r.cfg.Dir); err != nil || len(left) != 1 {
		t.Errorf("folders %v, %v; wanted the last container's", left, err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestAStopThatComesAsTheProgramEndsLeavesItsSupervisorTheLastWord stands in for a supervisor that has yet to write the end down.
func TestAStopThatComesAsTheProgramEndsLeavesItsSupervisorTheLastWord(t *testing.T) {
	r := newRigIn(t, shortDir(t))
	c := r.container("a", "serve")
	dir := filepath.Join(r.cfg.Dir, c.ID)
	if err := bundle.Create(dir, &bundle.Record{ID: c.ID, Workload: "w", Kind: bundle.KindProcess}); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := errors.Join(b.Take(), cmd.Start()); err != nil {
		t.Fatal(err)
	}
	start, err := bundle.StartOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	begun := &bundle.Begun{Pid: cmd.Process.Pid, Start: start, Boot: r.boot, Started: time.Now()}
	door, err := net.Listen("unix", filepath.Join(dir, bundle.SocketFile))
	if err := errors.Join(err, b.Begin(begun)); err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	said := make(chan error, 1)
	go func() { said <- refuseAsEnded(door) }()
	written := make(chan error, 1)
	go func() {
		err := <-said
		<-time.After(300 * time.Millisecond) // as a slow disk has it
		written <- errors.Join(err, b.Finish(&bundle.End{Exit: 3, Finished: time.Now()}), b.Close())
	}()
	if err := errors.Join(r.Stop(t.Context(), c.ID, 0), <-written); err != nil {
		t.Error(err)
	}
	if !begun.Running(r.boot) {
		t.Error("the supervisor was killed")
	}
	if o, _ := r.observe(c.ID); o.Exit != 3 || o.Unknown {
		t.Errorf("got %+v; wanted exit 3", o)
	}
	_ = errors.Join(cmd.Process.Kill(), cmd.Wait()) // it was killed
}

// shortDir is one whose sockets have names that are not too long.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skerry-process")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// refuseAsEnded answers one request as a supervisor does whose program has ended.
func refuseAsEnded(door net.Listener) error {
	conn, err := door.Accept()
	if err != nil {
		return err
	}
	var q bundle.Request
	return errors.Join(bundle.ReadJSON(conn, bundle.FrameRequest, &q),
		bundle.WriteJSON(conn, bundle.FrameAnswer, bundle.Answer{Error: "the container has ended", Ended: true}), conn.Close())
}

func TestAStoppedSupervisorDoesNotKeepItsContainer(t *testing.T) {
	r := newRig(t)
	c := r.serving("a")
	if err := unix.Kill(r.begun(c.ID).Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context(), c.ID, 0); err != nil {
		t.Fatal(err)
	}
	if o, _ := r.observe(c.ID); o.Running || !o.Unknown {
		t.Errorf("got %+v", o)
	}
}
