package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// changeCold applies e to the flash tier and keeps the books: the state goes with it, and is noted in the hot tier.
func (o *Outbox) changeCold(e *edit) error {
	if !o.cold.known {
		o.takeUpCold()
		o.adopt()
	}
	if !o.cold.known {
		return errors.New("outbox.db cannot be read")
	}
	o.st.Version++
	e.st = o.current()
	err := o.cold.change(e)
	o.st.FlashBytes += o.cold.wrote
	o.cold.wrote = 0
	o.flushAt = time.Now()
	if err != nil {
		o.tend(err)
		return err
	}
	o.st.Cold, o.inFlash = e.st.Cold, e.st.Dropped
	o.unsaved, o.marked = true, true // the hot tier's copy
	o.recovered()
	o.restCold()
	return nil
}

// recovered ends a refusal.
func (o *Outbox) recovered() {
	if o.refused {
		o.refused = false
		o.note("outbox.recovered", "outbox.db", "flash takes the backlog again", nil)
	}
}

// flush moves everything in the hot tier to flash, in one transaction for each txBytes of it.
func (o *Outbox) flush() {
	if o.cfg.Volatile {
		return // there is no flash
	}
	for o.hot.live > 0 || len(o.hot.index[tele])+len(o.hot.index[events]) > 0 {
		var e edit
		size := int64(0)
		for s := range streams {
			for i := 0; i < len(o.hot.index[s]) && size < txBytes; i++ {
				r, err := o.hot.read(&o.hot.index[s][i])
				if err != nil { // memory that forgets; its header is in the index
					o.giveUp(&o.hot.index[s][i].meta, err)
					i--
					continue
				}
				e.put = append(e.put, r)
				size += r.bytes()
			}
		}
		if len(e.put) == 0 || o.changeCold(&e) != nil {
			return
		}
		for i := range e.put {
			o.hot.remove(e.put[i].class.stream(), e.put[i].key)
		}
		o.compact() // the file still has them; were it read now, they would be found in both tiers and left out
	}
	o.relieve(o.cold, o.cfg.MaxBytes)
}

// giveUp drops one record of the hot tier that cannot be read any more.
func (o *Outbox) giveUp(m *meta, cause error) {
	gone := *m
	countDropped(&o.st.Dropped, &gone)
	o.unsaved = true
	o.cfg.Log.Error("outbox record unreadable", agent.KeyEpoch, gone.epoch, agent.KeySeq, gone.seq, agent.KeyErr, cause)
	o.hot.remove(gone.class.stream(), gone.key)
	o.doubt.remove(&gone)
	o.saveState()
}

// overflow makes room in the hot tier: to flash, or else by the policy.
func (o *Outbox) overflow() {
	if !o.refused || time.Since(o.flushAt) >= o.cfg.FlushEvery {
		o.flush()
	}
	o.relieve(o.hot, o.cfg.HotBytes)
}

// warn tells of a write that failed, unless it is known that there is no room.
func (o *Outbox) warn(msg string, err error) {
	if !o.starved {
		o.cfg.Log.Warn(msg, agent.KeyErr, err)
	}
}

// saveState writes the state to the hot tier.
func (o *Outbox) saveState() {
	o.st.Version++
	if err := o.hot.save(new(o.current())); err != nil {
		o.warn("outbox state not saved", err)
		return
	}
	o.unsaved = false
}

// compact rewrites the hot file with what is live.
func (o *Outbox) compact() {
	o.st.Version++
	st := o.current()
	st.Alone = tally{}
	if err := o.hot.compact(&st, o.cold.acked); err != nil {
		o.warn("outbox hot file not rewritten", err)
		return
	}
	o.unsaved = false
}

// idleHotBytes is how large a hot file without live records may grow before it is cut.
const idleHotBytes = 64 << 10

