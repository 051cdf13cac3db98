package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/edge/workload"
)

// criLine is a line of a log: https://github.com/kubernetes/design-proposals-archive, node/kubelet-cri-logging.md.
var criLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] (.*)$`)

func logs(b *bench) {
	c := b.start("a_main_1", "echo", "one", "complain", "two", "exit", "0")
	b.until("a_main_1", "ended", ended)
	got := map[string]bool{}
	for _, line := range b.lines(c.Log, 2) {
		m := criLine.FindStringSubmatch(line)
		if m == nil {
			b.t.Errorf("log line %q: wanted TIME stdout|stderr F|P TEXT", line)
			continue
		}
		got[m[3]+" "+m[4]] = true
	}
	if len(got) != 2 || !got["stdout one"] || !got["stderr two"] {
		b.t.Errorf("log tells %v; wanted stdout one, stderr two", got)
	}
}

func outlives(b *bench) {
	b.start("a_main_1", "wait")
	first := b.until("a_main_1", "running", running)
	again := b.Runtime
	if b.Again != nil {
		again = b.Again()
	}
	o, there := b.find(again, "a_main_1")
	if !there || !o.Running || o.Pid != first.Pid || o.Workload != "a" || o.Image != b.digest {
		b.t.Fatalf("for the next agent: %+v, listed: %t; before %+v", o, there, first)
	}
	b.ok("stop by the next agent", again.Stop(b.ctx(), "a_main_1", time.Second))
	if o, _ := b.find(again, "a_main_1"); o.Running {
		b.t.Errorf("after a stop by the next agent: %+v", o)
	}
}

func signals(b *bench) {
	b.start("a_main_1", "wait")
	b.until("a_main_1", "running", running)
	for drained := false; !drained; { // what came of the start
		select {
		case <-b.Runtime.Changes():
		default:
			drained = true
		}
	}
	b.ok("stop", b.Runtime.Stop(b.ctx(), "a_main_1", time.Second))
	select {
	case <-b.Runtime.Changes():
	case <-b.ctx().Done():
		b.t.Error("the end of a container was not signalled")
	}
}

func execs(b *bench) {
	b.start("a_main_1", "wait")
	b.until("a_main_1", "running", running)
	if !b.Runtime.Can().Exec {
		if exit, err := b.Runtime.Exec(b.ctx(), "a_main_1", workload.Exec{Argv: []string{"true"}}); !errors.Is(err, workload.ErrUnable) || len(err.Error()) < 40 {
			b.t.Errorf("a command in a container that runs none: exit %d, %v; wanted ErrUnable, and why", exit, err)
		}
		return
	}
	var out, errs bytes.Buffer
	exit, err := b.Runtime.Exec(b.ctx(), "a_main_1", workload.Exec{Argv: b.Ask, Streams: workload.Streams{Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &errs}})
	if exit != 0 || err != nil || out.String() != "hello" {
		b.t.Errorf("%q given hello: exit %d, %v, stdout %q, stderr %q", b.Ask, exit, err, out.String(), errs.String())
	}
	out.Reset()
	exit, err = b.Runtime.Exec(b.ctx(), "a_main_1", workload.Exec{Argv: b.Say, Streams: workload.Streams{Stdout: &out}})
	if exit != 0 || err != nil || out.String() != "said\n" {
		b.t.Errorf("%q: exit %d, %v, stdout %q", b.Say, exit, err, out.String())
	}
	if exit, err := b.Runtime.Exec(b.ctx(), "a_main_1", workload.Exec{Argv: b.Fail}); exit != 3 || err != nil {
		b.t.Errorf("%q: exit %d, %v; wanted 3 and no error", b.Fail, exit, err)
	}
}

// takesSlowly has outputs that lie in pipes when their command has ended, with one pipe on the way and with more.
func takesSlowly(b *bench) {
	b.start("a_main_1", "wait")
	b.until("a_main_1", "running", running)
	if !b.Runtime.Can().Exec {
		return
	}
	var all sync.WaitGroup
	for _, size := range []int{90 << 10, 200 << 10, 250 << 10, 300 << 10} {
		all.Go(func() {
			in := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
			out := slow{pauses: 2}
			exit, err := b.Runtime.Exec(b.ctx(), "a_main_1", workload.Exec{Argv: b.Ask, Streams: workload.Streams{Stdin: bytes.NewReader(in), Stdout: &out}})
			if exit != 0 || err != nil || !bytes.Equal(out.got, in) {
				b.t.Errorf("exit %d, %v, %d bytes of %d", exit, err, len(out.got), len(in))
			}
		})
	}
	all.Wait()
}

// slow takes its time for the first pieces.
type slow struct {
	got    []byte
	pauses int
}

func (s *slow) Write(p []byte) (int, error) {
	if s.pauses--; s.pauses >= 0 {
		<-time.After(3 * time.Second)
	}
	s.got = append(s.got, p...)
	return len(p), nil
}

func notRunning(b *bench) {
	b.start("a_main_1", "exit", "0")
	b.until("a_main_1", "ended", ended)
	for _, id := range []string{"a_main_1", "never_was_1"} {
		_, execErr := b.Runtime.Exec(b.ctx(), id, workload.Exec{Argv: b.Say})
		_, statsErr := b.Runtime.Stats(b.ctx(), id)
		for call, err := range map[string]error{"exec": execErr, "stats": statsErr,
			"attach": b.Runtime.Attach(b.ctx(), id, workload.Streams{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}})} {
			if !errors.Is(err, workload.ErrNotRunning) {
				b.t.Errorf("%s in %s: %v; wanted ErrNotRunning", call, id, err)
			}
		}
	}
}

func collects(b *bench) {
	c := b.start("a_main_1", "wait")
	_, err := b.Runtime.Collect(b.ctx(), nil)
	b.ok("collect beside a container", err)
	if digest, err := b.Runtime.Pull(b.ctx(), b.Image, "never", nil); err != nil || digest != c.Image {
		b.t.Errorf("image of a running container: %q, %v; wanted it present", digest, err)
	}
	b.ok("stop", b.Runtime.Stop(b.ctx(), "a_main_1", time.Second))
	b.ok("remove", b.Runtime.Remove(b.ctx(), "a_main_1"))
	_, err = b.Runtime.Collect(b.ctx(), []string{c.Image})
	b.ok("collect all but one", err)
	if _, err := b.Runtime.Pull(b.ctx(), b.Image, "never", nil); err != nil {
		b.t.Errorf("image that is to be kept: %v", err)
	}
	freed, err := b.Runtime.Collect(b.ctx(), nil)
	if err != nil || freed <= 0 {
		b.t.Errorf("collect of an unused image: %d bytes, %v", freed, err)
	}
	if _, err := b.Runtime.Pull(b.ctx(), b.Image, "never", nil); !errors.Is(err, workload.ErrNoImage) {
		b.t.Errorf("image that nothing needs: %v; wanted it gone", err)
	}
}

func uses(b *bench) {
	c := b.start("a_main_1", "echo", "up", "grow")
	b.lines(c.Log, 1)
	var last workload.Stats
	ctx := b.ctx()
	for i := 0; i < 3 || last.MemoryBytes == 0; i++ { // what a program takes before it is moved to its group is not counted there
		s, err := b.Runtime.Stats(ctx, "a_main_1")
		b.ok(fmt.Sprintf("stats %d, the last %+v", i, last), err)
		if s.CPU < last.CPU || s.At.Before(last.At) || s.At.IsZero() {
			b.t.Errorf("stats %+v after %+v", s, last)
		}
		last = s
	}
}

// apart has another agent run a container of the same ID: control groups and names in a shared engine must not be the same.
func apart(b *bench) {
	mine := b.start("a_main_1", "echo", "up", "wait")
	subject := b.Subject
	subject.Runtime = b.Other()
	other := &bench{Subject: subject, t: b.t, dir: b.t.TempDir()}
	theirs := other.start("a_main_1", "stubborn", "echo", "up", "wait")
	b.lines(mine.Log, 1)
	other.lines(theirs.Log, 1)
	b.ok("stop", b.Runtime.Stop(b.ctx(), "a_main_1", 0))
	b.until("a_main_1", "ended", ended)
	b.ok("remove", b.Runtime.Remove(b.ctx(), "a_main_1"))
	if o, there := other.find(other.Runtime, "a_main_1"); !there || !o.Running {
		b.t.Errorf("the other agent's container after this one's was killed and removed: %+v, listed: %t", o, there)
	}
}
