package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// retryWait is the pause after a send that failed while the link stayed.
const retryWait = time.Second

// Run sends, spills and expires until ctx ends; then it returns nil, leaving everything where it is. Close comes after.
func (o *Outbox) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-o.kick:
		}
		for ctx.Err() == nil {
			job, wait := o.step(ctx, time.Now())
			if job == nil {
				timer.Reset(wait)
				break
			}
			o.cfg.Sender.Send(job.ctx, job.kind, job.message, job.done)
		}
	}
}

// job is one message on its way to the Sender.
type job struct {
	ctx     context.Context // of the session
	kind    mqtt.Kind
	message any
	done    func(error)
}

// step does what is due now. It returns the next message to send, or how long nothing will be due.
func (o *Outbox) step(ctx context.Context, now time.Time) (*job, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, time.Hour
	}
	for l, f := range o.flights {
		if f.late(now) {
			o.cfg.Log.Debug("outbox ack overdue, sending again", agent.KeyEpoch, l.epoch)
		}
	}
	o.pace.fill(now)
	if !now.Before(o.maintainAt) { // also when there is always something to send
		o.maintain(now)
	}
	if j := o.nextJob(now); j != nil {
		if o.ctx == nil {
			o.ctx, o.cancel = context.WithCancel(ctx)
		}
		j.ctx = o.ctx
		return j, 0
	}
	o.maintain(now)
	return nil, o.nextDue(now)
}

// nextDue is when to look again without being kicked.
func (o *Outbox) nextDue(now time.Time) time.Duration {
	wait := o.tick()
	if !o.up {
		return wait
	}
	for _, f := range o.flights {
		if !f.deadline.IsZero() {
			wait = min(wait, f.deadline.Sub(now))
		}
	}
	for _, at := range []time.Time{o.retryAt, o.holdTill} {
		if now.Before(at) {
			wait = min(wait, at.Sub(now))
		}
	}
	if w := o.pace.wait(); w > 0 {
		wait = min(wait, w)
	}
	return max(wait, time.Millisecond)
}

// tick is how often to look after the tiers without being kicked.
func (o *Outbox) tick() time.Duration {
	return max(10*time.Millisecond, min(5*time.Second, o.cfg.SpillAfter/2, o.cfg.FlushEvery/2))
}

// nextJob chooses what to send and marks it as under way.
func (o *Outbox) nextJob(now time.Time) *job {
	if o.awaitsTime(now) {
		return nil
	}
	for o.up && o.window < o.cfg.Window && !now.Before(o.retryAt) {
		of := offer{paced: o.pace.wait() > 0, backFull: o.backlog >= max(1, o.cfg.Window/2), lastLive: o.lastLive}
		var live, back [streams]*meta
		mended := o.st.Corruptions
		for s := range streams {
			if s == tele && now.Before(o.holdTill) {
				continue
			}
			live[s], back[s] = o.candidates(s, !of.paced && !of.backFull)
		}
		if o.st.Corruptions != mended { // what was found before the damage was met may be gone
			continue
		}
		of.liveTele, of.liveEvent = live[tele] != nil, live[events] != nil
		of.backTele, of.backEvent = back[tele] != nil, back[events] != nil
		var m *meta
		t := of.next()
		switch t {
		case turnNone:
			return nil
		case turnLiveEvent:
			m = live[events]
		case turnLiveTele:
			m = live[tele]
		case turnBackEvent:
			m = back[events]
		case turnBackTele:
			m = back[tele]
		}
		historical := t >= turnBackEvent
		if j := o.prepare(m, historical); j != nil {
			return j
		}
	}
	return nil
}

// timeWait bounds how long a session waits to be told the time. It is told right after the birth, unless the cluster agent
// is of a kind that does not.
const timeWait = time.Minute

// awaitsTime reports whether stamps may be wrong and are about to be known better: nothing that was sent is stamped anew.
func (o *Outbox) awaitsTime(now time.Time) bool {
	if !o.up || o.cfg.Timed == nil || o.cfg.Timed(o.epoch) || now.Sub(o.upAt) >= timeWait {
		return false
	}
	_, q := o.cfg.Clock.Read()
	return q != api.TimeSynced
}

