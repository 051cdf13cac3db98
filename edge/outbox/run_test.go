package outbox

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// slowLink delivers in order, each message a little later, as a real link does.
type slowLink struct {
	*fakeCluster
	queue chan func()
}

func (s slowLink) Send(ctx context.Context, kind mqtt.Kind, v any, done func(error)) {
	select {
	case s.queue <- func() { s.fakeCluster.Send(ctx, kind, v, done) }:
	case <-ctx.Done():
		done(ctx.Err())
	}
}

func (s slowLink) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-s.queue:
			time.Sleep(20 * time.Millisecond)
			f()
		}
	}
}

func TestRunSendsWhileManyPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		link := slowLink{c, make(chan func(), 4)}
		d := newDevice(t, link)
		o := d.open()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		go link.run(ctx)
		go func() { // the cluster agent acknowledges every second
			for tick := time.NewTicker(time.Second); ; {
				select {
				case <-ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
					c.ack(o)
				}
			}
		}()
		d.connect(o)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for n := range 100 {
					b := &api.Batch{Series: []string{"a"}, Rows: []api.Row{{Values: []float64{float64(g*1000 + n)}}}}
					if err := o.PutBatch(b); err != nil {
						t.Error(err)
					}
					if n%10 == 0 {
						if err := o.PutEvent(api.ClassEvent, "test.happened", "", id(g*1000+n), nil); err != nil {
							t.Error(err)
						}
					}
					time.Sleep(time.Duration(50+g*7) * time.Millisecond)
					if g == 0 && n%25 == 24 {
						o.Disconnected()
						time.Sleep(3 * time.Second)
						d.connect(o)
					}
				}
			})
		}
		wg.Wait()
		for range 300 {
			if b := o.Backlog(); b.Batches+b.Events == 0 {
				break
			}
			time.Sleep(time.Second)
		}
		if b := o.Backlog(); b.Batches+b.Events != 0 || len(c.samples) != 400 || len(c.events) != 40 {
			t.Errorf("backlog %+v, %d samples, %d events arrived; wanted none, 400, 40", b, len(c.samples), len(c.events))
		}
		if st := o.Stats(); st.FlashBytes != 0 {
			t.Errorf("flash was written: %+v", st)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzHotFile reads any bytes as a hot file. What is read must be what a second reading finds.
func FuzzHotFile(f *testing.F) {
	good := appendRecord(nil, &record{meta: meta{kind: kindBatch, key: key{1, 1}, samples: 3}, payload: []byte(`{"seq":1}`)})
	st, err := appendState(nil, &state{Version: 3}, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(append([]byte("SK\x01junk"), good...), st...))
	f.Add(good[:len(good)-3])
	f.Add(append(good[:70:70], good...))
	f.Add(appendRecord(good[:len(good):len(good)], &record{meta: meta{kind: kindAck, key: key{1, 1}}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fd := &found{acks: map[lane]uint64{}}
		var again []byte
		kept := 0
		end := decodeHot(raw, fd, func(r *record, off int64) {
			kept++
			again = appendRecord(again, r)
			if !bytes.Equal(appendRecord(nil, r), raw[off:off+r.bytes()]) {
				t.Fatalf("record at %d does not encode to what it was read from", off)
			}
		})
		if end < 0 || end > int64(len(raw)) || fd.unknown > int64(len(raw)) {
			t.Fatalf("end %d, %d unknown of %d bytes", end, fd.unknown, len(raw))
		}
		second := &found{acks: map[lane]uint64{}}
		decodeHot(again, second, func(*record, int64) { kept-- })
		if kept != 0 || second.torn != 0 {
			t.Fatalf("reading again: %d records differ, %d torn", kept, second.torn)
		}
	})
}

// FuzzHeader reads any bytes as one record.
func FuzzHeader(f *testing.F) {
	f.Add(appendRecord(nil, &record{meta: meta{kind: kindEvent, class: classAlarm, key: key{7, 9}}, payload: []byte("{}")}))
	f.Add([]byte("SK\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRecord(raw)
		if err == nil && !bytes.Equal(appendRecord(nil, &r), raw[:r.bytes()]) {
			t.Fatal("record does not encode to what it was read from")
		}
	})
}

func BenchmarkPutBatch(b *testing.B) {
	d := newDevice(b, &heldSender{})
	d.cfg.HotBytes = 1 << 20
	o := d.open()
	d.connect(o)
	var series []string
	for n := range 120 {
		series = append(series, fmt.Sprintf(`node_metric_%d{device="sda%d"}`, n, n))
	}
	batch := d.batch(1, series...)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if err := o.PutBatch(batch); err != nil {
			b.Fatal(err)
		}
		if n%50 == 49 { // the cluster agent acknowledges
			o.Ack(&api.Ack{Epoch: d.epoch, Seq: uint64(n + 1)})
		}
	}
	b.StopTimer()
	o.abandon()
}
