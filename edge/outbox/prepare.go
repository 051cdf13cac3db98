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
		e.At, e.TimeQuality = o.restamp(e.Boot, e.At, e.Mono, e.TimeQuality)
		return &job{kind: mqtt.KindEvent, message: e}, nil
	}
	b, err := decodeBatch(r.payload)
	if err != nil {
		return nil, fmt.Errorf("%w: batch %d of epoch %d: %w", errDamaged, r.seq, r.epoch, err)
	}
	b.Prev, b.Historical = prev, historical
	b.T0, b.TimeQuality = o.restamp(b.Boot, b.T0, b.Mono, b.TimeQuality)
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
// not come a second time some milliseconds beside itself.
const restampTolerance = 2 * time.Second

// restamp corrects an instant of this boot that was recorded while nobody knew the time. The correction is decided once
// and kept, so that what is sent twice is stamped the same twice.
func (o *Outbox) restamp(boot string, at api.Millis, mono int64, q api.TimeQuality) (api.Millis, api.TimeQuality) {
	_, now := o.cfg.Clock.Read()
	if q != api.TimeFloor || now == api.TimeFloor || boot != o.cfg.Boot {
		return at, q
	}
	if o.st.StampBoot != o.boot {
		o.st.StampBoot, o.st.StampMillis = o.boot, o.cfg.Clock.AtBoot(0).UnixMilli()
		o.saveState()
	}
	better := api.Millis(o.st.StampMillis + mono)
	if off := time.Duration(better-at) * time.Millisecond; off > restampTolerance || off < -restampTolerance {
		at = better
	}
	return at, now
}