// TimeKnown has the outbox look at once: the session was told the time.
func (o *Outbox) TimeKnown() { o.wake() }

// candidates returns what could be sent next of s: the next live one, and the next of the backlog if wanted.
func (o *Outbox) candidates(s stream, wantBack bool) (live, back *meta) {
	limit := 8 * o.cfg.Window
	if f := o.flights[lane{s, o.epoch}]; f == nil || len(f.sent) < limit {
		live = o.nextHeld(s, key{o.epoch, f.high() + 1})
		if live != nil && live.seq < o.liveFrom[s] { // of this epoch, but from before the session: in order, and paced
			live, back = nil, live
		}
		if live != nil && !o.admits(live) {
			live = nil
		}
		if back != nil && !o.admits(back) {
			back = nil
		}
	}
	if !wantBack {
		return live, nil
	}
	for at := (key{0, 1}); ; {
		m := o.nextHeld(s, at)
		if m == nil || m.epoch >= o.epoch {
			return live, back
		}
		f := o.flights[lane{s, m.epoch}]
		if f != nil && len(f.sent) >= limit { // enough of it unacknowledged, and older ones first
			return live, back
		}
		switch {
		case m.seq <= f.high():
			at = key{m.epoch, f.high() + 1}
		case o.admits(m):
			return live, m
		default: // no room for more in doubt; a later lane may have some, which makes room once it is acknowledged
			at = key{m.epoch + 1, 0}
		}
	}
}

// nextHeld returns the first unacknowledged record of s from key at on, in whichever tier.
func (o *Outbox) nextHeld(s stream, at key) (found *meta) {
	take := func(m meta) bool {
		found = &m
		return false
	}
	o.tend(o.cold.scan(s, at, take))
	if found == nil {
		o.tend(o.hot.scan(s, at, take))
	}
	return found
}

// launch marks m as under way.
func (o *Outbox) launch(j *job, m *meta, historical bool) {
	l := lane{m.class.stream(), m.epoch}
	f := o.flights[l]
	if f == nil {
		f = &flight{}
		o.flights[l] = f
	}
	o.noteSent(m)
	f.sent = append(f.sent, m.seq)
	o.window++
	o.lastLive = !historical
	if historical {
		o.backlog++
		o.pace.take(m.bytes())
	}
	session, sent := o.session, *m
	j.done = func(err error) { o.landed(session, &sent, historical, err) }
}

// landed takes the outcome of a send.
func (o *Outbox) landed(session uint64, m *meta, historical bool, err error) {
	defer o.wake()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || session != o.session {
		return
	}
	o.window--
	if historical {
		o.backlog--
	}
	l := lane{m.class.stream(), m.epoch}
	f := o.flights[l]
	if f == nil {
		f = &flight{}
	}
	now := time.Now()
	switch {
	case err == nil:
		f.puback(now, o.ackWait())
	case errors.Is(err, ErrUnsendable):
		o.cfg.Log.Error("outbox record can never be sent", agent.KeyEpoch, m.epoch, agent.KeySeq, m.seq, agent.KeyErr, err)
		o.discard(m)
	default:
		o.cfg.Log.Debug("outbox send failed", agent.KeyEpoch, m.epoch, agent.KeySeq, m.seq, agent.KeyErr, err)
		f.failed(m.seq)
		o.retryAt = now.Add(retryWait)
	}
}

// discard drops one record, counted.
func (o *Outbox) discard(m *meta) {
	var sh shelf = o.cold
	if o.hot.has(m) {
		sh = o.hot
	} else if !o.cold.holds(m) {
		return
	}
	dropped := o.st.Dropped
	countDropped(&dropped, m)
	if err := o.apply(sh, &edit{del: []meta{*m}}, dropped); err != nil {
		o.cfg.Log.Warn("outbox record not dropped", agent.KeyErr, err)
	}
}
