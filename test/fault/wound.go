package fault

import (
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
		gone := before.samples.Without(after.samples)
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
	for n := range before.ticks {
		if !after.ticks[n] {
			r.took[tier][n] = r.took[tier][n] || !after.whole
		}
	}
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
