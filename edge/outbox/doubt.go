package outbox

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/skerry-edge/skerry/agent"
)

// doubts are the records that were handed to the Sender, in this life or an earlier one, and are not acknowledged: the
// cluster agent may have stored them. They are never given up for want of room, since a reported drop means that the
// record will not arrive. As a lane is sent in order, they are all that is held of it up to a mark.
type doubts struct {
	lanes map[lane][]doubtful // ascending by seq
	bytes [streams]int64
}

type doubtful struct {
	seq   uint64
	bytes int64
}

// mark is a lane's greatest seq in doubt, as it is kept over the end of the process.
type mark struct {
	Stream stream `json:"s"`
	Epoch  uint64 `json:"e"`
	Seq    uint64 `json:"q"`
}

func (m *meta) lane() lane { return lane{m.class.stream(), m.epoch} }

// mark is the greatest seq of l in doubt, 0 without one.
func (d *doubts) mark(l lane) uint64 {
	if list := d.lanes[l]; len(list) > 0 {
		return list[len(list)-1].seq
	}
	return 0
}

func (d *doubts) has(m *meta) bool { return m.seq <= d.mark(m.lane()) }

func (d *doubts) add(l lane, seq uint64, bytes int64) {
	if d.lanes == nil {
		d.lanes = map[lane][]doubtful{}
	}
	d.lanes[l] = append(d.lanes[l], doubtful{seq, bytes})
	d.bytes[l.stream] += bytes
}

// settle ends the doubt about what gone says of l.
func (d *doubts) settle(l lane, gone func(seq uint64) bool) {
	list := slices.DeleteFunc(d.lanes[l], func(x doubtful) bool {
		if !gone(x.seq) {
			return false
		}
		d.bytes[l.stream] -= x.bytes
		return true
	})
	if len(list) == 0 {
		delete(d.lanes, l)
		return
	}
	d.lanes[l] = list
}

func (d *doubts) remove(m *meta) { d.settle(m.lane(), func(seq uint64) bool { return seq == m.seq }) }

// lanesOf is how many lanes of s have something in doubt.
func (d *doubts) lanesOf(s stream) (n int) {
	for l := range d.lanes {
		if l.stream == s {
			n++
		}
	}
	return n
}

// marks are ordered, so that the same doubts are the same bytes.
func (d *doubts) marks() []mark {
	var out []mark
	for l := range d.lanes {
		out = append(out, mark{l.stream, l.epoch, d.mark(l)})
	}
	agent.Order(out, func(a, b mark) int {
		if a.Stream != b.Stream {
			return int(a.Stream) - int(b.Stream)
		}
		return compareKeys(key{a.Epoch, a.Seq}, key{b.Epoch, b.Seq})
	})
	return out
}

// mergeMarks keeps the greater mark of each lane. One that is too great by now does no harm: nothing is held up to it.
func mergeMarks(a, b []mark) []mark {
	if len(b) == 0 {
		return a
	}
	d := doubts{}
	for _, m := range slices.Concat(a, b) {
		if l := (lane{m.Stream, m.Epoch}); m.Stream < streams && m.Seq > d.mark(l) {
			d.add(l, m.Seq, 0)
		}
	}
	return d.marks()
}

// maxDoubtLanes bounds the lanes of a stream with something in doubt, and so the marks that are kept.
const maxDoubtLanes = 16

// admits reports whether m may be sent. What is in doubt keeps its room whatever comes, so it may take only a part of what
// the tighter tier holds: three eighths for telemetry, one for events, which must not wait for telemetry that nobody
// acknowledges. One record is always let through.
func (o *Outbox) admits(m *meta) bool {
	d, s := &o.doubt, m.class.stream()
	if d.has(m) || d.lanesOf(s) == 0 {
		return true
	}
	if d.mark(m.lane()) == 0 && d.lanesOf(s) >= maxDoubtLanes {
		return false
	}
	room := o.cfg.HotBytes
	if !o.cfg.Volatile {
		room = min(room, o.cfg.MaxBytes)
	}
	share := room / 8
	if s == tele {
		share = room * 3 / 8
	}
	return d.bytes[s]+m.bytes() <= share
}

// noteSent puts m in doubt, and remembers that beyond the end of this process, before it is sent.
func (o *Outbox) noteSent(m *meta) {
	if o.doubt.has(m) {
		return
	}
	o.doubt.add(m.lane(), m.seq, m.bytes())
	o.marked = false
	if o.cfg.Volatile {
		return
	}
	// The form is that of a state which tells nothing else: an older version of this program reads over it.
	raw, err := json.Marshal(struct {
		Sent []mark `json:"sent"`
	}{[]mark{{m.class.stream(), m.epoch, m.seq}}})
	if err == nil {
		_, err = o.hot.append(appendRecord(nil, &record{meta: meta{kind: kindState}, payload: raw}))
	}
	if err != nil { // were the process killed now, it could be given up although it was stored
		o.warn("outbox mark not kept", err)
	}
}

// current is the state as it is to be written.
func (o *Outbox) current() state {
	st := o.st
	st.Sent, st.Alone = o.doubt.marks(), o.hot.alone()
	return st
}

// adopt takes up the marks of earlier lives, and has the books of what is in doubt agree with what is held.
func (o *Outbox) adopt() {
	next := doubts{}
	for _, m := range mergeMarks(o.doubt.marks(), o.st.Sent) {
		l := lane{m.Stream, m.Epoch}
		take := func(x meta) bool {
			mine := x.epoch == l.epoch && x.seq <= m.Seq
			if mine && x.seq > next.mark(l) {
				next.add(l, x.seq, x.bytes())
			}
			return mine
		}
		err := errors.Join(o.cold.scan(l.stream, key{l.epoch, 0}, take), o.hot.scan(l.stream, key{l.epoch, 0}, take))
		if (err != nil || !o.cold.known) && next.mark(l) < m.Seq { // what cannot be read now may be some of it
			next.add(l, m.Seq, 0)
		}
	}
	o.doubt, o.st.Sent = next, nil
}

// patience is how many times in a row the cluster agent may leave a record unacknowledged before it is given up for its age.
const patience = 8

// hopeless reports whether m, which is past its age, can go: it was never sent, or it was sent again and again in this
// session and never acknowledged. One that is in doubt while the link is down waits for the next session to tell.
func (o *Outbox) hopeless(m *meta) bool {
	f := o.flights[m.lane()]
	return !o.doubt.has(m) || f != nil && f.misses >= patience
}
