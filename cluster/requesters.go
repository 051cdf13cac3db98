package cluster

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// requesters tells those who asked over MQTT where their requests stand, and never backwards: the journal's feed and a
// repeated request tell of the same command at the same time, and whoever reads a final state may stop reading there.
type requesters struct {
	agent *Agent
	seed  maphash.Seed
	parts [64]toldPart // by id, so that one slow publish holds up few others
}

type toldPart struct {
	mu   sync.Mutex
	told map[string]int // how many steps the requester of an id knows of
}

// maxTold bounds one part. What is forgotten beyond it loses its protection against a step backwards, and no more.
const maxTold = 1024

func newRequesters(a *Agent) *requesters { return &requesters{agent: a, seed: maphash.MakeSeed()} }

// step tells of a change that the journal's feed brought. The feed has the changes of a command in order, so after a
// final one nothing older follows.
func (q *requesters) step(ctx context.Context, rec *api.CommandRecord) {
	p := q.part(rec.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	q.tell(ctx, p, rec)
	if rec.Final {
		delete(p.told, rec.ID)
	}
}

// again tells where the command stands by now. What the caller knows of it may be older than what was told meanwhile.
func (q *requesters) again(ctx context.Context, id string) {
	p := q.part(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	rec, found, err := q.agent.journal.Get(id)
	if err != nil || !found {
		q.agent.log.Warn("requester not told", agent.KeyCommand, id, agent.KeyErr, err)
		return
	}
	q.tell(ctx, p, &rec)
}

func (q *requesters) part(id string) *toldPart {
	return &q.parts[maphash.String(q.seed, id)%uint64(len(q.parts))]
}

// tell publishes rec, unless something later was told. p.mu is held.
func (q *requesters) tell(ctx context.Context, p *toldPart, rec *api.CommandRecord) {
	if len(rec.History) < p.told[rec.ID] {
		return
	}
	if p.told == nil || len(p.told) >= maxTold {
		p.told = map[string]int{}
	}
	p.told[rec.ID] = len(rec.History)
	st := api.Status{ID: rec.ID, Phase: rec.Phase, At: api.At(q.agent.clock.Now())}
	if rec.Status != nil {
		st = *rec.Status
		st.Phase = rec.Phase
	}
	if n := len(rec.History); n > 0 {
		st.At = rec.History[n-1].At
		if st.Reason == "" {
			st.Reason = rec.History[n-1].Reason
		}
	}
	q.answer(ctx, rec.Node, &st)
}

// refuse tells that a request is refused. The contract gives all requests with one id on one node the same status topic, so
// when there is a command of that id its own requester listens there too, and must not read that it was rejected: then its
// phase stays, and the reason alone tells of the other request.
func (q *requesters) refuse(ctx context.Context, t mqtt.Topic, by string, why error) {
	p := q.part(t.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	st := api.Status{ID: t.ID, Phase: api.PhaseRejected, At: api.At(q.agent.clock.Now()), Reason: clip(why.Error())}
	rec, found, err := q.agent.journal.Get(t.ID)
	if err != nil {
		q.agent.log.Warn("requester not told", agent.KeyCommand, t.ID, agent.KeyErr, err)
		return
	}
	if found && rec.Node == t.Node && isRequest(&rec) {
		q.tell(ctx, p, &rec)
		st.Phase = rec.Phase
		st.Reason = clip(fmt.Sprintf("this command goes on; another request with its id, by %s, was refused: %s", by, why))
		if rec.Final {
			st.Reason = clip(fmt.Sprintf("this command has ended; another request with its id, by %s, was refused: %s", by, why))
		}
	}
	q.answer(ctx, t.Node, &st)
}

// answer publishes a status. A requester who is away misses it, as with any live subscription.
func (q *requesters) answer(ctx context.Context, node string, st *api.Status) {
	payload, err := q.agent.codec.Encode(mqtt.JSON, st)
	if err == nil {
		err = q.agent.wire.Publish(ctx, q.agent.topics.Of(mqtt.KindRequestStatus, node, st.ID), payload, false)
	}
	if err != nil && ctx.Err() == nil {
		q.agent.log.Warn("requester not told", agent.KeyCommand, st.ID, agent.KeyErr, err)
	}
}
