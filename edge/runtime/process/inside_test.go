package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/edge/workload"
)

// pad is a writer that several goroutines share.
type pad struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (p *pad) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

func (p *pad) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.String()
}

func (r *rig) serving(name string) workload.Container {
	r.t.Helper()
	c := r.container(name, "serve")
	r.start(c)
	r.says(c, "serving")
	return c
}

func TestExecRunsInsideWithTheSameRights(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "serve")
	c.Security.User = new(int64(1000))
	c.Hostname = "rock"
	c.Env = []string{"COLOUR=grey"}
	r.start(c)
	if exit, out := r.exec(c.ID, "/payload", "who"); exit != 0 || !strings.Contains(out, "uid 1000") || !strings.Contains(out, "host rock") {
		t.Errorf("exit %d, %q", exit, out)
	}
	if exit, out := r.exec(c.ID, "/payload", "status"); exit != 0 || !strings.Contains(out, "CapEff:\t0000000000000000") ||
		!strings.Contains(out, "NoNewPrivs:\t1") || !strings.Contains(out, "Seccomp:\t2") {
		t.Errorf("exit %d, %q", exit, out)
	}
	if _, out := r.exec(c.ID, "/payload", "env"); !strings.Contains(out, "COLOUR=grey") {
		t.Errorf("environment %q", out)
	}
	if exit, _ := r.exec(c.ID, "/payload", "exit", "42"); exit != 42 {
		t.Errorf("exit %d; wanted 42", exit)
	}
}

