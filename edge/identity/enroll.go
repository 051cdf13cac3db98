package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// A refusal does not heal by waiting: somebody has to make another token, remove the node that has the id, or change
// their mind. The device stays, since it may be hard to reach, but asks rarely, and looks for another join string
// meanwhile.
const (
	refusedMin = time.Minute
	refusedMax = 30 * time.Minute
	lookForNew = 10 * time.Second
)

// Waiting begins the trouble of a device that a person has to let in; what the cluster says of it follows.
const Waiting = "waiting for approval on the cluster: "

// enroll asks until a certificate is issued. It returns nil without an error when ctx ended first.
func (k *Keeper) enroll(ctx context.Context, id *Identity) (*Identity, error) {
	if id == nil {
		var err error
		if id, err = New(k.cfg.Node); err != nil {
			return nil, err
		}
		if err := id.Save(k.cfg.Dir); err != nil { // before asking, so that a lost reply is asked for with the same key
			return nil, err
		}
	}
	if kept, err := LoadPending(k.cfg.Dir); err == nil {
		k.pending = kept
	}
	backoff := agent.Backoff{}
	for {
		next, wait, err := k.attempt(ctx, id)
		if err == nil && next != nil {
			return k.admitted(next)
		}
		if _, refused := errors.AsType[*api.Problem](err); refused {
			wait = k.rarely.Min/2 + k.rarely.Next()
			k.refuse(ctx, err, wait)
		} else if err != nil {
			wait = atLeast(backoff.Next(), err)
			k.fail(ctx, "enrolment failed", err, wait)
		}
		renewed, live := k.await(ctx, wait)
		if !live {
			return nil, nil
		}
		if renewed {
			backoff.Reset()
			k.rarely.Reset()
		}
	}
}

// admitted keeps the identity that enrolment ended with.
func (k *Keeper) admitted(id *Identity) (*Identity, error) {
	k.setTrouble(k.noted)
	k.cfg.Log.Info("enrolled", agent.KeyNode, id.Node, agent.KeyCluster, id.Cluster, agent.KeyNotAfter, id.Leaf().NotAfter)
	if err := id.Save(k.cfg.Dir); err != nil {
		return id, err
	}
	k.forget()
	return id, nil
}

// attempt asks once. A nil identity without an error means: pending, ask again after the wait.
func (k *Keeper) attempt(ctx context.Context, id *Identity) (*Identity, time.Duration, error) {
	join, err := k.cfg.Join()
	if err != nil {
		return nil, 0, err
	}
	text := join.String()
	if k.pending.Join != text {
		k.remember(Pending{Join: text})
	}
	k.cfg.Client.Clock.Raise(join.Issued.Time())
	csr, err := id.CSR()
	if err != nil {
		return nil, 0, err
	}
	// Without an id of its own it sends none: the cluster alone can tell whether its host name is free.
	reply, err := k.cfg.Client.Enroll(ctx, join, &api.EnrollRequest{Node: k.cfg.Node, CSR: csr, Labels: k.cfg.Labels})
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", strings.TrimSpace("enrol "+k.cfg.Node), err)
	}
	if reply.Status == api.EnrollPending {
		wait := min(max(time.Duration(reply.RetryAfterMillis)*time.Millisecond, time.Second), time.Minute)
		if !strings.HasPrefix(k.Trouble(), Waiting) { // the log tells it once, the status all the time
			k.cfg.Log.Info("waiting for approval", agent.KeyNode, reply.Node, agent.KeyReason, reply.Message)
		}
		k.setTrouble(Waiting + reply.Message)
		if k.pending.Waiting == 0 {
			k.remember(Pending{text, api.At(k.cfg.Client.Clock.Now())})
		}
		return nil, agent.Jitter(wait, 0.1), nil
	}
	next, err := id.With(reply, join.CASHA256)
	if err == nil {
		k.note(reply.Message)
	}
	return next, 0, err
}

// await waits, or until there is another join string than the last one tried. live is false when ctx ended.
func (k *Keeper) await(ctx context.Context, wait time.Duration) (renewed, live bool) {
	for wait > 0 {
		step := min(wait, k.look)
		if !agent.Wait(ctx, step) {
			return false, false
		}
		wait -= step
		if join, err := k.cfg.Join(); err == nil && k.pending.Join != "" && join.String() != k.pending.Join {
			return true, true
		}
	}
	return false, ctx.Err() == nil
}

// refuse tells of a refusal, loudly when it is news.
func (k *Keeper) refuse(ctx context.Context, err error, wait time.Duration) {
	const what = "enrolment refused"
	text := what + ": " + err.Error()
	if ctx.Err() == nil && k.Trouble() != text {
		k.cfg.Log.Error(what, agent.KeyErr, err, agent.KeyWait, agent.Brief(wait))
	}
	k.setTrouble(text)
	if k.cfg.OnFail != nil && ctx.Err() == nil {
		k.cfg.OnFail(ctx, err)
	}
}

// remember keeps the enrolment that is under way. A device that cannot write goes on with what it was given.
func (k *Keeper) remember(p Pending) {
	k.pending = p
	if err := p.save(k.cfg.Dir); err != nil {
		k.cfg.Log.Warn("join string not kept; it is needed again at the next start", agent.KeyErr, err)
	}
}

// forget drops the join string, which has served.
func (k *Keeper) forget() {
	k.pending = Pending{}
	if err := dropPending(k.cfg.Dir); err != nil {
		k.cfg.Log.Warn("join string not removed", agent.KeyErr, err)
	}
}
