package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// ErrNoStream is wrapped by Deliver for a frame of a stream that is not here: closed, or from before a restart.
var ErrNoStream = errors.New("no such stream")

// maxEarly bounds the streams that the other side opened first and this one has not opened yet. They hold no data, for
// they were granted no credit; beyond it the oldest is forgotten.
const maxEarly = 64

// maxGrant bounds the credit that the other side may pile up.
const maxGrant = 1 << 30

// Mux carries byte streams over the frames of one link. The fields may be set before the first Open. Safe for
// concurrent use.
type Mux struct {
	Window     int           // 0: 64 KiB; bytes a stream may hold unread, summed over its channels
	MaxStreams int           // 0: 64; open at once
	Idle       time.Duration // 0: never; a stream without a frame either way for this long fails

	send func(ctx context.Context, sid string, f *api.Frame) error

	mu      sync.Mutex
	streams map[string]*Stream
	early   []string // ids in streams that this side has not opened, oldest first
	open    int
}

// NewMux returns a mux that sends frames with send. send keeps the order of the frames of one stream; it may return
// before the broker has them, as long as CloseAll is called when one of them is lost. It must not keep the frame.
func NewMux(send func(ctx context.Context, sid string, f *api.Frame) error) *Mux {
	return &Mux{send: send, streams: make(map[string]*Stream)}
}

// Open opens this side of stream sid and grants the other side its window. Either side may come first. ctx bounds the
// stream's whole life. Whoever opens a stream must Close it.
func (m *Mux) Open(ctx context.Context, sid string) (*Stream, error) {
	if err := api.ValidID("stream", sid); err != nil {
		return nil, err
	}
	s, err := m.adopt(sid)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", sid, err)
	}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open stream %s: %w", sid, err), s.Close(ctx, err))
	}
	return s, nil
}

func (m *Mux) adopt(sid string) (*Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	most := m.MaxStreams
	if most == 0 {
		most = 64
	}
	if m.open >= most {
		return nil, fmt.Errorf("%d streams are open; wanted at most %d", m.open, most)
	}
	s := m.streams[sid]
	switch i := slices.Index(m.early, sid); {
	case i >= 0:
		m.early = slices.Delete(m.early, i, i+1)
	case s != nil:
		return nil, errors.New("it is open already")
	default:
		s = newStream(m, sid)
		m.streams[sid] = s
	}
	m.open++
	return s, nil
}

// Deliver takes a frame of the other side. It never blocks: the window bounds what has to be kept. An error tells why
// the frame was not taken; the stream it belongs to, if any, has then failed with it.
func (m *Mux) Deliver(sid string, f *api.Frame) error {
	if err := f.Validate(); err != nil {
		return fmt.Errorf("stream %.63s: %w", sid, err)
	}
	s := m.find(sid, f.Seq)
	if s == nil {
		return fmt.Errorf("stream %.63s, frame %d: %w", sid, f.Seq, ErrNoStream)
	}
	if err := s.deliver(f); err != nil {
		return fmt.Errorf("stream %s: %w", sid, err)
	}
	return nil
}

// find returns the stream, a new early one when the frame is the first of a stream, or nil.
func (m *Mux) find(sid string, seq uint64) *Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.streams[sid]; s != nil || seq != 1 || api.ValidID("stream", sid) != nil {
		return s
	}
	if len(m.early) == maxEarly {
		delete(m.streams, m.early[0])
		m.early = slices.Delete(m.early, 0, 1)
	}
	s := newStream(m, sid)
	m.streams[sid] = s
	m.early = append(m.early, sid)
	return s
}

// CloseAll fails every stream with err, because the link that carried them is down. The other side is not told.
func (m *Mux) CloseAll(err error) {
	m.mu.Lock()
	streams := m.streams
	m.streams, m.early, m.open = make(map[string]*Stream), nil, 0
	m.mu.Unlock()
	for _, s := range streams {
		s.fail(err, true)
	}
}

// remove forgets a stream that this side opened.
func (m *Mux) remove(s *Stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.streams[s.sid] == s {
		delete(m.streams, s.sid)
		m.open--
	}
}
