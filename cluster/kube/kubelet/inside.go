package kubelet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"
)

func (s *Server) logs(w http.ResponseWriter, req *http.Request, c *call) error {
	at, err := c.container(req.PathValue("container"))
	if err != nil {
		return err
	}
	l, err := parseLogs(req)
	if err != nil {
		return &fault{http.StatusBadRequest, err}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := &flushing{w: w}
	err = s.Inside.Logs(req.Context(), c.who.Username, at, l, out)
	if err != nil && out.begun { // too late for a status: as a kubelet does, the reason is the last line
		_, err = fmt.Fprintf(out, "\n%v\n", err)
	}
	return err
}

// parseLogs reads the parameters of PodLogOptions.
func parseLogs(req *http.Request) (Logs, error) {
	q := req.URL.Query()
	l := Logs{Follow: q.Get("follow") == "true", Previous: q.Get("previous") == "true", Timestamps: q.Get("timestamps") == "true", Tail: -1}
	number := func(name string, into *int64) error {
		if !q.Has(name) {
			return nil
		}
		n, err := strconv.ParseInt(q.Get(name), 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%s %.40q: wanted a number of 0 or more", name, q.Get(name))
		}
		*into = n
		return nil
	}
	if err := number("tailLines", &l.Tail); err != nil {
		return l, err
	}
	if err := number("limitBytes", &l.LimitBytes); err != nil {
		return l, err
	}
	seconds := int64(0)
	if err := number("sinceSeconds", &seconds); err != nil {
		return l, err
	}
	if seconds > 0 {
		l.Since = time.Now().Add(-time.Duration(seconds) * time.Second)
	}
	if text := q.Get("sinceTime"); text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return l, fmt.Errorf("sinceTime %.40q: wanted an instant as in RFC 3339", text)
		}
		l.Since = at
	}
	if s := q.Get("stream"); s != "" && s != "All" {
		return l, fmt.Errorf("stream %.40q: wanted All: the log of a device's container is one", s)
	}
	return l, nil
}

// flushing sends every piece at once.
type flushing struct {
	w     http.ResponseWriter
	begun bool
}

func (f *flushing) Write(p []byte) (int, error) {
	f.begun = true
	n, err := f.w.Write(p)
	if flush, ok := f.w.(http.Flusher); ok {
		flush.Flush()
	}
	return n, err
}

func (s *Server) exec(w http.ResponseWriter, req *http.Request, c *call) error {
	at, err := c.container(req.PathValue("container"))
	if err != nil {
		return err
	}
	argv := req.URL.Query()["command"]
	if len(argv) == 0 {
		return refuse(http.StatusBadRequest, "command is empty; wanted at least a program")
	}
	opts, err := remotecommand.NewOptions(req)
	if err != nil {
		return &fault{http.StatusBadRequest, err}
	}
	remotecommand.ServeExec(w, req, inside{s, c, at}, c.pod.Name, string(c.pod.UID), at.Name, argv, opts, streamIdle, streamBegin, remotecommand.SupportedStreamingProtocols)
	return nil
}

func (s *Server) attach(w http.ResponseWriter, req *http.Request, c *call) error {
	at, err := c.container(req.PathValue("container"))
	if err != nil {
		return err
	}
	opts, err := remotecommand.NewOptions(req)
	if err != nil {
		return &fault{http.StatusBadRequest, err}
	}
	remotecommand.ServeAttach(w, req, inside{s, c, at}, c.pod.Name, string(c.pod.UID), at.Name, opts, streamIdle, streamBegin, remotecommand.SupportedStreamingProtocols)
	return nil
}

func (s *Server) forward(w http.ResponseWriter, req *http.Request, c *call) error {
	opts, err := portforward.NewV4Options(req)
	if err != nil {
		return &fault{http.StatusBadRequest, err}
	}
	at := Container{Node: c.node, Pod: c.pod.Namespace + "/" + c.pod.Name, Workload: string(c.pod.UID)}
	portforward.ServePortForward(w, req, inside{s, c, at}, c.pod.Name, string(c.pod.UID), opts, streamIdle, streamBegin, portforward.SupportedProtocols)
	return nil
}

// inside is what the streaming library calls once the streams are there.
type inside struct {
	server *Server
	call   *call
	at     Container
}

func (i inside) ExecInContainer(ctx context.Context, _, _, _ string, argv []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return i.converse(ctx, argv, ends(in, out, errs, tty), resize)
}

func (i inside) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return i.converse(ctx, nil, ends(in, out, errs, tty), resize)
}

// ends makes streams of what there is: an interface that holds a nil is not nil.
func ends(in io.Reader, out, errs io.WriteCloser, tty bool) Streams {
	s := Streams{Stdin: in, TTY: tty}
	if out != nil {
		s.Stdout = out
	}
	if errs != nil {
		s.Stderr = errs
	}
	return s
}

func (i inside) converse(ctx context.Context, argv []string, s Streams, resize <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if resize != nil {
		s.Resize = sizes(ctx, resize)
	}
	exit, err := i.server.Inside.Exec(ctx, i.call.who.Username, i.at, argv, s)
	if err == nil && exit != 0 {
		return exec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", exit), Code: exit}
	}
	return err
}

func sizes(ctx context.Context, in <-chan remotecommand.TerminalSize) <-chan Size {
	out := make(chan Size)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case s, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- Size{s.Width, s.Height}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

func (i inside) PortForward(ctx context.Context, _, _ string, port int32, conn io.ReadWriteCloser) error {
	return i.server.Inside.Forward(ctx, i.call.who.Username, i.at, port, conn)
}
