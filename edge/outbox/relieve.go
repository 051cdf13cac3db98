package outbox

import (
	"encoding/json"
	"fmt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// apply changes sh and keeps the books. st is what the state becomes if the change succeeds.
func (o *Outbox) apply(sh shelf, e *edit, dropped api.Dropped) error {
	old := o.st.Dropped
	o.st.Dropped = dropped
	var err error
	if sh == shelf(o.cold) {
		err = o.changeCold(e)
	} else {
		o.st.Version++
		e.st = o.current()
		err = o.hot.change(e)
	}
	if err != nil {
		o.st.Dropped = old // nothing was given up: the records are still there
		return err
	}
	for i := range e.del {
		o.doubt.remove(&e.del[i])
	}
	return nil
}

// relieve brings sh under its bound: down-sample telemetry, oldest first, again and again while that gains anything;
// then drop telemetry, events, alarms, each oldest first. What is in doubt stays as it is.
func (o *Outbox) relieve(sh shelf, bound int64) {
	if relief(sh.held(), bound) == 0 {
		return
	}
	target := sh.held() - relief(sh.held(), bound)
	for sh.held() > target {
		before := sh.held()
		if err := o.condenseAll(sh, target); err != nil {
			o.cfg.Log.Debug("outbox not down-sampled", agent.KeyErr, err)
			break
		}
		if sh.held() >= before {
			break
		}
	}
	for _, c := range dropOrder() {
		for sh.held() > target {
			n, err := o.dropSome(sh, c, sh.held()-target)
			if err != nil {
				o.cfg.Log.Debug("outbox not relieved", agent.KeyErr, err)
				return
			}
			if n == 0 {
				break
			}
		}
	}
}

// dropSome drops the oldest records of class c that sum up to need bytes, a bounded number at once.
func (o *Outbox) dropSome(sh shelf, c class, need int64) (int, error) {
	var e edit
	dropped := o.st.Dropped
	err := sh.scan(c.stream(), key{}, func(m meta) bool {
		if m.class == c && !o.doubt.has(&m) {
			e.del = append(e.del, m)
			countDropped(&dropped, &m)
			need -= m.bytes()
		}
		return need > 0 && len(e.del) < purgeChunk
	})
	if err != nil {
		o.tend(err)
		return 0, err
	}
	if len(e.del) == 0 {
		return 0, nil
	}
	return len(e.del), o.apply(sh, &e, dropped)
}

// expire drops what is past its age. The scan ends at the first record that is known to be younger.
func (o *Outbox) expire(sh shelf) {
	at := o.instant()
	for s := range streams {
		for more := true; more; {
			var e edit
			dropped := o.st.Dropped
			err := sh.scan(s, key{}, func(m meta) bool {
				age, known := at.age(&m)
				if known && age > o.cfg.MaxAge && o.hopeless(&m) {
					e.del = append(e.del, m)
					countDropped(&dropped, &m)
				}
				return (!known || age > o.cfg.MaxAge) && len(e.del) < purgeChunk
			})
			if err != nil {
				o.tend(err)
				break
			}
			more = len(e.del) == purgeChunk
			if len(e.del) > 0 && o.apply(sh, &e, dropped) != nil {
				break
			}
		}
	}
}

// condenseAll goes over the telemetry once, oldest first, and merges and thins it run by run until target is reached.
func (o *Outbox) condenseAll(sh shelf, target int64) error {
	for at := (key{}); sh.held() > target; {
		var e edit
		var gain, input int64
		dropped := o.st.Dropped
		for input < txBytes && sh.held()-gain > target {
			run, err := o.nextRun(sh, at)
			if err == nil && len(run) == 0 {
				return o.applyGain(sh, &e, dropped)
			}
			if err == nil {
				at = key{run[len(run)-1].epoch, run[len(run)-1].seq + 1}
				err = o.condense(sh, run, &e, &gain, &dropped)
			}
			if err != nil {
				o.tend(err)
				return err
			}
			for i := range run {
				input += run[i].bytes()
			}
		}
		if err := o.applyGain(sh, &e, dropped); err != nil {
			return err
		}
	}
	return nil
}

func (o *Outbox) applyGain(sh shelf, e *edit, dropped api.Dropped) error {
	if len(e.put) == 0 {
		return nil
	}
	return o.apply(sh, e, dropped)
}

// nextRun returns the next records of the telemetry, from key at on, that can become one. What is in doubt
// can not: the cluster agent may have it as it is.
func (o *Outbox) nextRun(sh shelf, at key) ([]meta, error) {
	var metas []meta
	err := sh.scan(tele, at, func(m meta) bool {
		if o.doubt.has(&m) {
			return len(metas) == 0
		}
		metas = append(metas, m)
		return len(metas) <= maxRunRecords
	})
	return metas[:runLength(metas)], err
}

// condense adds to e what makes one batch of run, if that gains anything. Where merging alone, which loses nothing, gains
// two fifths, the rows are all kept this time.
func (o *Outbox) condense(sh shelf, run []meta, e *edit, gain *int64, dropped *api.Dropped) error {
	if len(run) == 1 && !thinnable(run) {
		return nil
	}
	before := int64(0)
	batches := make([]api.Batch, len(run))
	for i := range run {
		r, err := sh.load(&run[i])
		if err == nil {
			err = json.Unmarshal(r.payload, &batches[i])
		}
		if err != nil {
			return fmt.Errorf("condense batch %d of epoch %d: %w", run[i].seq, run[i].epoch, err)
		}
		before += run[i].bytes()
	}
	merged, ok := join(batches)
	if !ok { // different series after all: at least the first alone
		merged, run, before = batches[0], run[:1], run[0].bytes()
	}
	r, err := recordOf(&merged)
	if err != nil {
		return err
	}
	lost := uint64(0)
	if len(run) == 1 || r.bytes() > before*3/5 {
		lost = thin(&merged)
		if r, err = recordOf(&merged); err != nil {
			return err
		}
	}
	if r.bytes() >= before || len(r.payload) > maxBatchBytes {
		return nil
	}
	*gain += before - r.bytes()
	dropped.Downsampled += lost
	e.put = append(e.put, *r)
	e.del = append(e.del, run[:len(run)-1]...)
	return nil
}

// recordOf encodes a batch.
func recordOf(b *api.Batch) (*record, error) {
	raw, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode batch %d of epoch %d: %w", b.Seq, b.Epoch, err)
	}
	r := &record{meta: metaOfBatch(b), payload: raw}
	r.size = uint32(len(raw))
	return r, nil
}