// maintain does what is due: spill, expire, relieve, delete, report.
func (o *Outbox) maintain(now time.Time) {
	o.maintainAt = now.Add(o.tick())
	if !now.Before(o.expireAt) {
		o.expireAt = now.Add(min(o.cfg.MaxAge/10, time.Hour))
		o.expire(o.cold)
		o.expire(o.hot)
	}
	p := o.pressure(now)
	if p.spill() && (!o.refused || p.sinceFlush >= o.cfg.FlushEvery) {
		o.flush()
	}
	if !o.refused || p.sinceFlush >= o.cfg.FlushEvery { // a bound may have been lowered
		if o.hot.live > o.cfg.HotBytes {
			o.overflow()
		}
		o.relieve(o.cold, o.cfg.MaxBytes)
	}
	switch {
	case !o.cold.known || o.cold.phys.empty():
	case o.cold.tally.empty():
		o.drained()
	case len(o.cold.acked) > 0 && p.sinceFlush >= o.cfg.FlushEvery:
		if err := o.changeCold(&edit{}); err != nil {
			o.cfg.Log.Debug("outbox acknowledged records not deleted", agent.KeyErr, err)
		}
	}
	o.report(now)
	o.tell()
	if o.unsaved {
		o.saveState()
	}
	if dead := o.hot.size - o.hot.live; dead > max(o.hot.live, o.hot.idle) {
		o.compact()
	}
	if o.cold.tally.empty() || !o.up {
		o.tend(o.cold.rest())
	}
	o.restCold()
}

// restCold unmaps outbox.db once much of it was touched: mapped pages count as our memory.
func (o *Outbox) restCold() {
	if o.cold.read > restBytes {
		o.tend(o.cold.rest())
	}
}

// pressure gathers what the decision to spill depends on.
func (o *Outbox) pressure(now time.Time) pressure {
	p := pressure{hotBytes: o.hot.live, hotBound: o.cfg.HotBytes, sinceFlush: now.Sub(o.flushAt),
		spillAfter: o.cfg.SpillAfter, flushEvery: o.cfg.FlushEvery}
	if !o.up {
		p.down = now.Sub(o.downAt)
	}
	at := o.instant()
	for s := range streams {
		if len(o.hot.index[s]) > 0 {
			age, known := at.age(&o.hot.index[s][0].meta)
			if !known { // of another boot: certainly not of this minute
				age = o.cfg.SpillAfter
			}
			p.oldest = max(p.oldest, age)
		}
	}
	return p
}

func (o *Outbox) instant() instant {
	now, q := o.cfg.Clock.Read()
	return instant{wall: now.UnixMilli(), quality: qualityOf(q), mono: o.cfg.Clock.Boot().Milliseconds(), boot: o.boot}
}

// drained ends the backlog in flash: nothing of it is needed any more.
func (o *Outbox) drained() {
	o.st.Cold = tally{}
	o.saveState() // first: a file that is missing must not count as lost
	err := o.cold.reset(&o.st)
	o.st.FlashBytes += o.cold.wrote
	o.cold.wrote = 0
	o.flushAt = time.Now()
	o.tend(err)
	if err == nil {
		o.inFlash = o.st.Dropped
		o.recovered()
	}
}

// Close moves what is unacknowledged to flash, so that it outlives a reboot. It is for after Run has returned. An error
// means that something is still only in RuntimeDir, or, of a volatile outbox, that it ends unacknowledged.
func (o *Outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.reportAt, o.starved = time.Time{}, false // the last chance
	o.report(time.Now())
	o.tell()
	o.flush()
	if o.cold.known && !o.cold.phys.empty() && o.cold.tally.empty() {
		o.drained()
	}
	if !o.cfg.Volatile && (o.st.worthKeeping() && o.st.Dropped != o.inFlash || len(o.cold.acked) > 0 || !o.marked && len(o.doubt.lanes) > 0) {
		if err := o.changeCold(&edit{}); err != nil {
			o.cfg.Log.Warn("outbox counters are not in flash", agent.KeyErr, err)
		}
	}
	if o.compact(); o.unsaved {
		o.saveState()
	}
	o.closed = true
	o.begin(false)
	var err error
	if n := len(o.hot.index[tele]) + len(o.hot.index[events]); n > 0 {
		err = fmt.Errorf("close outbox: %d records are not in flash", n)
	}
	err = errors.Join(err, o.cold.rest(), o.hot.file.Close())
	if o.lock != nil {
		err = errors.Join(err, o.lock.Close())
	}
	return err
}
