package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// prepare loads m, gives it its Prev and time, and marks it as under way. It returns nil when m cannot be read, which is
// then mended or given up.
func (o *Outbox) prepare(m *meta, historical bool) *job {
	var sh shelf = o.cold
	if o.hot.has(m) {
		sh = o.hot
	}
	r, err := sh.load(m)
	if err == nil {
		var j *job
		if j, err = o.jobOf(&r, historical); err == nil {
			l := lane{r.class.stream(), r.epoch}
			o.tried[l] = max(o.tried[l], r.seq)
			o.launch(j, m, historical)
			return j
		}
	}
	if sh == shelf(o.hot) {
		o.giveUp(m, err)
		return nil
	}
	if !errors.Is(err, errDamaged) { // flash that cannot be read now may be read later
		o.retryAt = time.Now().Add(retryWait)
	}
	o.tend(err)
	return nil
}

// jobOf decodes r and makes it what goes on the wire.
func (o *Outbox) jobOf(r *record, historical bool) (*job, error) {
	l := lane{r.class.stream(), r.epoch}
	prev := o.hot.before(l, r.seq)
	if prev == 0 {
		var err error
		if prev, err = o.cold.before(l, r.seq); err != nil {
			return nil, err
		}
	}
	if r.kind == kindEvent {
		e := &api.Event{}
		if err := json.Unmarshal(r.payload, e); err != nil {
			return nil, fmt.Errorf("%w: event %d of epoch %d: %w", errDamaged, r.seq, r.epoch, err)
		}
		e.Prev = prev
		e.At, e.TimeQuality = o.restamp(stamped{l, r.seq}, stamp{e.Boot, e.At, e.Mono, e.TimeQuality})
		return &job{kind: mqtt.KindEvent, message: e}, nil
	}
	b, err := decodeBatch(r.payload)
	if err != nil {
		return nil, fmt.Errorf("%w: batch %d of epoch %d: %w", errDamaged, r.seq, r.epoch, err)
	}
	b.Prev, b.Historical = prev, historical
	b.T0, b.TimeQuality = o.restamp(stamped{l, r.seq}, stamp{b.Boot, b.T0, b.Mono, b.TimeQuality})
	return &job{kind: mqtt.KindTele, message: b}, nil
}

// decodeBatch reads what PutBatch has written.
func decodeBatch(payload []byte) (*api.Batch, error) {
	if b, ok := mqtt.ReadBatch(payload); ok {
		return b, nil
	}
	b := &api.Batch{}
	return b, json.Unmarshal(payload, b)
}

// restampTolerance is what a wrong clock may be off without its stamps being replaced: a batch that was sent before must
// not come a second time some milliseconds beside itself. rehintTolerance is that of a hint, which differs by the delay of
// the message that brought it.
const (
	restampTolerance = 2 * time.Second
	rehintTolerance  = 5 * time.Second
)

// stamped is a record, stamp what it says of its time.
type stamped struct {
	lane
	seq uint64
}

type stamp struct {
	boot    string
	at      api.Millis
	mono    int64
	quality api.TimeQuality
}

// restamp corrects an instant of this boot that was recorded by a wrong clock: while nobody knew the time, or while the
// cluster agent told another one than it does now. The correction is decided once and kept, so that what is sent twice is
// stamped the same twice.
func (o *Outbox) restamp(of stamped, s stamp) (api.Millis, api.TimeQuality) {
	_, now := o.cfg.Clock.Read()
	if s.quality == api.TimeSynced || now == api.TimeFloor || s.boot != o.cfg.Boot {
		return s.at, s.quality
	}
	if s.quality == api.TimeHinted {
		return s.at + api.Millis(o.shift(of, &s)), s.quality
	}
	if o.st.StampBoot != o.boot {
		o.st.StampBoot, o.st.StampMillis = o.boot, o.cfg.Clock.AtBoot(0).UnixMilli()
		o.saveState()
	}
	better := api.Millis(o.st.StampMillis + s.mono)
	if off := time.Duration(better-s.at) * time.Millisecond; off > restampTolerance || off < -restampTolerance {
		s.at = better
	}
	return s.at, now
}

// shift is by how many milliseconds the clock that a record was stamped by was off, by what is known when it goes out for
// the first time. What a life before this one left may have been out, and keeps its stamp.
func (o *Outbox) shift(of stamped, s *stamp) int64 {
	if of.seq <= o.tried[of.lane] || of.epoch < o.opened {
		return o.shifts[of]
	}
	by := o.cfg.Clock.AtBoot(time.Duration(s.mono)*time.Millisecond).UnixMilli() - int64(s.at)
	if off := time.Duration(by) * time.Millisecond; off <= rehintTolerance && off >= -rehintTolerance {
		return 0
	}
	o.shifts[of] = by
	return by
}
