package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/skerry-edge/skerry/api"
)

// inbox holds what arrived and was not read: bytes per channel, and how they followed each other. A run costs eight
// bytes however short, so the window bounds the memory whatever the frames look like.
type inbox struct {
	channels [api.MaxChannel + 1]bytes.Buffer
	runs     []run // in the order of arrival; unused once loose
	head     int   // first run of runs
	size     int   // over all channels
	loose    bool
}

// run is consecutive bytes of one channel.
type run struct {
	n       uint32
	channel uint8
}

func (in *inbox) add(channel uint8, data []byte) {
	in.channels[channel].Write(data)
	in.size += len(data)
	if in.loose {
		return
	}
	if last := len(in.runs) - 1; last >= in.head && in.runs[last].channel == channel {
		in.runs[last].n += uint32(len(data))
		return
	}
	if in.head > 64 && in.head >= len(in.runs)/2 {
		in.runs = in.runs[:copy(in.runs, in.runs[in.head:])]
		in.head = 0
	}
	in.runs = append(in.runs, run{uint32(len(data)), channel})
}

// next takes the oldest run; once loose, all of the lowest channel that has something. The inbox is not empty.
func (in *inbox) next() (uint8, []byte) {
	var r run
	if in.loose {
		for in.channels[r.channel].Len() == 0 {
			r.channel++
		}
		r.n = uint32(in.channels[r.channel].Len())
	} else {
		r = in.runs[in.head]
		in.head++
	}
	data := make([]byte, r.n)
	in.read(r.channel, data)
	return r.channel, data
}

func (in *inbox) len(channel uint8) int { return in.channels[channel].Len() }

// read takes bytes of one channel, regardless of the order.
func (in *inbox) read(channel uint8, p []byte) int {
	n := copy(p, in.channels[channel].Next(len(p)))
	in.size -= n
	if in.channels[channel].Len() == 0 && in.channels[channel].Cap() > api.MaxFrameData {
		in.channels[channel] = bytes.Buffer{} // an idle stream holds no window
	}
	return n
}

func (in *inbox) unordered() { in.loose, in.runs, in.head = true, nil, 0 }

// deliver takes a frame that is valid by itself.
func (s *Stream) deliver(f *api.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || f.Seq <= s.seqIn { // late, or the broker delivered it twice
		return nil
	}
	if err := s.take(f); err != nil {
		s.failLocked(err, false)
		return err
	}
	s.seqIn = f.Seq
	s.touch()
	s.wake()
	return nil
}

func (s *Stream) take(f *api.Frame) error {
	if f.Seq != s.seqIn+1 {
		return fmt.Errorf("frame %d after %d: frames between are lost", f.Seq, s.seqIn)
	}
	switch f.Kind {
	case api.FrameData:
		if s.endedIn&(1<<f.Channel) != 0 {
			return fmt.Errorf("frame %d has data on channel %d after its end", f.Seq, f.Channel)
		}
		if len(f.Data) > s.granted {
			return fmt.Errorf("frame %d has %d bytes; wanted at most the %d granted", f.Seq, len(f.Data), s.granted)
		}
		s.granted -= len(f.Data)
		s.in.add(f.Channel, f.Data)
	case api.FrameCredit:
		if int64(s.credit)+int64(f.Credit) > maxGrant {
			return fmt.Errorf("frame %d grants %d bytes on top of %d; wanted at most %d in all", f.Seq, f.Credit, s.credit, maxGrant)
		}
		s.credit += int(f.Credit)
	case api.FrameEnd:
		s.endedIn |= 1 << f.Channel
	case api.FrameClose:
		var err error
		if f.Error != "" {
			err = fmt.Errorf("other side: %s", f.Error)
		}
		s.failLocked(err, true)
	}
	return nil
}

// fail ends the stream with err, which Close will tell the other side unless told.
func (s *Stream) fail(err error, told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		s.told = s.told || told
		return
	}
	s.failLocked(err, told)
}

func (s *Stream) failLocked(err error, told bool) {
	s.over, s.err, s.told = true, err, told
	if s.idle != nil {
		s.idle.Stop()
	}
	s.wake()
	if s.cancel != nil {
		s.cancel()
	}
}

// wait waits for a change of the stream. s.mu is held, and given up meanwhile.
func (s *Stream) wait(ctx context.Context) error {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Stream) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// touch puts off the idle end. s.mu is held.
func (s *Stream) touch() {
	if s.idle != nil && !s.over {
		s.idle.Reset(s.mux.Idle)
	}
}

// reason is why nothing can be written any more. s.mu is held.
func (s *Stream) reason() error {
	if s.err == nil {
		return ErrStreamClosed
	}
	return s.err
}

func (s *Stream) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason()
}

// ending is what a reader gets at the end. s.mu is held.
func (s *Stream) ending() error {
	if s.err == nil {
		return io.EOF
	}
	return s.wrap("read", s.err)
}

func (s *Stream) wrap(verb string, err error) error {
	return fmt.Errorf("%s stream %s: %w", verb, s.sid, err)
}
