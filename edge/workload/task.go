package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// work is a deed under way, or done and waited for to show in a listing.
type work struct {
	deed    Deed
	runtime string
	cancel  context.CancelFunc
	stopBy  time.Time // of a Stop: when it kills
	done    bool
	need    uint64 // number of the listing that shows what came of it
}

// do has a deed done beside the loop, so that a runtime that hangs holds up nothing but the container it hangs on.
func (e *Engine) do(ctx context.Context, en *entry, a Action) {
	if w := en.busy[a.ID]; w != nil {
		if a.Deed == Stop && w.deed == Stop && !w.done && w.stopBy.After(e.cfg.Now().Add(a.Grace+time.Second)) {
			w.cancel() // there is less time than was thought: it is stopped anew
		}
		return
	}
	life := ctx
	ctx, cancel := context.WithCancel(ctx)
	w := &work{deed: a.Deed, runtime: a.Runtime, cancel: cancel, stopBy: e.cfg.Now().Add(a.Grace)}
	en.busy[a.ID] = w
	var task func(context.Context) outcome
	switch a.Deed {
	case Begin:
		en.laid = "" // it lays the files of its form, which may not be the one that is wanted by then
		r := run{want: en.want, spec: spec(en.want, a.Container), n: a.Run}
		rt := e.sources[a.Runtime].rt
		task = func(ctx context.Context) outcome { return e.begin(ctx, rt, r) }
	case Stop:
		rt := e.sources[a.Runtime].rt
		task = func(ctx context.Context) outcome { return outcome{err: e.stop(ctx, rt, a)} }
	case Remove:
		rt := e.sources[a.Runtime].rt
		task = func(ctx context.Context) outcome { return outcome{err: rt.Remove(ctx, a.ID)} }
	case Clean:
		task = func(context.Context) outcome { return outcome{err: e.maker.places.clean(en.name)} }
	}
	hash := en.hash
	e.wg.Go(func() {
		defer cancel()
		out := task(ctx)
		e.post(life, func() { e.finished(en, a, out, hash) })
	})
}

// outcome is what came of a deed.
type outcome struct {
	err    error
	reason string // of a Begin that failed
	image  string // digest
	begun  bool
	move   string // the runtime that the image needs
}

// finished takes in what came of a deed. hash is of the form that was wanted when it began.
func (e *Engine) finished(en *entry, a Action, out outcome, hash string) {
	w := en.busy[a.ID]
	if a.Deed == Clean {
		e.cleaned(en, out.err)
		return
	}
	w.done, w.need = true, e.sources[a.Runtime].ask()
	t := en.trials[a.Container]
	if t.Run != a.Run {
		t = Trial{Run: a.Run, Failed: t.Failed}
	}
	switch {
	case a.Deed == Begin && hash == en.hash && out.move != "" && en.move(out.move):
		t.Failed = Failure{}
	case a.Deed == Begin && hash == en.hash:
		e.begunOrNot(en, a, out, &t)
	case a.Deed == Begin, out.err == nil, errors.Is(out.err, context.Canceled):
		t.Stuck = Failure{}
	default:
		t.Stuck = Failure{Message: out.err.Error(), At: e.cfg.Now(), Wait: lengthened(t.Stuck.Wait)}
		e.cfg.Log.Warn("container is not stopped or removed; trying again", keyWorkload, en.name, keyContainer, a.Container, agent.KeyErr, out.err)
	}
	en.trials[a.Container] = t
}

func (e *Engine) begunOrNot(en *entry, a Action, out outcome, t *Trial) {
	p := en.mem.Containers[a.Container]
	if out.begun && p != nil && p.Run == a.Run {
		p.Begun, p.Image, en.kept = true, out.image, false
	}
	switch {
	case out.err == nil:
		t.Failed = Failure{}
	case errors.Is(out.err, context.Canceled):
	default:
		t.Failed = Failure{Reason: out.reason, Message: brief(out.err.Error()), At: e.cfg.Now(), Wait: lengthened(t.Failed.Wait)}
		e.cfg.Log.Info("container is not begun; trying again", keyWorkload, en.name, keyContainer, a.Container, agent.KeyReason, out.reason,
			agent.KeyErr, out.err, agent.KeyWait, t.Failed.Wait)
	}
}

// cleaned ends a workload of which nothing is left, or lets its next form begin.
func (e *Engine) cleaned(en *entry, err error) {
	delete(en.busy, "")
	if err != nil {
		t := en.trials[""]
		t.Stuck = Failure{Message: err.Error(), At: e.cfg.Now(), Wait: lengthened(t.Stuck.Wait)}
		en.trials[""] = t
		e.cfg.Log.Warn("files of a workload are not removed; trying again", keyWorkload, en.name, agent.KeyErr, err)
		return
	}
	if s := e.sources[en.mem.Runtime]; s != nil {
		s.unused = true
	}
	en.mem, en.kept, en.laid = Memory{}, false, ""
	clear(en.trials)
}

