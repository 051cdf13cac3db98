package fault

import (
	"bytes"
	"maps"
	"strings"
	"time"
)

// wound is a file of a tier that was damaged.
type wound struct{ tier, file string }

// hurt notes that a file of a tier was damaged, and what that took: a log that ends between two records is whole, and
// nobody can report what it lost.
func (r *Rig) hurt(tier, file string, before, after *contents) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wounds[wound{tier, file}] = time.Now()
	if tier == tierCluster {
		gone := before.log.without(after.log)
		for node, values := range gone {
			for v := range values {
				r.lost.Add(node, v)
			}
		}
		r.hurtLog = r.hurtLog || len(gone) > 0 && !after.whole
		return
	}
	if r.took[tier] == nil {
		r.took[tier] = ticks{}
	}
	if file == outboxFile {
		r.hurtOutbox(tier, before, after)
		return
	}
	for n := range before.ticks {
		if !after.ticks[n] {
			r.took[tier][n] = r.took[tier][n] || !after.whole
		}
	}
}

// harm is a damaged outbox.db: as it was when it was sound, and as it was left.
type harm struct {
	sound, left []byte
	at          time.Time
	held        ticks // when it was sound
}

// hurtOutbox notes what damage to an outbox.db may have taken: no more than what lies where it is not as it was. A file that was
// damaged before and not mended since, for want of room, is compared with what it was before both. mu is held.
func (r *Rig) hurtOutbox(tier string, before, after *contents) {
	h := &harm{sound: before.raw, left: after.raw, at: time.Now(), held: before.ticks}
	if list := r.harms[tier]; len(list) > 0 {
		if last := list[len(list)-1]; bytes.Equal(last.left, before.raw) {
			h.sound, h.held = last.sound, last.held
		}
	}
	r.harms[tier] = append(r.harms[tier], h)
	for n := range spoilt(h.sound, h.left) {
		r.took[tier][n] = true
	}
}

// mendWithin is how long a start that has to mend an outbox.db may take until it has.
const mendWithin = 10 * time.Second

// unmended are the scrapes of damaged files that had to be mended on a full disk: what can be read has then nowhere to go. mu is held.
func (r *Rig) unmended(tier string) ticks {
	out := ticks{}
	p := r.tiers[tier]
	for _, h := range r.harms[tier] {
		until := h.at
		for _, born := range p.Births() {
			if until == h.at && born.After(h.at) {
				until = born.Add(mendWithin)
			}
		}
		if p.troubledBetween(h.at, until) {
			maps.Copy(out, h.held)
		}
	}
	return out
}

// hurtAt is when a tier's file, of those whose names begin so, was damaged last in this round; zero for never.
func (r *Rig) hurtAt(tier, file string) (at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w, t := range r.wounds {
		if w.tier == tier && strings.HasPrefix(w.file, file) {
			at = later(at, t)
		}
	}
	return at
}

// blamed notes what a fault itself found wrong.
func (r *Rig) blamed(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blames = append(r.blames, what)
}

// diskBytes are the sizes of the small file systems.
func (r *Rig) diskBytes(tier string) int {
	switch {
	case tier == tierCluster:
		return 256 << 20
	case r.cfg.Kube: // an image has to leave 64 MiB free
		return 96 << 20
	}
	return 24 << 20
}
