package workload

import (
	"fmt"
	"reflect"

	"github.com/skerry-edge/skerry/api"
)

// shown is what others are told of: the loop makes it anew, nobody changes it.
type shown struct {
	statuses []api.WorkloadStatus
	places   map[string]standing // by workload
}

// standing is where the containers of a workload are.
type standing struct {
	runtime string
	runs    map[string]latest // by container
}

// latest is the latest run of a container.
type latest struct {
	run     int
	running bool
	waiting string // why there is none yet
}

// show publishes how things stand.
func (e *Engine) show(verdicts map[string]Verdict, seen map[string][]Seen) {
	next := shown{statuses: make([]api.WorkloadStatus, 0, len(e.order)), places: map[string]standing{}}
	blind := false
	for _, name := range e.order {
		en := e.entries[name]
		if v, ok := verdicts[name]; ok {
			next.statuses = append(next.statuses, *v.Status)
			next.places[name] = place(en, v.Status, seen[name])
			continue
		}
		s := unknown(en, e.sources)
		blind = blind || s.State == api.WorkloadPending
		next.statuses = append(next.statuses, s)
	}
	e.mu.Lock()
	same := reflect.DeepEqual(next.statuses, e.shown.statuses)
	e.shown = next
	e.mu.Unlock()
	if !same {
		e.cfg.OnChange()
	}
	if !blind && (e.told || e.heard()) {
		e.open()
	}
}

// heard tells whether every runtime has told what it has.
func (e *Engine) heard() bool {
	for _, s := range e.sources {
		if !s.known {
			return false
		}
	}
	return true
}

// unknown is the status of a workload that cannot be decided about.
func unknown(en *entry, sources map[string]*source) api.WorkloadStatus {
	runtime := en.mem.Runtime
	if runtime == "" {
		runtime = en.runtime
	}
	s := api.WorkloadStatus{Name: en.name, Hash: en.hash, Runtime: runtime, State: api.WorkloadPending, Reason: "RuntimeSilent",
		Message: "the runtime " + runtime + " has not told which containers it has"}
	if sources[runtime] == nil {
		s.State, s.Reason, s.Message = api.WorkloadRejected, "NoRuntime", "the runtime "+runtime+", which ran it, is not there any more"
	}
	return s
}

func place(en *entry, s *api.WorkloadStatus, seen []Seen) standing {
	out := standing{runtime: en.mem.Runtime, runs: map[string]latest{}}
	for _, c := range s.Containers {
		p := en.mem.Containers[c.Name]
		if p == nil {
			continue
		}
		l := latest{run: p.Run}
		if !p.Begun {
			l.waiting = c.Reason
		}
		for _, o := range seen {
			l.running = l.running || o.Running && o.ID == ContainerID(en.name, c.Name, p.Run)
		}
		out.runs[c.Name] = l
	}
	return out
}

// Status tells how each wanted workload stands, in the order in which they are wanted. It is the caller's, but for what it
// points to.
func (e *Engine) Status() []api.WorkloadStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]api.WorkloadStatus{}, e.shown.statuses...)
}

// find returns where a container is. An empty name is that of the only container.
func (e *Engine) find(workload, container string) (standing, string, latest, error) {
	e.mu.Lock()
	at, ok := e.shown.places[workload]
	e.mu.Unlock()
	if !ok {
		return at, "", latest{}, fmt.Errorf("this node has no workload %.80q", workload)
	}
	if container == "" && len(at.runs) == 1 {
		for name := range at.runs {
			container = name
		}
	}
	l, ok := at.runs[container]
	if !ok {
		return at, "", latest{}, fmt.Errorf("workload %s has no container %.80q", workload, container)
	}
	return at, container, l, nil
}
