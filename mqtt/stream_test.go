package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// wires joins two muxes the way QoS 1 does: in order, at least once, asynchronously.
type wires struct {
	a, b *Mux
	toA  chan api.Frame
	toB  chan api.Frame
}

// newWires joins them until the test ends. again says whether a frame is delivered once more, later.
func newWires(t *testing.T, window int, again func() bool) *wires {
	t.Helper()
	w := &wires{toA: make(chan api.Frame, 4096), toB: make(chan api.Frame, 4096)}
	sender := func(to chan<- api.Frame) func(context.Context, string, *api.Frame) error {
		return func(ctx context.Context, _ string, f *api.Frame) error {
			c := *f
			c.Data = bytes.Clone(f.Data)
			select {
			case to <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	w.a, w.b = NewMux(sender(w.toB)), NewMux(sender(w.toA))
	w.a.Window, w.b.Window = window, window
	ctx, cancel := context.WithCancel(context.Background())
	var join sync.WaitGroup
	pump := func(from <-chan api.Frame, m *Mux) {
		var old []api.Frame
		for {
			select {
			case <-ctx.Done():
				return
			case f := <-from:
				err := m.Deliver("s", &f)
				if err != nil && !errors.Is(err, ErrNoStream) {
					t.Errorf("deliver frame %d %s: %v", f.Seq, f.Kind, err)
				}
				for old = append(old, f); again() && len(old) > 0; old = old[1:] {
					if err := m.Deliver("s", &old[0]); err != nil && !errors.Is(err, ErrNoStream) {
						t.Errorf("deliver frame %d again: %v", old[0].Seq, err)
					}
				}
			}
		}
	}
	join.Go(func() { pump(w.toA, w.a) })
	join.Go(func() { pump(w.toB, w.b) })
	t.Cleanup(func() { cancel(); join.Wait() })
	return w
}

func never() bool { return false }

// open opens both sides, in parallel so that either may be first.
func (w *wires) open(t *testing.T) (a, b *Stream) {
	t.Helper()
	var join sync.WaitGroup
	var errA, errB error
	join.Go(func() { a, errA = w.a.Open(t.Context(), "s") })
	join.Go(func() { b, errB = w.b.Open(t.Context(), "s") })
	join.Wait()
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	return a, b
}

func TestStreamReproducesEveryChannelOverADuplicatingWire(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			roll := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return rng.IntN(n)
			}
			window := []int{1, 7, 512, 20 << 10, 64 << 10}[seed%5]
			size := min(window*40, 300<<10) + 1
			w := newWires(t, window, func() bool { return roll(3) == 0 })
			a, b := w.open(t)
			var join sync.WaitGroup
			for _, pair := range [][2]*Stream{{a, b}, {b, a}} {
				from, to := pair[0], pair[1]
				for ch := range uint8(3) {
					want := make([]byte, roll(size)+1)
					for i := range want {
						want[i] = byte(i*7 + int(ch))
					}
					join.Go(func() {
						wr := from.Writer(t.Context(), ch)
						for rest := want; len(rest) > 0; {
							n := min(roll(20<<10)+1, len(rest))
							if _, err := wr.Write(rest[:n]); err != nil {
								t.Errorf("write: %v", err)
								return
							}
							rest = rest[n:]
						}
						if err := wr.Close(); err != nil {
							t.Errorf("end: %v", err)
						}
					})
					rd := to.Reader(t.Context(), ch)
					join.Go(func() {
						got, err := io.ReadAll(rd)
						if err != nil || !bytes.Equal(got, want) {
							t.Errorf("channel %d: %d bytes, %v; wanted %d, equal", ch, len(got), err, len(want))
						}
					})
				}
			}
			join.Wait()
			if err := errors.Join(a.Close(t.Context(), nil), b.Close(t.Context(), nil)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStreamReadKeepsOrderBetweenChannels(t *testing.T) {
	w := newWires(t, 0, never)
	a, b := w.open(t)
	for i := range 200 {
		if _, err := a.Write(t.Context(), uint8(i%3), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		ch, data, err := b.Read(t.Context())
		if err != nil || ch != uint8(i%3) || len(data) != 1 || data[0] != byte(i) {
			t.Fatalf("read %d: channel %d, %v, %v", i, ch, data, err)
		}
	}
	if _, _, err := b.Read(t.Context()); err != io.EOF {
		t.Fatalf("after a clean close: %v; wanted io.EOF", err)
	}
	if _, err := b.Write(t.Context(), 0, []byte("x")); !errors.Is(err, ErrStreamClosed) {
		t.Fatalf("write after the other side closed: %v", err)
	}
}

func TestStreamSlowReaderHoldsTheWriterAtTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 32 << 10
		w := newWires(t, window, never)
		a, b := w.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		wrote := make(chan int, 1)
		go func() {
			n, _ := a.Write(ctx, 1, make([]byte, 1<<20))
			wrote <- n
		}()
		synctest.Wait()
		b.mu.Lock()
		held := b.in.size
		b.mu.Unlock()
		if held != window {
			t.Errorf("reader holds %d bytes unread; wanted the window, %d", held, window)
		}
		cancel()
		if n := <-wrote; n != window {
			t.Errorf("writer sent %d bytes; wanted %d", n, window)
		}
	})
}

func TestStreamMemoryIsBoundedForOneByteFrames(t *testing.T) {
	s := newStream(NewMux(nil), "s") // as the other side sees it before it is opened here
	s.granted = s.window
	for i := range s.window {
		f := api.Frame{Seq: uint64(i + 1), Kind: api.FrameData, Channel: uint8(i % 2), Data: []byte{1}}
		if err := s.deliver(&f); err != nil {
			t.Fatal(err)
		}
	}
	if cost := cap(s.in.runs) * 8; cost > 16*s.window {
		t.Errorf("%d bytes of runs for a window of %d", cost, s.window)
	}
	if err := s.deliver(&api.Frame{Seq: uint64(s.window + 1), Kind: api.FrameData, Data: []byte{1}}); err == nil ||
		!strings.Contains(err.Error(), "wanted at most the 0 granted") {
		t.Errorf("a byte beyond the credit: %v", err)
	}
}

func TestStreamRefusesWhatBreaksTheProtocol(t *testing.T) {
	data := func(seq uint64) *api.Frame { return &api.Frame{Seq: seq, Kind: api.FrameData, Data: []byte("x")} }
	for _, c := range []struct {
		name   string
		frames []*api.Frame
		want   string
	}{
		{"gap", []*api.Frame{data(1), data(3)}, "frames between are lost"},
		{"beyond credit", []*api.Frame{{Seq: 1, Kind: api.FrameData, Data: make([]byte, 9)}}, "the 8 granted"},
		{"after end", []*api.Frame{{Seq: 1, Kind: api.FrameEnd}, data(2)}, "after its end"},
		{"credit overflow", []*api.Frame{{Seq: 1, Kind: api.FrameCredit, Credit: 1 << 30}, {Seq: 2, Kind: api.FrameCredit, Credit: 1}},
			"in all"},
		{"invalid", []*api.Frame{{Seq: 1, Kind: "shout"}}, "frame kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sent []api.Frame
			m := NewMux(func(_ context.Context, _ string, f *api.Frame) error { sent = append(sent, *f); return nil })
			m.Window = 8
			s, err := m.Open(t.Context(), "s")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range c.frames {
				err = m.Deliver("s", f)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("deliver: %v; wanted it to say %q", err, c.want)
			}
			if err := s.Close(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			last := sent[len(sent)-1]
			if last.Kind != api.FrameClose || c.name != "invalid" && !strings.Contains(last.Error, c.want) {
				t.Errorf("other side was told %+v; wanted a close that says %q", last, c.want)
			}
		})
	}
}

func TestStreamEitherSideMayOpenFirst(t *testing.T) {
	var fromA []*api.Frame
	var b *Mux
	a := NewMux(func(_ context.Context, _ string, f *api.Frame) error { fromA = append(fromA, f); return nil })
	b = NewMux(func(_ context.Context, sid string, f *api.Frame) error { return a.Deliver(sid, f) })
	sa, err := a.Open(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fromA { // long before b opens
		if err := b.Deliver("s", f); err != nil {
			t.Fatal(err)
		}
	}
	sb, err := b.Open(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := sb.Write(t.Context(), 1, []byte("hello")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if _, data, err := sa.Read(t.Context()); string(data) != "hello" || err != nil {
		t.Fatalf("%q, %v", data, err)
	}
	if _, err := b.Open(t.Context(), "s"); err == nil {
		t.Error("opened twice")
	}
}

func TestStreamEarlyStreamsAreFewAndHoldNoData(t *testing.T) {
	m := NewMux(func(context.Context, string, *api.Frame) error { return nil })
	for i := range 10 * maxEarly {
		if err := m.Deliver(fmt.Sprintf("s%d", i), &api.Frame{Seq: 1, Kind: api.FrameCredit, Credit: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.streams) != maxEarly || len(m.early) != maxEarly {
		t.Errorf("%d streams, %d early; wanted %d", len(m.streams), len(m.early), maxEarly)
	}
	if err := m.Deliver("new", &api.Frame{Seq: 1, Kind: api.FrameData, Data: []byte("x")}); err == nil {
		t.Error("data was taken before any credit")
	}
	if err := m.Deliver("gone", &api.Frame{Seq: 7, Kind: api.FrameCredit, Credit: 1}); !errors.Is(err, ErrNoStream) {
		t.Errorf("a late frame: %v", err)
	}
}

func TestStreamCloseAllEndsReadersAndWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMux(func(context.Context, string, *api.Frame) error { return nil })
		s, err := m.Open(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		lost := fmt.Errorf("link lost: %w", io.EOF) // which must not pass for a clean end
		errs := make(chan error, 2)
		go func() { _, _, err := s.Read(t.Context()); errs <- err }()
		go func() { _, err := s.Write(t.Context(), 0, []byte("x")); errs <- err }()
		synctest.Wait()
		m.CloseAll(lost)
		for range 2 {
			if err := <-errs; err == io.EOF || !errors.Is(err, lost) {
				t.Errorf("got %v; wanted %v", err, lost)
			}
		}
		if err := s.Close(t.Context(), nil); err != nil {
			t.Errorf("close after the link went down: %v", err)
		}
	})
}

func TestStreamIdleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMux(func(context.Context, string, *api.Frame) error { return nil })
		m.Idle = time.Minute
		s, err := m.Open(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		<-time.After(50 * time.Second)
		if err := m.Deliver("s", &api.Frame{Seq: 1, Kind: api.FrameCredit, Credit: 1}); err != nil {
			t.Fatal(err)
		}
		_, _, err = s.Read(t.Context())
		if err == nil || !strings.Contains(err.Error(), "idle for 1m0s") || time.Since(start) != 110*time.Second {
			t.Errorf("%v after %s; wanted idle, 1m after the last frame", err, time.Since(start))
		}
		if err := s.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestStreamEndsWithItsContextAndTellsTheOtherSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires(t, 0, never)
		b, err := w.b.Open(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		a, err := w.a.Open(ctx, "s")
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, _, err := a.Read(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("own side: %v", err)
		}
		if err := a.Close(ctx, nil); err != nil {
			t.Errorf("close with an ended context: %v", err)
		}
		if _, _, err := b.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "other side: context canceled") {
			t.Errorf("other side: %v", err)
		}
	})
}

func TestMuxBoundsItsStreams(t *testing.T) {
	m := NewMux(func(context.Context, string, *api.Frame) error { return nil })
	m.MaxStreams = 2
	var open []*Stream
	for i := range 2 {
		s, err := m.Open(t.Context(), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
	}
	if _, err := m.Open(t.Context(), "2"); err == nil || !strings.Contains(err.Error(), "at most 2") {
		t.Errorf("a third: %v", err)
	}
	if err := open[0].Close(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Open(t.Context(), "2"); err != nil {
		t.Errorf("after one closed: %v", err)
	}
}

func FuzzDeliver(f *testing.F) {
	f.Add([]byte{1, 0, 0, 5, 2, 1, 0, 9, 3, 2, 1, 0, 4, 3, 0, 0})
	f.Add([]byte{1, 0, 0, 255, 1, 0, 1, 255, 3, 0, 0, 255})
	f.Fuzz(func(t *testing.T, script []byte) {
		m := NewMux(func(context.Context, string, *api.Frame) error { return nil })
		m.Window = 300
		s, err := m.Open(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		kinds := []api.FrameKind{api.FrameData, api.FrameCredit, api.FrameEnd, api.FrameClose}
		taken, read := 0, 0
		for ; len(script) >= 4; script = script[4:] {
			fr := &api.Frame{Seq: uint64(script[0]), Kind: kinds[script[1]%4], Channel: script[2], Credit: uint32(script[3]),
				Data: make([]byte, script[3])}
			before := s.seqIn
			if err := m.Deliver("s", fr); err == nil && s.seqIn > before && fr.Kind == api.FrameData {
				taken += len(fr.Data)
			}
			if script[1]&16 != 0 && s.in.size > 0 {
				_, data, err := s.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				read += len(data)
			}
			if s.in.size > m.Window || s.in.size != taken-read {
				t.Fatalf("holds %d bytes with a window of %d, took %d, read %d", s.in.size, m.Window, taken, read)
			}
		}
	})
}