func TestExecPassesStreamsApart(t *testing.T) {
	r := newRig(t)
	c := r.serving("a")
	var out, errs bytes.Buffer
	if _, err := r.Exec(t.Context(), c.ID, workload.Exec{Argv: []string{"/payload", "both"}, Streams: workload.Streams{Stdout: &out, Stderr: &errs}}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "to stdout\n" || errs.String() != "to stderr\n" {
		t.Errorf("got %q and %q", out.String(), errs.String())
	}
	long := strings.Repeat("0123456789abcdef", 64<<10)
	out.Reset()
	exit, err := r.Exec(t.Context(), c.ID, workload.Exec{Argv: []string{"/payload", "cat"}, Streams: workload.Streams{Stdin: strings.NewReader(long), Stdout: &out}})
	if err != nil || exit != 0 || out.String() != long {
		t.Errorf("exit %d, %v, %d bytes came back of %d", exit, err, out.Len(), len(long))
	}
}

func TestExecOnATerminalFollowsItsSize(t *testing.T) {
	r := newRig(t)
	c := r.serving("a")
	sizes := make(chan workload.Size, 1)
	sizes <- workload.Size{Columns: 123, Rows: 45}
	var out pad
	exit, err := r.Exec(t.Context(), c.ID, workload.Exec{Argv: []string{"/payload", "size"}, TTY: true, Streams: workload.Streams{
		Stdin: strings.NewReader(""), Stdout: &out, Resize: sizes}})
	if err != nil || exit != 0 || !strings.Contains(out.String(), "size 123 45\r\n") {
		t.Errorf("exit %d, %v, %q", exit, err, out.String())
	}
}

func TestExecEndsWithItsCaller(t *testing.T) {
	r := newRig(t)
	c := r.serving("a")
	ctx, cancel := context.WithCancel(t.Context())
	var out pad
	done := make(chan error, 1)
	go func() {
		_, err := r.Exec(ctx, c.ID, workload.Exec{Argv: []string{"/payload", "stubborn"}, Streams: workload.Streams{Stdout: &out}})
		done <- err
	}()
	r.until("output", func() bool { return out.String() == "serving\n" })
	before, err := r.Stats(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; wanted the end of its time", err)
	}
	r.until("end of the command", func() bool {
		s, err := r.Stats(t.Context(), c.ID)
		return err == nil && s.Processes < before.Processes
	})
	if o, _ := r.observe(c.ID); !o.Running {
		t.Errorf("the container ended too: %+v", o)
	}
}

func TestExecTellsWhatCannotBeRun(t *testing.T) {
	r := newRig(t)
	c := r.serving("a")
	for _, argv := range [][]string{nil, {""}, {"/no/such"}, {"nosuch"}, {"/etc"}} {
		if exit, err := r.Exec(t.Context(), c.ID, workload.Exec{Argv: argv}); err == nil || errors.Is(err, workload.ErrNotRunning) {
			t.Errorf("%q: exit %d, %v; wanted an error about the program", argv, exit, err)
		}
	}
	if err := r.Stop(t.Context(), c.ID, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Exec(t.Context(), c.ID, workload.Exec{Argv: []string{"/payload", "who"}}); !errors.Is(err, workload.ErrNotRunning) {
		t.Errorf("exec after the end: %v", err)
	}
	if err := r.Attach(t.Context(), c.ID, workload.Streams{}); !errors.Is(err, workload.ErrNotRunning) {
		t.Errorf("attach after the end: %v", err)
	}
	if _, err := r.Stats(t.Context(), c.ID); !errors.Is(err, workload.ErrNotRunning) {
		t.Errorf("stats after the end: %v", err)
	}
	if _, err := r.Stats(t.Context(), "w_none_0"); !errors.Is(err, workload.ErrNotRunning) {
		t.Errorf("stats of none: %v", err)
	}
}

func TestAttachTiesStreamsUntilTheEnd(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "cat")
	c.Stdin = true
	r.start(c)
	var out pad
	in, feed := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- r.Attach(t.Context(), c.ID, workload.Streams{Stdin: in, Stdout: &out}) }()
	if _, err := feed.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	r.until("echo", func() bool { return out.String() == "hello\n" })
	if err := feed.Close(); err != nil { // the end of the input is that of cat
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if o := r.ended(c.ID); o.Exit != 0 {
		t.Errorf("got %+v", o)
	}
	if text := r.logOf(c); text != "hello\n" {
		t.Errorf("log %q", text)
	}
}

// paced sends no more than 64 KiB ahead of what comes back, so that its own reader, however slow, is never taken for a stuck one.
type paced struct {
	ctx   context.Context
	from  io.Reader
	ahead int // sent and not back yet; of Read and Write
	mu    sync.Mutex
}

func (p *paced) Read(b []byte) (int, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.over(0) > 64<<10 {
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
	n, err := p.from.Read(b[:min(len(b), 32<<10)])
	p.over(n)
	return n, err
}

func (p *paced) Write(b []byte) (int, error) {
	p.over(-len(b))
	return len(b), nil
}

func (p *paced) over(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ahead += n
	return p.ahead
}

func TestOneWhoIsAttachedAndReadsNothingDoesNotStopTheContainer(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "cat")
	c.Stdin = true
	r.start(c)
	stuck, cancel := context.WithCancel(t.Context())
	slow := make(chan error, 1)
	reached := make(chan struct{}, 1)
	go func() { slow <- r.Attach(stuck, c.ID, workload.Streams{Stdout: stuckWriter{stuck, reached}}) }()
	sent := strings.Repeat(strings.Repeat("x", 1023)+"\n", 4<<10)
	echo := &paced{ctx: t.Context(), from: strings.NewReader(sent), ahead: len("first\n")}
	if err := r.Attach(t.Context(), c.ID, workload.Streams{Stdin: io.MultiReader(strings.NewReader("first\n"), &after{reached, echo}), Stdout: echo}); err != nil {
		t.Error(err)
	}
	o := r.ended(c.ID)
	if text := r.logOf(c); o.Exit != 0 || len(text) != len(sent)+len("first\n") {
		t.Errorf("exit %d; %d bytes in the log of %d", o.Exit, len(text), len(sent))
	}
	cancel()
	if err := <-slow; err == nil {
		t.Error("the one who read nothing was told nothing")
	}
}

// stuckWriter takes nothing until its time ends.
type stuckWriter struct {
	ctx     context.Context
	reached chan<- struct{}
}

func (w stuckWriter) Write([]byte) (int, error) {
	select {
	case w.reached <- struct{}{}:
	default:
	}
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

// after is a reader that begins when it is told.
type after struct {
	begin <-chan struct{}
	r     io.Reader
}

func (a *after) Read(p []byte) (int, error) {
	if a.begin != nil {
		select {
		case <-a.begin:
		case <-time.After(20 * time.Second): // the other was let go before it read
		}
		a.begin = nil
	}
	return a.r.Read(p)
}

func TestATerminalOfTheContainerIsAttachedTo(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "size")
	c.TTY, c.Stdin = true, true
	r.start(c)
	sizes := make(chan workload.Size, 1)
	sizes <- workload.Size{Columns: 80, Rows: 25}
	if err := r.Attach(t.Context(), c.ID, workload.Streams{Resize: sizes}); err != nil {
		t.Fatal(err)
	}
	if text := r.logOf(c); !strings.Contains(text, "size 80 25") {
		t.Errorf("log %q", text)
	}
}

func TestTheLogIsRotatedAndBounded(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "lines", "5000", "100")
	c.LogBytes = 100 << 10
	r.run(c)
	old, err := os.ReadFile(c.Log + ".1")
	if err != nil {
		t.Fatal(err)
	}
	last, err := os.ReadFile(c.Log)
	if err != nil {
		t.Fatal(err)
	}
	if len(old) > 100<<10 || len(last) > 100<<10 || len(old) < 80<<10 {
		t.Errorf("files of %d and %d bytes; wanted at most %d", len(old), len(last), 100<<10)
	}
	text := plainLog(t, append(old, last...))
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if end := lines[len(lines)-1]; !strings.HasPrefix(end, "004999 ") {
		t.Errorf("last line %q", end)
	}
	for i := 1; i < len(lines); i++ {
		if lines[i][:6] <= lines[i-1][:6] {
			t.Fatalf("%q follows %q", lines[i][:6], lines[i-1][:6])
		}
	}
}

func TestALineThatIsTooLongComesInParts(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "say", strings.Repeat("z", 50_000))
	if _, text := r.run(c); text != strings.Repeat("z", 50_000)+"\n" {
		t.Errorf("got %d bytes", len(text))
	}
}
