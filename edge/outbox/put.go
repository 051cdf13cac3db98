package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// What a stored message may take as JSON: the wire's limits, less what sending may add to it (Prev, a longer instant).
const (
	maxBatchBytes = api.MaxMessageBytes - 128
	maxEventBytes = 16<<10 - 128
)

// PutBatch keeps b until it is acknowledged. It numbers a copy of b; a zero T0 means now, an empty Boot this one. A
// batch that is too large for one message is split, by rows, then by series. b may be used again after the return. An
// error means that b is not kept: it is malformed, or no tier has room even after dropping, which is counted.
func (o *Outbox) PutBatch(b *api.Batch) error {
	own := *b
	own.Prev, own.Historical = 0, false
	if own.Boot == "" {
		own.Boot = o.cfg.Boot
	}
	if own.T0 == 0 {
		now, q := o.cfg.Clock.Read()
		own.T0, own.TimeQuality, own.Mono = api.At(now), q, o.cfg.Clock.Boot().Milliseconds()
	}
	defer o.wake()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.putBatch(&own)
}

func (o *Outbox) putBatch(b *api.Batch) error {
	b.Epoch, b.Seq = o.epoch, o.next[tele]
	if err := b.Validate(); err != nil {
		return fmt.Errorf("put batch: %w", err)
	}
	raw, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("put batch: %w", err)
	}
	if len(raw) <= maxBatchBytes {
		return o.put(&record{meta: metaOfBatch(b), payload: raw})
	}
	head, tail, ok := split(b)
	if !ok {
		return fmt.Errorf("put batch: one sample takes %d bytes; wanted at most %d", len(raw), maxBatchBytes)
	}
	return errors.Join(o.putBatch(&head), o.putBatch(&tail))
}

// split halves a batch, by rows if it has several.
func split(b *api.Batch) (head, tail api.Batch, ok bool) {
	head, tail = *b, *b
	if n := len(b.Rows); n > 1 {
		head.Rows, tail.Rows = b.Rows[:n/2], b.Rows[n/2:]
		return head, tail, true
	}
	n := len(b.Series) / 2
	if n == 0 {
		return head, tail, false
	}
	row := b.Rows[0]
	head.Series, tail.Series = b.Series[:n], b.Series[n:]
	head.Rows = []api.Row{{OffsetMillis: row.OffsetMillis, Values: row.Values[:n]}}
	tail.Rows = []api.Row{{OffsetMillis: row.OffsetMillis, Values: row.Values[n:]}}
	return head, tail, true
}

func metaOfBatch(b *api.Batch) meta {
	first, last := b.Rows[0].OffsetMillis, b.Rows[len(b.Rows)-1].OffsetMillis
	return meta{kind: kindBatch, class: classTelemetry, quality: qualityOf(b.TimeQuality), rows: uint16(len(b.Rows)),
		key: key{b.Epoch, b.Seq}, at: int64(b.T0) + first, end: int64(b.T0) + last, mono: b.Mono + first,
		boot: bootDigest(b.Boot), samples: uint32(b.Samples()), shape: shapeDigest(b.Series)}
}

// PutEvent keeps an event until it is acknowledged; class is api.ClassAlarm or api.ClassEvent. Texts that are longer
// than the wire allows are clipped. An error means that the event is not kept.
func (o *Outbox) PutEvent(c api.Class, kind, object, message string, data map[string]string) error {
	defer o.wake()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.putEvent(c, kind, object, message, data)
}

func (o *Outbox) putEvent(c api.Class, kind, object, message string, data map[string]string) error {
	now, q := o.cfg.Clock.Read()
	e := &api.Event{Epoch: o.epoch, Seq: o.next[events], Boot: o.cfg.Boot, At: api.At(now),
		Mono: o.cfg.Clock.Boot().Milliseconds(), TimeQuality: q, Class: c, Kind: clip(kind, api.MaxLabelBytes), Object: clip(object, api.MaxLabelBytes),
		Message: clip(message, api.MaxReasonBytes), Data: clipData(data)}
	if err := e.Validate(); err != nil {
		return fmt.Errorf("put event: %w", err)
	}
	raw, err := json.Marshal(e)
	if err == nil && len(raw) > maxEventBytes {
		e.Data = map[string]string{"clipped": "true"}
		raw, err = json.Marshal(e)
	}
	if err != nil {
		return fmt.Errorf("put event: %w", err)
	}
	cl := classEvent
	if c == api.ClassAlarm {
		cl = classAlarm
	}
	m := meta{kind: kindEvent, class: cl, quality: qualityOf(q), key: key{e.Epoch, e.Seq}, at: int64(e.At), end: int64(e.At),
		mono: e.Mono, boot: o.boot}
	return o.put(&record{meta: m, payload: raw})
}

// put keeps r in the hot tier, or, when that is full, in flash. The number is used up either way.
func (o *Outbox) put(r *record) error {
	if o.closed {
		return ErrClosed
	}
	r.size = uint32(len(r.payload))
	o.next[r.class.stream()]++
	err := o.hot.add(r)
	if err != nil { // the tmpfs is full
		o.flush()
		err = o.hot.add(r)
	}
	if err != nil && o.hot.live == 0 {
		err = errors.Join(err, o.changeCold(&edit{put: []record{*r}}))
		if o.cold.holds(&r.meta) {
			err = nil
		}
	}
	o.starve(err)
	if err != nil {
		if alone := o.hot.alone(); o.up && alone.Bytes+r.bytes() <= o.cfg.HotBytes/4 {
			o.hot.addAlone(r) // the link may take it all the same
			err = nil
		} else {
			countDropped(&o.st.Dropped, &r.meta)
		}
		o.saveState() // now: a kill must not take the count along
	}
	if err != nil {
		return fmt.Errorf("keep %s of epoch %d seq %d: %w", r.class.stream(), r.epoch, r.seq, err)
	}
	if o.hot.live > o.cfg.HotBytes {
		o.overflow()
	}
	return nil
}

// starve takes whether a tier had room for what was put. Once there is room again, what is in memory alone is written, and what
// was given up is told.
func (o *Outbox) starve(err error) {
	was := o.starved
	o.starved = err != nil
	switch {
	case o.starved && !was:
		o.cfg.Log.Warn("outbox has no room on any disk; what the link does not take is given up", agent.KeyErr, err)
	case was && !o.starved:
		o.reportAt = time.Time{}
		o.compact()
	}
}

// String names the stream for errors.
func (s stream) String() string {
	if s == tele {
		return "batch"
	}
	return "event"
}

// clip shortens s to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	cut := n - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// clipData keeps as many entries as the wire allows, in the order of their names.
func clipData(data map[string]string) map[string]string {
	if len(data) == 0 {
		return nil
	}
	names := make([]string, 0, len(data))
	for name := range data {
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := make(map[string]string, len(names))
	for _, name := range names[:min(len(names), api.MaxLabels)] {
		out[clip(name, api.MaxLabelBytes)] = clip(data[name], api.MaxLabelBytes)
	}
	return out
}
