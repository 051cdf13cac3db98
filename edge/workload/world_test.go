package workload_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
)

// world is a node in which everything may go wrong, without a clock or a goroutine: decisions are made by Decide, and what
// they come to happens whenever chance has it.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	boot  int
	want  *api.Workload
	flash workload.Memory // what a restart of the agent finds
	mem   workload.Memory
	seen  map[string]workload.Seen
	busy  map[string]workload.Action
	tries map[string]workload.Trial
	began map[string]int           // starts by ID since the files were last removed
	forms map[string]*api.Workload // what each was begun for
	noted *api.Workload            // the latest of those
	calm  bool
	trace []string

	hashes map[*api.Workload]string
}

// hash is that of a form, found once.
func (w *world) hash(form *api.Workload) string {
	if w.hashes[form] == "" {
		w.hashes[form] = form.Hash()
	}
	return w.hashes[form]
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.trace[max(0, len(w.trace)-40):] {
		w.t.Log(line)
	}
	w.t.Fatalf(format, args...)
}

// decide makes one decision and takes its actions up.
func (w *world) decide() workload.Verdict {
	in := workload.Input{Now: w.now, Boot: fmt.Sprint(w.boot), Want: w.want, Runtime: "process", Memory: w.mem, Trials: w.tries, Busy: map[string]workload.Deed{}}
	if w.want != nil {
		in.Hash = w.hash(w.want)
	}
	for _, id := range slices.Sorted(maps.Keys(w.seen)) {
		in.Seen = append(in.Seen, w.seen[id])
	}
	for id, a := range w.busy {
		in.Busy[id] = a.Deed
	}
	for id := range w.seen {
		_, name, run, _ := workload.ParseContainerID(id)
		in.Unsure = in.Unsure || w.mem.Containers[name] != nil && run > w.mem.Containers[name].Run && w.noted != w.want
	}
	before := len(in.Memory.Containers)
	pasts := map[string]workload.Past{}
	for name, p := range in.Memory.Containers {
		pasts[name] = *p
	}
	v := workload.Decide(in)
	for name, p := range in.Memory.Containers {
		if *p != pasts[name] || before != len(in.Memory.Containers) {
			w.fail("a decision changed what it was given: %+v, before %+v", *p, pasts[name])
		}
	}
	w.mem = v.Memory
	if w.calm || w.rng.IntN(10) > 0 { // else flash is full
		w.flash = v.Memory
	}
	for _, a := range v.Actions {
		if _, taken := w.busy[a.ID]; taken {
			continue
		}
		if a.Deed == workload.Stop && w.want != nil && !w.want.Draining && in.Hash == in.Memory.Hash && w.mem.Containers[a.Container].Run == a.Run &&
			!(a.Container == "c0" && w.mem.Containers["c0"].Stale) { // it alone differs between two forms of one frame
			w.fail("%s is stopped though nobody wants that", a.ID)
		}
		w.say("%v of %s", a.Deed, a.ID)
		w.busy[a.ID] = a
		if a.Deed == workload.Begin {
			w.forms[a.ID] = w.want
		}
	}
	return v
}

// perform has one action that was begun come to its end.
func (w *world) perform(a workload.Action) {
	delete(w.busy, a.ID)
	s, there := w.seen[a.ID]
	switch a.Deed {
	case workload.Begin:
		if !w.calm && w.rng.IntN(4) == 0 {
			w.tries[a.Container] = workload.Trial{Run: a.Run, Failed: workload.Failure{Reason: "ErrImagePull", At: w.now, Wait: 10 * time.Second}}
			w.say("begin of %s fails", a.ID)
			return
		}
		for id, other := range w.seen {
			if _, name, _, _ := workload.ParseContainerID(id); name == a.Container && other.Running && id != a.ID {
				w.fail("%s is begun while %s runs", a.ID, id)
			}
		}
		if there && s.Running {
			return
		}
		if w.began[a.ID]++; w.began[a.ID] > 1 {
			w.fail("%s is begun %d times", a.ID, w.began[a.ID])
		}
		w.noted = w.forms[a.ID]
		w.seen[a.ID] = workload.Seen{Runtime: "process", Observed: workload.Observed{ID: a.ID, Workload: "w", Running: true, Started: w.now}}
		if p := w.mem.Containers[a.Container]; p != nil && p.Run == a.Run {
			own := *p
			own.Begun = true
			w.mem.Containers = maps.Clone(w.mem.Containers)
			w.mem.Containers[a.Container] = &own
		}
	case workload.Stop:
		if there && s.Running {
			w.end(a.ID, 143)
		}
	case workload.Remove:
		if there && s.Running {
			w.fail("%s is removed while it runs", a.ID)
		}
		delete(w.seen, a.ID)
	case workload.Clean:
		if len(w.seen) > 0 {
			w.fail("files are removed under %v", slices.Collect(maps.Keys(w.seen)))
		}
		w.mem, w.flash = workload.Memory{}, workload.Memory{}
		clear(w.began)
		clear(w.tries)
	}
}

