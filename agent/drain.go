package agent

import (
	"io"
	"time"

	"github.com/skerry-edge/skerry/api"
)

const (
	// Linger is how long the output of a program that has ended may say nothing: what it left behind may hold it open for ever.
	Linger = 2 * time.Second
	// PipeBytes is what a pipe can hold when its writer has ended (pipe(7)).
	PipeBytes = 64 << 10
)

// Pipe is the end of a pipe, a terminal or a socket that is read.
type Pipe interface {
	io.Reader
	SetReadDeadline(t time.Time) error
}

// Drain copies the output of a program from from to w until its end, or until w takes no more, whose error it returns. However
// slow w is, what the program printed before it ended gets through. Whoever closes ended, when it has, then calls Wake. From then on what
// the program left behind may go on printing: after limit bytes, which is what the pipes on the way can hold, no more is taken.
func Drain(w io.Writer, from Pipe, ended <-chan struct{}, limit int) error {
	buf := make([]byte, api.MaxFrameData)
	over := false // before the read: what it brought is of what the program has left
	for late := 0; late <= limit; {
		n, err := from.Read(buf)
		if over {
			late += n
		}
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		select {
		case <-ended:
			over = true
			if Wake(from) != nil {
				return nil // it is closed
			}
		default:
		}
	}
	return nil
}

// Wake ends the wait of Drain, if nothing comes meanwhile. It fails for what is closed.
func Wake(from Pipe) error { return from.SetReadDeadline(time.Now().Add(Linger)) }