// begin makes the image present, and what the container needs, and starts it.
func (e *Engine) begin(ctx context.Context, rt Runtime, r run) (out outcome) {
	c := r.spec
	digest, err := e.pull(ctx, rt, c)
	if err != nil {
		out.err, out.reason = err, reasonPull
		if c.Pull == api.PullNever && errors.Is(err, ErrNoImage) {
			out.reason, out.err = reasonNever, fmt.Errorf("container image %q is not present with pull policy of Never", c.Image)
		}
		return out
	}
	r.image, out.image = digest, digest
	if out.move = e.moves(rt, r.want, digest); out.move != "" {
		out.err, out.reason = fmt.Errorf("the image needs runtime %s, and another container of the workload has begun under %s; wanted workloads of one runtime",
			out.move, rt.Name()), reasonConfig
		return out
	}
	if what := commands(c); what != "" && !rt.Can().Exec {
		out.err, out.reason = fmt.Errorf("%s: exec: %w: runtime %s runs no commands in a container", what, ErrUnable, rt.Name()), reasonConfig
		return out
	}
	made, err := e.maker.make(r)
	if err != nil {
		out.err, out.reason = err, reasonConfig
		return out
	}
	if err := e.maker.places.forget(r.want.Name, c.Name, r.n); err != nil {
		e.cfg.Log.Warn("logs of earlier runs are not removed", keyWorkload, r.want.Name, keyContainer, c.Name, agent.KeyErr, err)
	}
	e.noteForm(r.want)
	if err := rt.Start(ctx, made); err != nil {
		out.err, out.reason = err, reasonRun
		if errors.Is(err, ErrBadContainer) {
			out.reason = reasonConfig
		}
		return out
	}
	out.begun = true
	if c.PostStart != nil {
		if err := e.ask(ctx, rt, made.ID, *c.PostStart); err != nil && ctx.Err() == nil {
			e.cfg.Log.Info("postStart failed; the container is stopped", keyWorkload, r.want.Name, keyContainer, c.Name, agent.KeyErr, err)
			out.err = rt.Stop(ctx, made.ID, time.Duration(r.want.GraceSeconds)*time.Second)
			out.reason = reasonRun
		}
	}
	return out
}

// moves names the runtime that a workload which names none has to have by its image; "" when it has it.
func (e *Engine) moves(rt Runtime, w *api.Workload, digest string) string {
	if w.Runtime != "" || e.cfg.Needed == nil {
		return ""
	}
	name := e.cfg.Needed(digest)
	if name == rt.Name() || e.sources[name] == nil { // without one, the runtime says what is wrong
		return ""
	}
	return name
}

// move takes a workload to another runtime, unless one of its containers has begun.
func (en *entry) move(to string) bool {
	for _, p := range en.mem.Containers {
		if p.Begun && en.mem.Runtime != to {
			return false
		}
	}
	en.mem.Runtime, en.kept = to, false
	return true
}

// commands names the first hook or check of a container that is a command; "" when there is none.
func commands(c *api.Container) string {
	for _, hook := range []struct {
		name   string
		action *api.HealthAction
	}{{"preStop", c.PreStop}, {"postStart", c.PostStart}} {
		if hook.action != nil && len(hook.action.Exec) > 0 {
			return hook.name
		}
	}
	for _, check := range []struct {
		name  string
		check *api.HealthCheck
	}{{"startup", c.Startup}, {"liveness", c.Liveness}, {"readiness", c.Readiness}} {
		if check.check != nil && len(check.check.Exec) > 0 {
			return check.name
		}
	}
	return ""
}

// pull makes an image present. A node that reaches nobody starts from the image it has, even where a newer one was to be asked
// for.
func (e *Engine) pull(ctx context.Context, rt Runtime, c *api.Container) (string, error) {
	policy := c.Pull
	if policy == "" {
		policy = api.PullMissing
	}
	digest, err := rt.Pull(ctx, c.Image, policy, nil)
	if err == nil || policy != api.PullAlways || ctx.Err() != nil || errors.Is(err, ErrNoImage) || errors.Is(err, ErrBadImage) {
		return digest, err
	}
	have, missing := rt.Pull(ctx, c.Image, api.PullNever, nil)
	if missing != nil {
		return "", err
	}
	e.cfg.Log.Info("a newer image could not be asked for; the present one is used", keyContainer, c.Name, agent.KeyErr, err)
	return have, nil
}

// leastGrace is what a container has after its preStop, however long that took.
const leastGrace = 2 * time.Second

// stop ends a container with its grace.
func (e *Engine) stop(ctx context.Context, rt Runtime, a Action) error {
	grace := a.Grace
	if a.PreStop != nil {
		began := time.Now()
		hook, cancel := context.WithTimeout(ctx, grace)
		err := e.ask(hook, rt, a.ID, *a.PreStop)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			e.cfg.Log.Info("preStop failed; the container is stopped all the same", keyContainer, a.Container, agent.KeyErr, err)
		}
		grace = max(grace-time.Since(began), leastGrace)
	}
	return rt.Stop(ctx, a.ID, grace)
}
