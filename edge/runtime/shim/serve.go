package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
)

// The bounds of those who talk to a supervisor.
const (
	maxCalls    = 64
	requestTime = 10 * time.Second
	writeTime   = 30 * time.Second
)

// serve answers until the process ends.
func (s *supervisor) serve() {
	for {
		conn, err := s.door.Accept()
		if err != nil {
			select {
			case <-s.over:
				return
			case <-time.After(100 * time.Millisecond): // such as when there are no descriptors left
				continue
			}
		}
		s.mu.Lock()
		full := s.count >= maxCalls
		if !full {
			s.count++
			s.calls.Add(1)
		}
		s.mu.Unlock()
		if full {
			refuse(conn, &bundle.Answer{Error: fmt.Sprintf("%d conversations are under way; wanted fewer", maxCalls)})
			continue
		}
		go func() {
			s.answer(&caller{conn: conn})
			s.mu.Lock()
			s.count--
			s.mu.Unlock()
			s.calls.Done()
		}()
	}
}

func refuse(conn net.Conn, a *bundle.Answer) {
	_ = conn.SetDeadline(time.Now().Add(requestTime)) // each of these fails when the caller has gone, who then needs no answer
	_ = bundle.WriteJSON(conn, bundle.FrameAnswer, a)
	_ = conn.Close()
}

// caller is the other side of one conversation.
type caller struct {
	conn net.Conn
	mu   sync.Mutex // of writes
}

func (c *caller) send(kind byte, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	for len(body) > bundle.MaxFrame {
		if err := bundle.WriteFrame(c.conn, kind, body[:bundle.MaxFrame]); err != nil {
			return err
		}
		body = body[bundle.MaxFrame:]
	}
	return bundle.WriteFrame(c.conn, kind, body)
}

func (c *caller) tell(kind byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(kind, raw)
}

// listen passes on what the caller sends, until it has gone.
func (c *caller) listen(input *os.File, term *os.File, closeInput func()) {
	buf := make([]byte, 4<<10)
	for {
		kind, body, err := bundle.ReadFrame(c.conn, buf)
		if err != nil {
			return
		}
		switch {
		case kind == bundle.FrameStdin && len(body) == 0:
			closeInput()
		case kind == bundle.FrameStdin && input != nil:
			if _, err := input.Write(body); err != nil {
				input = nil // it reads no more; what comes is dropped, as in a closed pipe
			}
		case kind == bundle.FrameResize && term != nil:
			var size bundle.Size
			if json.Unmarshal(body, &size) == nil {
				_ = resize(term, size) // fails once the program has gone
			}
		}
		if cap(body) > cap(buf) {
			buf = body
		}
	}
}

// answer holds one conversation.
func (s *supervisor) answer(c *caller) {
	defer func() { _ = c.conn.Close() }() // the caller may have done so
	if err := c.conn.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return
	}
	var r bundle.Request
	if err := bundle.ReadJSON(c.conn, bundle.FrameRequest, &r); err != nil {
		_ = c.tell(bundle.FrameAnswer, bundle.Answer{Error: "request: " + err.Error()})
		return
	}
	if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	var err error
	switch {
	case s.quit != nil && r.Op == bundle.OpSignal:
		s.stopStreams()
		err = c.tell(bundle.FrameAnswer, bundle.Answer{})
	case s.quit != nil && r.Op == bundle.OpExec:
		err = errStreams
	default:
		err = s.grant(c, &r)
	}
	if err != nil {
		_ = c.tell(bundle.FrameAnswer, bundle.Answer{Error: oneLine(err), Ended: errors.Is(err, errEnded)})
	}
}

// grant does what a caller of a supervisor asks for.
func (s *supervisor) grant(c *caller, r *bundle.Request) (err error) {
	switch r.Op {
	case bundle.OpSignal:
		if err = s.signal(r); err == nil {
			err = c.tell(bundle.FrameAnswer, bundle.Answer{})
		}
	case bundle.OpWatch:
		if err = c.tell(bundle.FrameAnswer, bundle.Answer{}); err == nil {
			s.watch(c)
		}
	case bundle.OpExec:
		err = s.exec(c, r)
	case bundle.OpAttach:
		err = s.attach(c, r)
	default:
		err = fmt.Errorf("request %q; wanted exec, attach, signal or watch", r.Op)
	}
	return err
}

var errEnded = errors.New("the container has ended")

// signal sends one to the program, or to everything inside.
func (s *supervisor) signal(r *bundle.Request) error {
	sig := syscall.Signal(r.Signal)
	if sig == 0 {
		sig = syscall.Signal(s.spec.StopSignal)
	}
	if sig <= 0 || sig > 64 {
		return fmt.Errorf("signal %d; wanted 1 to 64, or 0 for that which stops it", r.Signal)
	}
	s.mu.Lock()
	pid := s.program
	s.mu.Unlock()
	if r.All {
		return asEnded(unix.Kill(-1, sig))
	}
	return asEnded(s.reaper.signal(pid, false, sig))
}

func asEnded(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return errEnded
	}
	return err
}

// watch waits until the container ends or the caller has gone.
func (s *supervisor) watch(c *caller) {
	gone := make(chan struct{})
	go func() {
		c.listen(nil, nil, func() {})
		close(gone)
	}()
	select {
	case <-s.over:
		_ = c.tell(bundle.FrameExit, bundle.Exit{})
	case <-gone:
	}
}

// exec runs a command inside. It ends with its caller.
func (s *supervisor) exec(c *caller, r *bundle.Request) error {
	p, err := s.plumb(r.TTY, r.Stdin)
	if err != nil {
		return err
	}
	env := s.env
	if r.TTY && !s.spec.TTY {
		env = append(env[:len(env):len(env)], "TERM=xterm")
	}
	pid, status, err := s.spawn(r.Argv, env, p)
	if err != nil {
		return errors.Join(err, p.close())
	}
	if err := c.tell(bundle.FrameAnswer, bundle.Answer{}); err != nil {
		_ = s.reaper.signal(pid, true, unix.SIGKILL) // nobody is there to see it
	}
	ended := make(chan struct{})
	var copies sync.WaitGroup
	for stream, f := range p.outputs() {
		copies.Go(func() {
			if agent.Drain(&framer{c, frameOf(stream)}, f, ended, agent.PipeBytes) != nil {
				_ = s.reaper.signal(pid, true, unix.SIGKILL) // the caller takes it no more
			}
		})
	}
	go func() {
		c.listen(p.stdin, p.term, func() { p.closeStdin() })
		_ = s.reaper.signal(pid, true, unix.SIGKILL) // the caller has gone; after the end, this reaches nobody
	}()
	ws := <-status
	close(ended)
	for _, f := range p.outputs() {
		_ = agent.Wake(f) // fails where nothing can come any more
	}
	copies.Wait()
	_ = c.tell(bundle.FrameExit, bundle.Exit{Code: endOf(ws).Exit})
	_ = p.close() // all is said
	return nil
}

// closeStdin ends what a command reads. The input of a terminal ends by a character of it, which the caller sends.
func (p *plumbing) closeStdin() {
	if p.stdin != nil && p.term == nil {
		_ = p.stdin.Close() // it may have been closed
	}
}

// framer sends what is written to it to the caller.
type framer struct {
	to   *caller
	kind byte
}

func (f *framer) Write(p []byte) (int, error) {
	if err := f.to.send(f.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func frameOf(stream string) byte {
	if stream == "stderr" {
		return bundle.FrameStderr
	}
	return bundle.FrameStdout
}
