package workload

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// The form that a workload runs in is also written beside its files: when what the node remembers was damaged and set aside, it tells
// whether what still runs is what is wanted.

func (p places) formFile(workload string) string { return filepath.Join(p.disk, workload, "form") }

// note writes the form down before a container of it begins.
func (p places) note(workload, hash string) error {
	path := p.formFile(workload)
	if p.form(workload) == hash {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // lest half of another form stay
		return err
	}
	return os.WriteFile(path, []byte(hash), 0o600)
}

// form reads it; empty when it is not known.
func (p places) form(workload string) string {
	raw, err := os.ReadFile(p.formFile(workload))
	if err != nil {
		return ""
	}
	return string(raw)
}

// recall makes a memory of a workload from the containers that a runtime has of it, and from the logs of those that it has no more.
// ok is false when they run another form than the one that is wanted, or one that is not known.
func (e *Engine) recall(en *entry, runtime string) (mem Memory, ok bool) {
	if en.want == nil || en.refuse != nil || e.maker.places.form(en.name) != en.hash {
		return Memory{}, false
	}
	now := api.At(e.cfg.Now())
	// No boot: where no main container runs, this may be another one, and what comes first has to run again.
	mem = Memory{Hash: en.hash, Runtime: runtime, Taken: now, Grace: en.want.GraceSeconds, Containers: map[string]*Past{}}
	for _, o := range e.sources[runtime].list {
		workload, name, run, valid := ParseContainerID(o.ID)
		if !valid || workload != en.name || spec(en.want, name) == nil {
			continue
		}
		if p := mem.Containers[name]; p == nil || p.Run < run {
			mem.Containers[name] = &Past{Run: run, Begun: true, Restarts: int32(max(run-1, 0)), Image: o.Image}
		}
	}
	for i := range en.want.Containers {
		name := en.want.Containers[i].Name
		if run := e.maker.places.lastRun(en.name, name); mem.Containers[name] == nil && run > 0 { // it ended, nobody knows how
			mem.Containers[name] = &Past{Run: run, Begun: true, Restarts: int32(run - 1)}
		}
	}
	var over []api.Container // that came first, and are over as a later one has begun
	for i := range en.want.Init {
		if mem.Containers[en.want.Init[i].Name] != nil {
			over = en.want.Init[:i]
		}
	}
	for i := range en.want.Containers {
		if mem.Containers[en.want.Containers[i].Name] != nil {
			over = en.want.Init
		}
	}
	for i := range over {
		if name := over[i].Name; mem.Containers[name] == nil {
			mem.Containers[name] = &Past{Run: 1, Begun: true, End: &api.Termination{Reason: "Completed", ID: ContainerID(en.name, name, 1), Finished: now}}
		}
	}
	return mem, true
}

// adopt makes entries of containers that nobody remembers. Those of a workload that is wanted in the form in which they run go on; all
// others are stopped, as nothing is known of them.
func (e *Engine) adopt() {
	for name, s := range e.sources {
		for _, o := range s.list {
			workload, _, _, ok := ParseContainerID(o.ID)
			if !ok {
				continue
			}
			en := e.entry(workload)
			if en.mem.Hash != "" || len(en.busy) > 0 {
				continue
			}
			en.kept = false
			if en.mem, ok = e.recall(en, name); ok {
				e.cfg.Log.Warn("containers are there of a workload that this node does not remember; they run what is wanted, and go on", keyWorkload, workload)
				continue
			}
			en.mem = Memory{Hash: "?", Runtime: name, Grace: orphanGrace, Containers: map[string]*Past{}}
			e.cfg.Log.Warn("containers are there of a workload that this node does not remember; they are stopped", keyWorkload, workload)
		}
	}
	for name, en := range e.entries { // what has ended is run no second time where it is to run once
		if s := e.sources[en.runtime]; s == nil || !s.known || en.mem.Hash != "" || len(en.busy) > 0 {
			continue
		}
		if mem, ok := e.recall(en, en.runtime); ok && len(mem.Containers) > 0 {
			en.mem, en.kept = mem, false
			e.cfg.Log.Warn("a workload has run that this node does not remember; it goes on", keyWorkload, name)
		}
	}
}

// noteForm notes the form of a workload whose container is to begin. Without it, damage costs a restart and no more.
func (e *Engine) noteForm(w *api.Workload) {
	if err := e.maker.places.note(w.Name, w.Hash()); err != nil {
		e.cfg.Log.Debug("form of a workload is not written down", keyWorkload, w.Name, agent.KeyErr, err)
	}
}