func (w *world) end(id string, exit int) {
	s := w.seen[id]
	s.Running, s.Exit, s.Finished = false, exit, w.now
	w.seen[id] = s
}

// chance has something happen.
func (w *world) chance(forms []*api.Workload) {
	ids := slices.Sorted(maps.Keys(w.seen))
	switch w.rng.IntN(12) {
	case 0:
		w.want = forms[w.rng.IntN(len(forms))]
		w.say("wanted: form %d", slices.Index(forms, w.want))
	case 1, 2:
		w.now = w.now.Add(time.Duration(w.rng.IntN(400)) * time.Second)
	case 3:
		w.now = w.now.Add(-time.Duration(w.rng.IntN(100)) * time.Second) // a clock that is set back
	case 4, 5:
		if len(ids) > 0 {
			if id := ids[w.rng.IntN(len(ids))]; w.seen[id].Running {
				w.end(id, w.rng.IntN(3))
				w.say("%s ends", id)
			}
		}
	case 6: // the agent is killed, and with it what it was about to do
		w.mem = w.flash
		clear(w.busy)
		clear(w.tries)
		w.say("the agent is killed")
	case 7:
		if w.rng.IntN(3) == 0 {
			w.boot++
			for id, s := range w.seen {
				if s.Running {
					w.end(id, 0)
					s = w.seen[id]
					s.Unknown = true
					w.seen[id] = s
				}
			}
			w.mem = w.flash
			clear(w.busy)
			clear(w.tries)
			w.say("the machine reboots")
		}
	default:
		for _, id := range slices.Sorted(maps.Keys(w.busy)) {
			if w.rng.IntN(2) == 0 {
				w.perform(w.busy[id])
			}
		}
	}
}

func TestAnyWorldBecomesAsItIsWantedAndStartsNothingTwice(t *testing.T) {
	form := func(change func(w *api.Workload)) *api.Workload {
		w := pod("w", "serve", "serve")
		w.Init = []api.Container{{Name: "first", Image: image}}
		change(&w)
		return &w
	}
	forms := []*api.Workload{nil, form(func(*api.Workload) {}), form(func(w *api.Workload) { w.Containers[0].Args = []string{"other"} }),
		form(func(w *api.Workload) { w.Draining = true }), form(func(w *api.Workload) { w.Init = nil }), form(func(w *api.Workload) { w.Restart = api.RestartNever })}
	hashes := map[*api.Workload]string{}
	for seed := range uint64(400) {
		w := &world{t: t, hashes: hashes, rng: rand.New(rand.NewPCG(seed, 7)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), want: forms[1], seen: map[string]workload.Seen{},
			busy: map[string]workload.Action{}, tries: map[string]workload.Trial{}, began: map[string]int{}, forms: map[string]*api.Workload{}}
		w.say("seed %d", seed)
		for range 60 {
			w.decide()
			w.chance(forms)
		}
		w.calm = true
		w.settle()
	}
}

// settle lets a world come to rest, and checks that it is as it is wanted.
func (w *world) settle() {
	w.t.Helper()
	var v workload.Verdict
	for range 60 {
		v = w.decide()
		for _, id := range slices.Sorted(maps.Keys(w.busy)) {
			w.perform(w.busy[id])
		}
		for id, s := range w.seen { // what comes first ends by itself
			if _, name, _, _ := workload.ParseContainerID(id); name == "first" && s.Running {
				w.end(id, 0)
			}
		}
		w.now = w.now.Add(time.Minute)
	}
	running := map[string]int{}
	for id, s := range w.seen {
		if _, name, _, _ := workload.ParseContainerID(id); s.Running {
			running[name]++
			if name == "c0" && w.want != nil && !slices.Equal(w.forms[id].Containers[0].Args, w.want.Containers[0].Args) {
				w.fail("%s runs what is not wanted any more", id)
			}
		}
	}
	switch {
	case w.want == nil:
		if !v.Gone || len(w.seen) > 0 {
			w.fail("nothing is wanted; gone: %t, left %v", v.Gone, w.seen)
		}
	case w.want.Draining:
		if len(running) > 0 || v.Status.State != api.WorkloadFailed && v.Status.State != api.WorkloadSucceeded {
			w.fail("draining; running %v, %+v", running, v.Status)
		}
	case w.want.Restart == api.RestartNever:
		if s := v.Status.State; s == api.WorkloadPending || s == api.WorkloadRejected {
			w.fail("run once: %+v", v.Status)
		}
	default:
		if running["c0"] != 1 || running["c1"] != 1 || len(running) != 2 || v.Status.State != api.WorkloadRunning || !v.Status.Ready || v.Status.Hash != w.want.Hash() {
			w.fail("wanted; running %v, %+v", running, v.Status)
		}
	}
	if len(v.Actions) > 0 {
		w.fail("it does not come to rest: %+v", v.Actions)
	}
}
