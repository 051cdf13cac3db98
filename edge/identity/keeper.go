package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// KeeperConfig is what a Keeper needs.
type KeeperConfig struct {
	Dir    string // of identity.json
	Node   string // wanted id; empty: the cluster chooses, by the host name
	Join   func() (*api.Join, error)
	Labels map[string]string
	Client *Client
	Log    *slog.Logger
	// OnFail is told of each failed attempt to enrol or renew, nil to be silent beyond the log.
	OnFail func(ctx context.Context, err error)
	// OnRenew is told of each renewal, once the next identity is in use. Nil when nobody cares.
	OnRenew func(old, next *Identity)
}

// Keeper holds the node's identity: it enrols when there is none and renews it at two thirds of its life, for as long as
// it runs. An expired certificate is renewed at once. Safe for concurrent use.
type Keeper struct {
	cfg     KeeperConfig
	current atomic.Pointer[Identity]
	trouble atomic.Pointer[string]
	ready   chan struct{}
	retry   agent.Backoff // between attempts to renew, Run's alone
	rarely  agent.Backoff // between attempts to enrol that were refused, Run's alone
	look    time.Duration // how often to look for another join string meanwhile
	pending Pending       // what is kept of the enrolment under way, Run's alone
	noted   string        // the trouble while all is well, Run's alone
}

// NewKeeper returns a keeper; nothing is read yet.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if cfg.Client == nil || cfg.Client.Clock == nil || cfg.Log == nil || cfg.Join == nil || cfg.Dir == "" {
		return nil, errors.New("identity keeper: wanted dir, join, client with clock, and log")
	}
	return &Keeper{cfg: cfg, ready: make(chan struct{}), retry: agent.Backoff{Min: 5 * time.Second, Max: time.Hour},
		rarely: agent.Backoff{Min: refusedMin, Max: refusedMax}, look: lookForNew}, nil
}

// Ready is closed when the node has a certificate, be it an expired one.
func (k *Keeper) Ready() <-chan struct{} { return k.ready }

// Current is the identity in use; nil before Ready.
func (k *Keeper) Current() *Identity { return k.current.Load() }

// Trouble is why there is no certificate yet, or why it was not renewed, or else what there is to note; empty while all is well.
func (k *Keeper) Trouble() string {
	if t := k.trouble.Load(); t != nil {
		return *t
	}
	return ""
}

// note tells what a person should know of this node's identity, which is good all the same.
func (k *Keeper) note(text string) {
	if text != "" {
		k.noted = text
		k.setTrouble(text)
		k.cfg.Log.Warn("identity", agent.KeyReason, text)
	}
}

func (k *Keeper) setTrouble(text string) { k.trouble.Store(&text) }

// Run enrols when needed, then renews.
func (k *Keeper) Run(ctx context.Context) error {
	id, err := Load(k.cfg.Dir)
	if err != nil && !IsNone(err) {
		return err
	}
	if id != nil {
		k.tighten()
	}
	if id == nil || !id.Enrolled() {
		if id, err = k.enroll(ctx, id); err != nil || id == nil {
			return err
		}
	} else if join, err := k.cfg.Join(); err == nil { // one that cannot be read harms nobody now
		if err := id.Stray(join.CASHA256); err != nil {
			k.note(err.Error())
		}
	}
	if pending, err := LoadPending(k.cfg.Dir); err != nil || pending != (Pending{}) { // left by a crash
		k.forget()
	}
	k.current.Store(id)
	k.cfg.Client.Clock.Raise(id.Leaf().NotBefore)
	close(k.ready)
	return k.renew(ctx)
}

func (k *Keeper) tighten() {
	switch was, err := tighten(k.cfg.Dir); {
	case err != nil:
		k.cfg.Log.Error("other users may read the node's key", agent.KeyPath, k.cfg.Dir, agent.KeyErr, err)
	case was != 0:
		k.cfg.Log.Warn("other users could read the node's key; join again if they may have", agent.KeyPath, k.cfg.Dir,
			agent.KeyReason, was.String())
	}
}

// atLeast lengthens a wait to what a busy service asks for, spread so that those it told the same do not return as one.
func atLeast(wait time.Duration, err error) time.Duration {
	if busy, ok := errors.AsType[*BusyError](err); ok && wait < busy.Wait {
		return busy.Wait + rand.N(busy.Wait/2+1)
	}
	return wait
}

// renew keeps the certificate fresh until ctx ends.
func (k *Keeper) renew(ctx context.Context) error {
	for k.waitUntilDue(ctx, k.Current()) && k.try(ctx, "certificate renewal failed", k.renewOnce) {
		// In use before it is kept: a device whose flash is full has a good certificate as long as it runs.
		if !k.try(ctx, "renewed certificate not kept", k.keep) {
			break
		}
	}
	return nil
}

// keep writes the identity in use. It gives up without an error when that is due for renewal itself.
func (k *Keeper) keep(context.Context) error {
	id := k.Current()
	err := id.Save(k.cfg.Dir)
	if err == nil {
		k.setTrouble(k.noted)
		return nil
	}
	if k.cfg.Client.Clock.Now().After(id.Leaf().NotBefore.Add(id.life() * 2 / 3)) {
		return nil // the trouble stays told
	}
	return err
}

// try does something until it succeeds, and reports whether it did before ctx ended.
func (k *Keeper) try(ctx context.Context, failure string, do func(context.Context) error) bool {
	k.retry.Reset()
	for {
		err := do(ctx)
		if err == nil {
			return true
		}
		wait := atLeast(k.retry.Next(), err)
		k.fail(ctx, failure, err, wait)
		if !agent.Wait(ctx, wait) {
			return false
		}
	}
}

// renewOnce asks for a new certificate and uses it.
func (k *Keeper) renewOnce(ctx context.Context) error {
	id := k.Current()
	reply, err := k.cfg.Client.Renew(ctx, id)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	next, err := id.With(reply, "")
	if err != nil {
		return err
	}
	if next.Node != id.Node || next.Cluster != id.Cluster {
		return fmt.Errorf("renew certificate: reply is for %s of cluster %s; wanted %s of %s", next.Node, next.Cluster, id.Node, id.Cluster)
	}
	k.current.Store(next)
	k.cfg.Log.Info("certificate renewed", agent.KeyNode, next.Node, agent.KeyNotAfter, next.Leaf().NotAfter)
	if k.cfg.OnRenew != nil {
		k.cfg.OnRenew(id, next)
	}
	return nil
}

// lookAgain bounds one sleep: a device may be suspended, or its clock set, while we wait.
const lookAgain = time.Minute

// waitUntilDue blocks until two thirds of the certificate's life, ±10 % of that, have passed. It reports whether ctx still
// lives.
func (k *Keeper) waitUntilDue(ctx context.Context, id *Identity) bool {
	due := id.Leaf().NotBefore.Add(agent.Jitter(id.life()*2/3, 0.1))
	for {
		left := due.Sub(k.cfg.Client.Clock.Now())
		if left <= 0 {
			return ctx.Err() == nil
		}
		if !agent.Wait(ctx, min(left, lookAgain)) {
			return false
		}
	}
}

func (k *Keeper) fail(ctx context.Context, what string, err error, wait time.Duration) {
	if ctx.Err() != nil {
		return
	}
	k.setTrouble(what + ": " + err.Error())
	k.cfg.Log.Warn(what, agent.KeyErr, err, agent.KeyWait, agent.Brief(wait))
	if k.cfg.OnFail != nil {
		k.cfg.OnFail(ctx, err)
	}
}
