package edge

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// How often what the node reports is told again: as many changes at once as a container has on its way to Running, and one each second
// over time.
const (
	reportEvery = time.Second
	reportBurst = 5
)

// pace says how long to wait after something was told. Its zero value has the whole burst left.
type pace struct{ due time.Time } // when the next would be told if all were told evenly

// told is called with the instant at which something was told.
func (p *pace) told(now time.Time) time.Duration {
	if p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(reportEvery)
	return max(0, p.due.Sub(now)-(reportBurst-1)*reportEvery)
}

// oweReport has the reporter tell what became of the desired document, its workloads or the settings.
func (a *Agent) oweReport() {
	select {
	case a.reportDue <- struct{}{}:
	default: // one report tells all
	}
}

// reporter publishes what the node made of the desired document whenever that changes. Not who changes it: the document may arrive
// while the session is still being announced, when nobody else can publish yet.
func (a *Agent) reporter(ctx context.Context) error {
	var p pace
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.reportDue:
		}
		if a.line.AwaitUp(ctx) != nil {
			return nil
		}
		if err := a.report(ctx, a.line.Publish); err != nil && ctx.Err() == nil {
			a.log.Debug("report not sent; the next session begins with it", agent.KeyErr, err)
		}
		if wait := p.told(time.Now()); wait > 0 && !agent.Wait(ctx, wait) {
			return nil
		}
	}
}

// report publishes what the node made of the desired document, if it has one.
func (a *Agent) report(ctx context.Context, publish publisher) error {
	rev, policies := a.desired.Load(), a.policies.Load()
	if rev == nil || policies == nil {
		return nil
	}
	r := &api.Reported{Generation: rev.Generation, Hash: rev.Hash, Epoch: a.epoch.Load(), At: api.At(a.clock.Now()), Config: a.settings.report(),
		Workloads: a.workloads.Status(), Policies: []api.PolicyStatus{}, Agent: a.updates.wish.report()}
	for _, p := range *policies {
		r.Policies = append(r.Policies, api.PolicyStatus{Name: p.Name, State: "rejected", Reason: "this node has no policy engine " + p.Kind})
	}
	payload, err := a.fit(r)
	if err != nil {
		return err
	}
	return publish(ctx, a.topic(mqtt.KindReported, ""), payload, true)
}

// fit encodes r within the limit of its message. What is told for people goes first, then how earlier runs ended, then which
// images run; states stay to the last.
func (a *Agent) fit(r *api.Reported) ([]byte, error) {
	entry, _ := mqtt.EntryOf(mqtt.KindReported)
	for _, less := range []func(s *api.WorkloadStatus){nil, lessMessages, lessHistory, lessContainers} {
		if less != nil {
			for i := range r.Workloads {
				s := &r.Workloads[i]
				s.Containers = append([]api.ContainerStatus{}, s.Containers...) // those of the engine are not ours to change
				less(s)
			}
		}
		payload, err := a.codec.Encode(mqtt.Encoding(a.encoding.Load()), r)
		if err != nil || len(payload) <= entry.MaxBytes {
			return payload, err
		}
	}
	return nil, fmt.Errorf("report on %d workloads: does not fit %d bytes", len(r.Workloads), entry.MaxBytes)
}

// lessMessages leaves out what is told for people, but for the first words of why a workload does not run.
func lessMessages(s *api.WorkloadStatus) {
	s.Message = clipTo(s.Message, 64)
	for i := range s.Containers {
		c := &s.Containers[i]
		c.Message, c.End, c.Last = clipTo(c.Message, 32), withoutMessage(c.End), withoutMessage(c.Last)
	}
}

func withoutMessage(t *api.Termination) *api.Termination {
	if t == nil {
		return nil
	}
	short := *t
	short.Message = ""
	return &short
}

// lessHistory leaves out earlier runs, names that others can do without, and what is left of messages.
func lessHistory(s *api.WorkloadStatus) {
	s.Message = ""
	for i := range s.Containers {
		c := &s.Containers[i]
		c.Last, c.ImageDigest, c.ID, c.Message = nil, "", "", ""
	}
}

// lessContainers leaves the workload's own state.
func lessContainers(s *api.WorkloadStatus) {
	s.Containers, s.Message = nil, "too much to tell of all workloads of this node"
}

func clipTo(s string, n int) string { return clip(s[:min(n, len(s))]) }
