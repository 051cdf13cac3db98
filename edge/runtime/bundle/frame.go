package bundle

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// What a frame is.
const (
	FrameRequest byte = iota + 1 // JSON Request, the first of the agent
	FrameAnswer                  // JSON Answer, the first of the supervisor
	FrameStdin                   // bytes; none: there will be no more
	FrameStdout                  // bytes
	FrameStderr                  // bytes
	FrameResize                  // JSON Size
	FrameExit                    // JSON Exit, the last
)

// MaxFrame bounds what a frame carries, and MaxRequest a request.
const (
	MaxFrame   = 32 << 10
	MaxRequest = 1 << 20
)

// What a request asks for.
const (
	OpExec   = "exec"
	OpAttach = "attach"
	OpSignal = "signal"
	OpWatch  = "watch" // nothing comes until the container ends
)

// Request begins a conversation.
type Request struct {
	Op     string   `json:"op"`
	Argv   []string `json:"argv,omitempty"`
	TTY    bool     `json:"tty,omitempty"`
	Stdin  bool     `json:"stdin,omitempty"`
	Signal int      `json:"signal,omitempty"`
	All    bool     `json:"all,omitempty"` // signal every process of the container
}

// Answer says whether a request is granted.
type Answer struct {
	Error string `json:"error,omitempty"`
	Ended bool   `json:"ended,omitempty"` // refused as the container has ended
}

// Size of a terminal in cells.
type Size struct {
	Columns uint16 `json:"columns"`
	Rows    uint16 `json:"rows"`
}

// Exit ends a conversation.
type Exit struct {
	Code  int    `json:"code"`
	Error string `json:"error,omitempty"`
}

// WriteFrame writes one, with a single Write.
func WriteFrame(w io.Writer, kind byte, body []byte) error {
	out := make([]byte, 5, 5+len(body))
	out[0] = kind
	binary.BigEndian.PutUint32(out[1:], uint32(len(body)))
	_, err := w.Write(append(out, body...))
	return err
}

// WriteJSON writes v as a frame.
func WriteJSON(w io.Writer, kind byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return WriteFrame(w, kind, raw)
}

// ReadFrame reads one into buf, which grows up to its bound; the body is valid until buf is used again.
func ReadFrame(r io.Reader, buf []byte) (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	kind = head[0]
	limit := uint32(MaxFrame)
	if kind == FrameRequest {
		limit = MaxRequest
	}
	n := binary.BigEndian.Uint32(head[1:])
	if kind < FrameRequest || kind > FrameExit || n > limit {
		return 0, nil, fmt.Errorf("frame of kind %d with %d bytes; wanted kinds %d to %d, at most %d bytes", kind, n, FrameRequest, FrameExit, limit)
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	body = buf[:n]
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("frame cut short: %w", err)
	}
	return kind, body, nil
}

// ReadJSON reads a frame that has to be of the given kind.
func ReadJSON(r io.Reader, kind byte, to any) error {
	got, body, err := ReadFrame(r, nil)
	if err != nil {
		return err
	}
	if got != kind {
		return fmt.Errorf("frame of kind %d; wanted %d", got, kind)
	}
	return json.Unmarshal(body, to)
}
