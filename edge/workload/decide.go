package workload

import (
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Deed is what is done to a container.
type Deed uint8

// The deeds.
const (
	Begin  Deed = iota + 1 // pull, prepare and start
	Stop                   // with grace
	Remove                 // forget one that has ended
	Clean                  // remove what the workload has on disk; of the whole workload
	Lay                    // the files of volumes anew, under what runs; of the whole workload
)

// Action is one deed to be done. Actions of one container come one at a time.
type Action struct {
	Deed      Deed
	Runtime   string
	ID        string // of the container, empty for Clean
	Container string // its name
	Run       int
	Grace     time.Duration     // of a Stop
	PreStop   *api.HealthAction // of a Stop; nil: none
}

// Seen is a container that a runtime listed.
type Seen struct {
	Observed
	Runtime string
	// Left is the message that it left when it ended.
	Left string
}

// Input is all that a decision about one workload depends on.
type Input struct {
	Now     time.Time
	Boot    string        // kernel's boot id
	Want    *api.Workload // nil: it is no longer wanted
	Hash    string        // of Want
	Refuse  *Refusal      // why this node will not run Want; nil: it will
	Runtime string        // that runs Want when it is taken on
	Memory  Memory
	Seen    []Seen
	Trials  map[string]Trial // by container
	Busy    map[string]Deed  // by container's ID, "" for the workload: what is being done
	Hold    bool             // nothing is to be begun now
	Unsure  bool             // a run that Memory lacks may be of another form than Want
	// Outgrown says which volume has become larger than it may; "": none.
	Outgrown string
}

// Verdict is what a decision comes to. Memory has to be kept before Actions are done.
type Verdict struct {
	Memory  Memory
	Actions []Action
	Status  *api.WorkloadStatus // nil: nothing is to be told
	Watch   []Watch
	Wake    time.Duration // look again after that; 0: not before something changes
	Gone    bool          // nothing is left of it
}

// Watch is a running container whose checks are to be made.
type Watch struct {
	ID        string
	Run       int
	Runtime   string
	Container *api.Container
	Started   time.Time
	Up        bool // the startup check has passed before
}

// Refusal is why a node will not run a workload.
type Refusal struct {
	Reason  string
	Message string
}

// decision is one being made.
type decision struct {
	Input
	mem Memory
	out Verdict
}

// Decide compares what is wanted of one workload with what there is. It is a function of its argument alone, and changes
// nothing of it.
func Decide(in Input) Verdict {
	d := &decision{Input: in, mem: in.Memory.clone()}
	switch {
	case in.Want == nil:
		d.clear()
	case in.Refuse != nil:
		d.clear()
		d.out.Status = &api.WorkloadStatus{Name: in.Want.Name, State: api.WorkloadRejected, Reason: in.Refuse.Reason, Message: in.Refuse.Message, Hash: in.Hash}
	case in.Busy[""] != 0, d.mem.Hash != "" && d.mem.Hash != in.Hash && !in.Want.Draining && d.mem.Frame != frameOf(in.Want): // files that are being removed are not to be used
		d.clear()
		d.out.Gone = false
		d.out.Status = &api.WorkloadStatus{Name: in.Want.Name, State: api.WorkloadPending, Hash: in.Hash, Runtime: d.mem.Runtime,
			Reason: "Replacing", Message: "what ran under this name before is being stopped"}
	default:
		d.run()
	}
	d.out.Memory = d.mem
	return d.out
}

// clear stops and removes everything.
func (d *decision) clear() {
	for _, s := range d.Seen {
		d.end(s)
	}
	if len(d.Seen) > 0 || len(d.Busy) > 0 {
		return
	}
	if d.mem.Hash == "" {
		d.out.Gone = true
		return
	}
	if t := d.Trials[""]; t.Stuck.left(d.Now) > 0 {
		d.wake(t.Stuck.left(d.Now))
		return
	}
	d.act(Action{Deed: Clean})
}

// end stops a container that runs, and removes one that does not.
func (d *decision) end(s Seen) {
	_, name, run, _ := ParseContainerID(s.ID)
	if t := d.Trials[name]; t.Run == run && t.Stuck.left(d.Now) > 0 {
		d.wake(t.Stuck.left(d.Now))
		return
	}
	a := Action{Deed: Remove, Runtime: s.Runtime, ID: s.ID, Container: name, Run: run}
	if s.Running {
		a.Deed, a.Grace = Stop, time.Duration(d.mem.Grace)*time.Second
		if p := d.mem.Containers[name]; p != nil && a.Grace > 0 {
			a.PreStop = p.PreStop
		}
	}
	d.act(a)
}

// act has a done unless something is being done there already. A stop may be asked for again: with a shorter grace it counts.
func (d *decision) act(a Action) {
	if busy, ok := d.Busy[a.ID]; ok && (busy != Stop || a.Deed != Stop) {
		return
	}
	d.out.Actions = append(d.out.Actions, a)
}

func (d *decision) wake(after time.Duration) {
	if d.out.Wake == 0 || after < d.out.Wake {
		d.out.Wake = max(after, time.Millisecond)
	}
}

// run has the workload be as it is wanted.
func (d *decision) run() {
	w := d.Want
	if d.mem.Hash == "" {
		d.mem = Memory{Hash: d.Hash, Runtime: d.Runtime, Taken: api.At(d.Now), Boot: d.Boot, Frame: frameOf(w), Containers: map[string]*Past{}}
	}
	d.mem.Grace = w.GraceSeconds
	for _, list := range [][]api.Container{w.Init, w.Containers} {
		for i := range list {
			p := d.mem.Containers[list[i].Name]
			if p == nil {
				p = &Past{}
				d.mem.Containers[list[i].Name] = p
			}
			p.PreStop = list[i].PreStop
		}
	}
	if !w.Draining { // what it was stays remembered until its end
		d.renew()
	}
	seen := d.observe()
	d.limit()
	d.evict()
	over := w.Draining || d.mem.Failed != ""
	if over {
		for _, s := range seen {
			if s.Running {
				d.end(s)
			}
		}
	} else {
		d.rebooted(seen)
		d.advance(seen)
	}
	d.mem.Boot = d.Boot
	d.out.Status = d.status(seen, over)
}

// limit ends a workload that has run for as long as it may.
func (d *decision) limit() {
	if d.Want.LimitSeconds == 0 || d.mem.Failed != "" || d.done() {
		return
	}
	rest := left(d.Now, d.mem.Taken.Time(), time.Duration(d.Want.LimitSeconds)*time.Second)
	if d.Now.Before(d.mem.Taken.Time()) { // the clock was set back
		rest = time.Duration(d.Want.LimitSeconds) * time.Second
	}
	if rest > 0 {
		d.wake(rest)
		return
	}
	d.mem.Failed, d.mem.Message = "DeadlineExceeded", "it was active on the node longer than the specified deadline"
}

// rebooted has the containers that come first run again when the others have to after a reboot: what they prepared may be gone.
func (d *decision) rebooted(seen map[string]Seen) {
	if d.mem.Boot == d.Boot || d.done() {
		return
	}
	for i := range d.Want.Containers {
		if seen[d.Want.Containers[i].Name].Running {
			return // not by this reboot
		}
	}
	for i := range d.Want.Init {
		if p := d.mem.Containers[d.Want.Init[i].Name]; p.End != nil && p.End.Exit == 0 {
			p.again(d.Now)
		}
	}
	for _, p := range d.mem.Containers {
		p.Backoff = 0 // it was not theirs
	}
}

// advance begins what is to be begun next.
func (d *decision) advance(seen map[string]Seen) {
	for i := range d.Want.Init {
		c := &d.Want.Init[i]
		if p := d.mem.Containers[c.Name]; p.End == nil || p.End.Exit != 0 {
			d.keep(c, true, seen)
			return
		}
	}
	for i := range d.Want.Containers {
		d.keep(&d.Want.Containers[i], false, seen)
	}
}

// keep has one container run, or run again.
func (d *decision) keep(c *api.Container, first bool, seen map[string]Seen) {
	p, t := d.mem.Containers[c.Name], d.Trials[c.Name]
	s, there := seen[c.Name]
	if there && s.Running {
		if p.Stale || t.Run == p.Run && t.Sick != "" {
			d.end(s)
			return
		}
		d.out.Watch = append(d.out.Watch, Watch{ID: s.ID, Run: p.Run, Runtime: s.Runtime, Container: c, Started: s.Started, Up: p.Up})
		return
	}
	if p.End != nil && !p.Stale {
		if !again(d.Want.Restart, first, p.End) {
			return
		}
		if wait := p.wait(d.Now); wait > 0 {
			d.wake(wait)
			return
		}
	}
	if d.Hold || d.mem.Runtime == "" {
		return
	}
	if wait := t.Failed.left(d.Now); p.End == nil && wait > 0 {
		d.wake(wait)
		return
	}
	if d.Busy[ContainerID(d.Want.Name, c.Name, p.Run)] != 0 {
		return
	}
	if p.End != nil {
		p.again(d.Now)
	}
	p.Run, p.Form, p.Stale = max(p.Run, 1), formOf(c), false
	d.act(Action{Deed: Begin, Runtime: d.mem.Runtime, ID: ContainerID(d.Want.Name, c.Name, p.Run), Container: c.Name, Run: p.Run})
}
