package workload

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// The keys of the log lines of this package.
const (
	keyWorkload  = "workload"
	keyContainer = "container"
	keyRuntime   = "runtime"
)

const (
	lookEvery   = time.Minute      // at least
	retryKeep   = 10 * time.Second // after what could not be written down
	orphanGrace = 30               // seconds, of what nobody remembers
)

// look decides about every workload and has done what comes of it. It returns how soon to look again.
func (e *Engine) look(ctx context.Context) time.Duration {
	if e.told {
		e.adopt()
	}
	seen, wake := e.seen(), lookEvery
	verdicts := map[string]Verdict{}
	changed := map[string]*Memory{}
	for name, en := range e.entries {
		if !e.told || !e.informed(en) {
			continue
		}
		v := Decide(e.input(en, seen[name]))
		if was := en.mem.Hash; was != "" && v.Memory.Hash != was && en.want != nil && v.Memory.Hash == en.hash && !v.Memory.stale() {
			e.noteForm(en.want) // nothing begins that would do it
		}
		if !reflect.DeepEqual(v.Memory, en.mem) || !en.kept {
			en.mem, en.kept = v.Memory, false
			changed[name] = &en.mem
		}
		verdicts[name] = v
		if v.Wake > 0 {
			wake = min(wake, v.Wake)
		}
	}
	if e.keep(changed); e.unkept {
		wake = min(wake, retryKeep)
	}
	for name, v := range verdicts {
		en := e.entries[name]
		for _, a := range v.Actions {
			if a.Deed == Remove && !en.kept {
				continue // how it ended is nowhere else yet
			}
			e.do(ctx, en, a)
		}
		e.lay(ctx, en)
		if v.Gone && en.want == nil && len(en.busy) == 0 {
			delete(e.entries, name)
		}
	}
	e.watch(ctx, verdicts)
	e.show(verdicts, seen)
	return min(wake, e.measure(ctx))
}

// informed tells whether enough is known to decide about a workload: what the runtime that has it says.
func (e *Engine) informed(en *entry) bool {
	name := en.mem.Runtime
	if name == "" {
		name = en.runtime
	}
	if name == "" {
		return true // refused
	}
	s := e.sources[name]
	return s != nil && s.known
}

func (e *Engine) input(en *entry, seen []Seen) Input {
	in := Input{Now: e.cfg.Now(), Boot: e.cfg.Boot, Want: en.want, Hash: en.hash, Refuse: en.refuse, Runtime: en.runtime, Memory: en.mem, Seen: seen,
		Trials: en.trials, Busy: map[string]Deed{}, Outgrown: en.outgrown}
	for id, w := range en.busy {
		in.Busy[id] = w.deed
	}
	runtime := en.mem.Runtime
	if runtime == "" {
		runtime = en.runtime
	}
	in.Hold = runtime != "" && e.sources[runtime].collecting || en.busy[layID] != nil
	for i := range in.Seen {
		s := &in.Seen[i]
		_, name, run, _ := ParseContainerID(s.ID)
		p := en.mem.Containers[name]
		in.Unsure = in.Unsure || p != nil && run > p.Run && e.maker.places.form(en.name) != en.hash
		if s.Running || en.want == nil || p == nil || p.Run == run && p.End != nil {
			continue
		}
		if c := spec(en.want, name); c != nil {
			s.Left = e.maker.places.message(en.name, c, run, s.Exit != 0)
		}
	}
	return in
}

// spec is the container of a name, nil when there is none.
func spec(w *api.Workload, name string) *api.Container {
	for _, list := range [][]api.Container{w.Init, w.Containers} {
		if i := slices.IndexFunc(list, func(c api.Container) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// keep writes down what has changed. What cannot be written now goes on from memory, and is tried again.
func (e *Engine) keep(changed map[string]*Memory) {
	if len(changed) == 0 {
		return
	}
	if err := e.keeper.save(changed); err != nil {
		if !e.unkept {
			e.cfg.Log.Warn("how workloads stand is not kept; trying again", agent.KeyErr, err)
		}
		e.unkept = true
		return
	}
	e.unkept = false
	for name := range changed {
		e.entries[name].kept = true
	}
}
