package workload

import "github.com/skerry-edge/skerry/api"

// observe takes in what the runtimes tell, and returns the latest run of each container that is there, by name.
func (d *decision) observe() map[string]Seen {
	latest := map[string]Seen{}
	for _, s := range d.Seen {
		_, name, run, ok := ParseContainerID(s.ID)
		p := d.mem.Containers[name]
		if !ok || p == nil || s.Runtime != d.mem.Runtime || run < p.Run {
			continue
		}
		if run > p.Run { // begun by an agent that was killed before it could write that down
			if p.Run > 0 {
				p.Restarts += int32(run - p.Run)
				p.Last = p.End
			}
			p.Run, p.End, p.Up = run, nil, false
			p.Form, p.Stale = "?", d.Unsure
			if c := spec(d.Want, name); c != nil && !d.Unsure {
				p.Form = formOf(c)
			}
		}
		latest[name] = s
	}
	for name, p := range d.mem.Containers {
		s, there := latest[name]
		id := ContainerID(d.Want.Name, name, p.Run)
		if there && s.ID != id { // an older one than another that is there
			delete(latest, name)
			there = false
		}
		switch {
		case there:
			d.note(p, s)
		case p.Begun && p.End == nil && d.Busy[id] == 0:
			p.End = &api.Termination{Exit: exitUnknown, Reason: reasonUnknown, Message: "the container could not be found", ID: id, Started: p.Started, Finished: api.At(d.Now)}
		}
	}
	for _, s := range d.Seen {
		_, name, _, _ := ParseContainerID(s.ID)
		if kept, ok := latest[name]; !ok || kept.ID != s.ID || !s.Running {
			d.end(s) // what ended is in mem by now
		}
	}
	return latest
}

const (
	exitUnknown   = 137 // as a kubelet has it
	reasonUnknown = "ContainerStatusUnknown"
)

// note takes in how the latest run of a container stands.
func (d *decision) note(p *Past, s Seen) {
	p.Begun = true
	if s.Image != "" {
		p.Image = s.Image
	}
	if !s.Started.IsZero() {
		p.Started = api.At(s.Started)
	}
	if s.Running {
		p.End = nil
		_, name, run, _ := ParseContainerID(s.ID)
		if t := d.Trials[name]; t.Run == run && t.Up {
			p.Up = true
		}
		return
	}
	if p.End != nil {
		return
	}
	p.End = &api.Termination{Exit: s.Exit, Signal: s.Signal, Reason: "Completed", Message: s.Left, ID: s.ID, Started: p.Started, Finished: api.At(s.Finished)}
	if s.Finished.IsZero() {
		p.End.Finished = api.At(d.Now)
	}
	if p.End.Message == "" {
		p.End.Message = s.Message
	}
	switch {
	case s.Unknown:
		p.End.Reason = reasonUnknown
		if p.End.Exit == 0 {
			p.End.Exit = exitUnknown
		}
	case s.OOM:
		p.End.Reason = "OOMKilled"
	case s.Exit != 0 || s.Signal != 0:
		p.End.Reason = "Error"
	}
	if p.End.Exit == 0 && p.End.Reason != "Completed" {
		p.End.Exit = 128 + s.Signal
	}
	if _, name, run, _ := ParseContainerID(s.ID); p.End.Message == "" && d.Trials[name].Run == run {
		p.End.Message = d.Trials[name].Sick
	}
	p.End.Message = clip(p.End.Message, api.MaxTerminationBytes)
}
