package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// ErrStreamClosed is wrapped by a write to a stream, or to a channel of it, that is over without a fault.
var ErrStreamClosed = errors.New("stream is closed")

// tellWithin bounds the close frame of a stream whose caller has no time left.
const tellWithin = 2 * time.Second

// Stream is one side of a byte stream with up to 16 channels. All its channels share one window, so a channel that
// nobody reads ends up holding back the others. Safe for concurrent use.
type Stream struct {
	mux    *Mux
	sid    string
	window int
	ctx    context.Context // ends when the stream fails or is closed; nil until this side opens it, as is cancel
	cancel context.CancelFunc
	unbind func() bool // from the context of Open

	sending chan struct{} // held from numbering a frame to having sent it
	seqOut  uint64

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change; nil while nobody waits
	idle     *time.Timer
	seqIn    uint64
	in       inbox
	endedIn  uint16 // channels, by bit
	endedOut uint16
	granted  int // bytes the other side may still send
	owed     int // bytes consumed and not granted again
	credit   int // bytes this side may still send
	over     bool
	err      error // why, nil for a clean end
	told     bool  // the other side knows, or cannot be told
}

func newStream(m *Mux, sid string) *Stream {
	s := &Stream{mux: m, sid: sid, window: m.Window, sending: make(chan struct{}, 1)}
	if s.window <= 0 {
		s.window = 64 << 10
	}
	return s
}

// begin ties the stream to ctx and grants the window.
func (s *Stream) begin(ctx context.Context) error {
	s.mu.Lock()
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx)) // fail ends it, after it has noted why
	s.granted = s.window
	s.unbind = context.AfterFunc(ctx, func() { s.fail(context.Cause(ctx), false) })
	if s.mux.Idle > 0 {
		s.idle = time.AfterFunc(s.mux.Idle, func() { s.fail(fmt.Errorf("idle for %s", s.mux.Idle), false) })
	}
	over := s.over
	s.mu.Unlock()
	if over { // the other side came and went
		s.cancel()
		return nil
	}
	err := s.emit(ctx, &api.Frame{Kind: api.FrameCredit, Credit: uint32(s.window)})
	if err != nil && s.peerLeft() {
		return nil
	}
	return err
}

func (s *Stream) peerLeft() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over && s.told
}

// emit numbers and sends a frame. ctx bounds only the wait for its turn: a frame that has a number must be sent, or the
// other side sees a gap.
func (s *Stream) emit(ctx context.Context, f *api.Frame) error {
	select {
	case s.sending <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return s.why()
	}
	defer func() { <-s.sending }()
	if s.ctx.Err() != nil {
		return s.why()
	}
	s.seqOut++
	f.Seq = s.seqOut
	if err := s.mux.send(s.ctx, s.sid, f); err != nil {
		s.fail(fmt.Errorf("send frame %d: %w", f.Seq, err), false)
		return s.why()
	}
	s.mu.Lock()
	s.touch()
	s.mu.Unlock()
	return nil
}

// Write sends p on channel and returns how much of it was sent. It blocks while the other side has granted no credit.
// Concurrent writes to one channel may interleave.
func (s *Stream) Write(ctx context.Context, channel uint8, p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, err := s.reserve(ctx, channel, min(len(p)-sent, api.MaxFrameData))
		if err != nil {
			return sent, err
		}
		if err := s.emit(ctx, &api.Frame{Kind: api.FrameData, Channel: channel, Data: p[sent : sent+n]}); err != nil {
			s.mu.Lock()
			s.credit += n
			s.wake()
			s.mu.Unlock()
			return sent, s.wrap("write", err)
		}
		sent += n
	}
	return sent, nil
}

// reserve takes up to n bytes of credit, at least one.
func (s *Stream) reserve(ctx context.Context, channel uint8, n int) (int, error) {
	if channel > api.MaxChannel {
		return 0, fmt.Errorf("write stream %s: channel %d; wanted 0 to %d", s.sid, channel, api.MaxChannel)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.over:
			return 0, s.wrap("write", s.reason())
		case s.endedOut&(1<<channel) != 0:
			return 0, s.wrap("write", fmt.Errorf("channel %d: %w", channel, ErrStreamClosed))
		case s.credit > 0:
			n = min(n, s.credit)
			s.credit -= n
			return n, nil
		}
		if err := s.wait(ctx); err != nil {
			return 0, s.wrap("write", err)
		}
	}
}

