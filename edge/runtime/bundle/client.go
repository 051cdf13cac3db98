package bundle

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Call is a conversation with a supervisor.
type Call struct {
	conn net.Conn
	in   *bufio.Reader
	mu   sync.Mutex // of writes
}

// Streams are the ends of a conversation; nil ones are not used.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Resize <-chan Size
}

// Refused is the answer of a supervisor that does not do what it was asked for.
type Refused struct{ Answer }

func (r *Refused) Error() string { return r.Answer.Error }

// Dial begins a conversation with the supervisor of the bundle in dir, which ends with ctx.
func Dial(ctx context.Context, dir string, r *Request) (*Call, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	folder := os.NewFile(uintptr(fd), dir)
	// The name of a socket may have 107 bytes, and that of a bundle alone can have more.
	path := "/proc/self/fd/" + strconv.Itoa(fd) + "/" + SocketFile
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err := errors.Join(err, folder.Close()); err != nil {
		return nil, fmt.Errorf("call the supervisor: %w", err)
	}
	c := &Call{conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}
	stop := context.AfterFunc(ctx, func() { c.close() })
	var a Answer
	err = WriteJSON(conn, FrameRequest, r)
	if err == nil {
		err = ReadJSON(c.in, FrameAnswer, &a)
	}
	if !stop() {
		err = ctx.Err()
	}
	if err == nil && a.Error != "" {
		err = &Refused{a}
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends the conversation.
func (c *Call) Close() error {
	if err := c.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// close is for when nobody wants to know.
func (c *Call) close() {
	_ = c.Close()
}

// Run carries the streams until the other side tells its exit or ctx ends, which ends the conversation. A Read of Stdin
// that is under way then is not waited for.
func (c *Call) Run(ctx context.Context, s Streams) (Exit, error) {
	stop := context.AfterFunc(ctx, func() { c.close() })
	defer stop()
	over := make(chan struct{})
	defer close(over)
	if s.Stdin != nil {
		go c.pump(s.Stdin)
	}
	if s.Resize != nil {
		go c.resize(s.Resize, over)
	}
	e, err := c.receive(s)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return e, errors.Join(err, c.Close())
}

func (c *Call) receive(s Streams) (Exit, error) {
	buf := make([]byte, 4<<10)
	for {
		kind, body, err := ReadFrame(c.in, buf)
		if err != nil {
			return Exit{}, fmt.Errorf("the supervisor went away: %w", err)
		}
		switch {
		case kind == FrameExit:
			var e Exit
			return e, json.Unmarshal(body, &e)
		case kind == FrameStdout && s.Stdout != nil:
			_, err = s.Stdout.Write(body)
		case kind == FrameStderr && s.Stderr != nil:
			_, err = s.Stderr.Write(body)
		}
		if err != nil {
			return Exit{}, fmt.Errorf("pass on output: %w", err)
		}
		if cap(body) > cap(buf) {
			buf = body
		}
	}
}

// send fails once the conversation is over, which who receives finds out too.
func (c *Call) send(kind byte, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return WriteFrame(c.conn, kind, body)
}

func (c *Call) pump(r io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && c.send(FrameStdin, buf[:n]) != nil {
			return
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = c.send(FrameStdin, nil) // who cannot be told has ended
			}
			return
		}
	}
}

func (c *Call) resize(sizes <-chan Size, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case size, ok := <-sizes:
			raw, err := json.Marshal(size)
			if !ok || err != nil || c.send(FrameResize, raw) != nil {
				return
			}
		}
	}
}
