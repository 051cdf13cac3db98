package agent

import (
	"io"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Linger is how long the output of a program that has ended may say nothing: what it left behind may hold it open for ever.
const Linger = 2 * time.Second

// Pipe is the end of a pipe, a terminal or a socket that is read.
type Pipe interface {
	io.Reader
	SetReadDeadline(t time.Time) error
}

// Drain copies the output of a program from from to w until its end, or until w takes no more, whose error it returns. However
// slow w is, what the program printed before it ended gets through. Whoever closes ended, when it does, then calls Wake. After that no more
// than limit bytes come, which is what the pipes on the way can hold: what was left behind may go on printing.
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