// EndWrite tells the other side that nothing more comes on channel.
func (s *Stream) EndWrite(ctx context.Context, channel uint8) error {
	if channel > api.MaxChannel {
		return fmt.Errorf("end stream %s: channel %d; wanted 0 to %d", s.sid, channel, api.MaxChannel)
	}
	s.mu.Lock()
	done := s.endedOut&(1<<channel) != 0
	s.endedOut |= 1 << channel
	s.mu.Unlock()
	if done {
		return nil
	}
	if err := s.emit(ctx, &api.Frame{Kind: api.FrameEnd, Channel: channel}); err != nil {
		s.mu.Lock()
		s.endedOut &^= 1 << channel // it was not said, and may be said again
		s.mu.Unlock()
		return s.wrap("end", err)
	}
	return nil
}

// Read returns the next bytes in the order in which they were sent, and their channel. After the end of the stream it
// returns what is left, then io.EOF or why the stream failed. The slice is the caller's.
func (s *Stream) Read(ctx context.Context) (channel uint8, data []byte, err error) {
	s.mu.Lock()
	for s.in.size == 0 {
		if s.over {
			defer s.mu.Unlock()
			return 0, nil, s.ending()
		}
		if err := s.wait(ctx); err != nil {
			s.mu.Unlock()
			return 0, nil, s.wrap("read", err)
		}
	}
	channel, data = s.in.next()
	s.mu.Unlock()
	s.consumed(ctx, len(data))
	return channel, data, nil
}

// readChannel is Read of one channel into p.
func (s *Stream) readChannel(ctx context.Context, channel uint8, p []byte) (int, error) {
	s.mu.Lock()
	for s.in.len(channel) == 0 {
		if s.over || s.endedIn&(1<<channel) != 0 {
			defer s.mu.Unlock()
			if !s.over {
				return 0, io.EOF
			}
			return 0, s.ending()
		}
		if err := s.wait(ctx); err != nil {
			s.mu.Unlock()
			return 0, s.wrap("read", err)
		}
	}
	n := s.in.read(channel, p)
	s.mu.Unlock()
	s.consumed(ctx, n)
	return n, nil
}

// consumed grants again what was read, half a window at a time. When it cannot now, the next read will.
func (s *Stream) consumed(ctx context.Context, n int) {
	s.mu.Lock()
	s.owed += n
	grant := s.owed
	if s.over || grant < s.window/2 || grant == 0 {
		s.mu.Unlock()
		return
	}
	s.owed = 0
	s.granted += grant // before the frame leaves: its answer may be quicker than the return of emit
	s.mu.Unlock()
	if err := s.emit(ctx, &api.Frame{Kind: api.FrameCredit, Credit: uint32(grant)}); err != nil {
		s.mu.Lock()
		s.owed += grant
		s.granted -= grant
		s.mu.Unlock()
	}
}

// Close ends the stream and tells the other side why: nil is a clean end. What it has already sent can still be read.
// A stream that failed before tells that failure instead. Closing again does nothing.
func (s *Stream) Close(ctx context.Context, reason error) error {
	s.mu.Lock()
	if !s.over {
		s.over, s.err = true, reason
		s.wake()
	}
	reason, told := s.err, s.told
	s.told = true
	if s.unbind != nil {
		s.unbind()
	}
	if s.idle != nil {
		s.idle.Stop()
	}
	s.mu.Unlock()
	s.mux.remove(s)
	defer s.cancel()
	if told {
		return nil
	}
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), tellWithin)
		defer cancel()
	}
	return s.tell(ctx, reason)
}

// tell sends the close frame after whatever is being sent.
func (s *Stream) tell(ctx context.Context, reason error) error {
	select {
	case s.sending <- struct{}{}:
	case <-ctx.Done():
		return s.wrap("close", ctx.Err())
	}
	defer func() { <-s.sending }()
	s.seqOut++
	f := &api.Frame{Seq: s.seqOut, Kind: api.FrameClose}
	if reason != nil {
		f.Error = strings.ToValidUTF8(reason.Error(), "�")
		if len(f.Error) > api.MaxReasonBytes {
			f.Error = strings.ToValidUTF8(f.Error[:api.MaxReasonBytes], "")
		}
	}
	if err := s.mux.send(ctx, s.sid, f); err != nil {
		return s.wrap("close", err)
	}
	return nil
}
