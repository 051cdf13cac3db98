package fault

import "time"

// span is a time of trouble; the end is zero while it lasts.
type span struct{ from, to time.Time }

// troubled begins or ends trouble that excuses a refusal to run.
func (p *Process) troubled(by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.trouble == 0 && by > 0 {
		p.spans = append(p.spans, span{from: now})
	}
	if p.trouble += by; p.trouble == 0 {
		p.calm = now
		p.spans[len(p.spans)-1].to = now
	}
}

// troubledBetween tells whether there was trouble at some time of those.
func (p *Process) troubledBetween(from, to time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.spans {
		if !s.from.After(to) && (s.to.IsZero() || !s.to.Before(from)) {
			return true
		}
	}
	return false
}
