package outbox

import (
	"errors"
	"strconv"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// note is an event about the outbox itself that waits to be put.
type note struct {
	kind, object, message string
	data                  map[string]string
}

// maxNotes bounds the notes that wait; there is about one for each thing that can break.
const maxNotes = 16

func (o *Outbox) note(kind, object, message string, data map[string]string) {
	if len(o.notes) < maxNotes {
		o.notes = append(o.notes, note{kind, object, message, data})
	}
}

// tell puts the notes.
func (o *Outbox) tell() {
	notes := o.notes
	o.notes = nil
	for _, n := range notes {
		if err := o.putEvent(api.ClassEvent, n.kind, n.object, n.message, n.data); err != nil {
			o.cfg.Log.Warn("outbox event not kept", agent.KeyReason, n.message, agent.KeyErr, err)
		}
	}
}

// tend takes the outcome of any work on a tier. Damage is mended; a refusal is counted and told once, until it ends.
func (o *Outbox) tend(err error) {
	switch {
	case err == nil:
	case errors.Is(err, errDamaged):
		o.mend(err, true)
	default:
		o.st.Full++
		o.unsaved = true
		o.flushAt = time.Now()
		if !o.refused {
			o.cfg.Log.Warn("outbox flash refused", agent.KeyErr, err)
			o.note("outbox.refused", "outbox.db", "flash took no backlog: "+err.Error(), nil)
		}
		o.refused = true
	}
}

// mend sets a damaged outbox.db aside and counts what could not be read from it any more.
func (o *Outbox) mend(cause error, read bool) {
	want, known := o.st.Cold, o.st.Version > 0
	if o.cold.known {
		want, known = o.cold.tally, true
	}
	o.st.Corruptions++
	o.unsaved = true
	res, err := o.cold.setAside(&o.st, read)
	if res == nil {
		o.tend(errors.Join(errors.New("damaged outbox.db not set aside"), detach(err)))
		return
	}
	if res.state.Version > o.st.Version {
		want, known = res.state.Cold, true
	}
	o.st = newest(o.st, res.state)
	o.st.Cold = o.cold.phys
	o.adopt() // what is left of it
	before := o.st.Dropped
	countLost(&o.st.Dropped, &want, &res.saved)
	if !known {
		o.st.Unreadable += uint64(res.bytes)
	}
	o.flights = map[lane]*flight{} // what is left is sent anew: numbers that were under way may be gone
	lost := o.st.Dropped
	o.cfg.Log.Error("outbox damaged, set aside", agent.KeyPath, res.aside, agent.KeyErr, cause,
		agent.KeyCount, lost.Batches-before.Batches)
	data := lostSince(before, lost)
	data["aside"], data["cause"] = res.aside, clip(cause.Error(), api.MaxLabelBytes)
	data["bytes"], data["known"] = strconv.FormatInt(res.bytes, 10), strconv.FormatBool(known)
	o.note("outbox.corrupt", "outbox.db", "a damaged outbox.db was set aside", data)
	o.tend(detach(err)) // the new file may be refused; it cannot be damaged again within its first write
}

// lostSince is what damage took, for the event about it.
func lostSince(before, lost api.Dropped) map[string]string {
	return map[string]string{
		"lost_batches": strconv.FormatUint(lost.Batches-before.Batches, 10),
		"lost_samples": strconv.FormatUint(lost.Samples-before.Samples, 10),
		"lost_events":  strconv.FormatUint(lost.Events+lost.Alarms-before.Events-before.Alarms, 10)}
}

// detach keeps an error from being taken for damage once more.
func detach(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}

// reportEvery is how often at most drops are reported while they go on.
const reportEvery = 10 * time.Minute

// report puts an alarm about what was given up since the last one. While nothing could keep it, it waits.
func (o *Outbox) report(now time.Time) {
	d, last := o.st.Dropped, o.st.Reported
	if d == last || now.Before(o.reportAt) || o.starved && !o.up {
		return
	}
	o.reportAt = now.Add(reportEvery)
	data := map[string]string{}
	for _, c := range [...]struct {
		name      string
		now, then uint64
	}{{"alarms", d.Alarms, last.Alarms}, {"events", d.Events, last.Events}, {"batches", d.Batches, last.Batches},
		{"samples", d.Samples, last.Samples}, {"downsampled", d.Downsampled, last.Downsampled}} {
		data[c.name] = strconv.FormatUint(c.now-c.then, 10)
		data[c.name+"_total"] = strconv.FormatUint(c.now, 10)
	}
	if err := o.putEvent(api.ClassAlarm, "outbox.dropped", "", "the outbox gave up what its bounds could not hold", data); err != nil {
		o.warn("outbox event not kept", err)
		return
	}
	o.st.Reported = d
	o.unsaved = true
}
