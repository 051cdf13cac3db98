package outbox

import (
	"errors"
	"fmt"
	"time"
)

// Limits are the bounds of an outbox that may change while it is open; see Config for what each bounds.
type Limits struct {
	MaxBytes             int64
	MaxAge               time.Duration
	HotBytes             int64
	SpillAfter           time.Duration
	ReplayBytesPerSecond int64
}

// Limit puts other bounds in force, all or, with an error, none. What is held beyond them is moved, thinned or dropped
// by Run at once, and counted as ever.
func (o *Outbox) Limit(l Limits) error {
	var errs []error
	for _, f := range []struct {
		name string
		ok   bool
	}{{"MaxBytes", l.MaxBytes > 0}, {"MaxAge", l.MaxAge > 0}, {"HotBytes", l.HotBytes > 0}, {"SpillAfter", l.SpillAfter > 0},
		{"ReplayBytesPerSecond", l.ReplayBytesPerSecond > 0}} {
		if !f.ok {
			errs = append(errs, fmt.Errorf("outbox %s: wanted above zero", f.name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	defer o.wake()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cfg.MaxBytes, o.cfg.MaxAge, o.cfg.HotBytes, o.cfg.SpillAfter = l.MaxBytes, l.MaxAge, l.HotBytes, l.SpillAfter
	o.cfg.ReplayBytesPerSecond = l.ReplayBytesPerSecond
	o.pace.limit(float64(l.ReplayBytesPerSecond))
	o.maintainAt, o.expireAt = time.Time{}, time.Time{}
	return nil
}

// Limits returns the bounds in force.
func (o *Outbox) Limits() Limits {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Limits{MaxBytes: o.cfg.MaxBytes, MaxAge: o.cfg.MaxAge, HotBytes: o.cfg.HotBytes, SpillAfter: o.cfg.SpillAfter,
		ReplayBytesPerSecond: o.cfg.ReplayBytesPerSecond}
}
