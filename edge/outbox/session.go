package outbox

import (
	"maps"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Connected begins the session epoch: what is put from now on belongs to it, and what was put before is backlog.
func (o *Outbox) Connected(epoch uint64) {
	defer o.wake()
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case epoch > o.epoch:
		o.epoch = epoch
		o.next = [streams]uint64{1, 1}
	case epoch < o.epoch:
		o.cfg.Log.Error("session epoch fell behind the outbox", agent.KeyEpoch, epoch)
	}
	o.liveFrom = o.next
	o.upAt = time.Now()
	o.begin(true)
}

// Again sends at once what has no ack: somebody else takes it from now on.
func (o *Outbox) Again() {
	defer o.wake()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.up {
		o.begin(true)
	}
}

// Disconnected ends the session. What has no ack will be sent again in the next one.
func (o *Outbox) Disconnected() {
	defer o.wake()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.up {
		o.downAt = time.Now()
	}
	o.begin(false)
}

// begin forgets everything about the session before.
func (o *Outbox) begin(up bool) {
	if o.ctx != nil {
		o.cancel()
		o.ctx = nil
	}
	o.session++
	o.up = up
	o.flights = map[lane]*flight{}
	o.window, o.backlog = 0, 0
	o.retryAt = time.Time{}
}

// Ack forgets what the cluster agent has stored for good.
func (o *Outbox) Ack(a *api.Ack) {
	defer o.wake()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if a.PauseMillis > 0 && !o.closed {
		o.hold(now, time.Duration(a.PauseMillis)*time.Millisecond)
	}
	if o.closed || a.Epoch == 0 || a.Epoch > o.epoch {
		return
	}
	for s, seq := range [streams]uint64{a.Seq, a.Events} {
		if l := (lane{stream(s), a.Epoch}); seq > 0 {
			o.forget(l, seq, now)
		}
	}
}

// hold keeps telemetry back for about d. What was sent of it and not acknowledged will be sent again.
func (o *Outbox) hold(now time.Time, d time.Duration) {
	o.holdTill = now.Add(agent.Jitter(d, 0.2))
	for l, f := range o.flights {
		if l.stream == tele {
			f.failed(0)
		}
	}
}

func (o *Outbox) forget(l lane, seq uint64, now time.Time) {
	if f := o.flights[l]; f != nil {
		f.ack(seq, now, o.ackWait())
		if len(f.sent) == 0 {
			delete(o.flights, l)
		}
	}
	o.doubt.settle(l, func(s uint64) bool { return s <= seq })
	had := o.hot.first(l) <= seq
	done := o.cold.acked[l]
	o.tend(o.cold.ack(l, seq))
	if !had && o.cold.acked[l] == done {
		return // an ack of what is long forgotten
	}
	if o.tried[l] <= seq {
		delete(o.tried, l)
	}
	maps.DeleteFunc(o.shifts, func(s stamped, _ int64) bool { return s.lane == l && s.seq <= seq })
	if err := o.hot.ack(l, seq); err != nil { // forgotten all the same; after a crash it would be sent again
		o.warn("outbox ack not noted", err)
		o.unsaved = true // what was in memory alone need not be counted
	}
}

func (o *Outbox) ackWait() time.Duration { return agent.Jitter(o.cfg.AckTimeout, 0.2) }
