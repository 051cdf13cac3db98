package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/skerry-edge/skerry/api"
)

// frameOf stands for what the containers of a workload share: its volumes, its policy, their names. Another frame replaces all of a
// workload; within one, a container that differs is begun anew and the others run on, as a kubelet does it when an image is patched.
func frameOf(w *api.Workload) string {
	plain := api.Workload{Name: w.Name, Runtime: w.Runtime, Pod: w.Pod, Restart: w.Restart, Hostname: w.Hostname, Volumes: w.Volumes}
	for i := range w.Init {
		plain.Init = append(plain.Init, api.Container{Name: w.Init[i].Name})
	}
	for i := range w.Containers {
		plain.Containers = append(plain.Containers, api.Container{Name: w.Containers[i].Name})
	}
	return plain.Hash()
}

// formOf stands for a container as it is wanted. What is sealed is not in it: a container that runs has read that.
func formOf(c *api.Container) string {
	raw, err := json.Marshal(c)
	if err != nil {
		return "" // cannot be: no field of it has a form that JSON lacks
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// resealed reports whether two forms differ in nothing that a container which begins has to be begun anew for: what is sealed reaches its files
// afterwards, and its variables when it begins the next time.
func resealed(a, b *api.Workload) bool {
	if a == nil || b == nil || frameOf(a) != frameOf(b) {
		return false
	}
	same := func(a, b api.Container) bool { return formOf(&a) == formOf(&b) }
	return slices.EqualFunc(a.Init, b.Init, same) && slices.EqualFunc(a.Containers, b.Containers, same)
}

// renew takes on another form within the frame.
func (d *decision) renew() {
	known := d.mem.Hash == d.Hash
	if known && d.mem.Frame != "" {
		return
	}
	d.mem.Hash, d.mem.Frame = d.Hash, frameOf(d.Want)
	for _, list := range [][]api.Container{d.Want.Init, d.Want.Containers} {
		for i := range list {
			p := d.mem.Containers[list[i].Name]
			p.renew(formOf(&list[i]), known, d.Busy[ContainerID(d.Want.Name, list[i].Name, p.Run)] == Stop)
		}
	}
}

// renew compares the latest run with the form that is wanted. known says that it is of that form if nobody knows its own; stopping, that
// it is being stopped already.
func (p *Past) renew(form string, known, stopping bool) {
	switch {
	case p.Run == 0:
	case known && p.Form == "":
		p.Form = form
	case p.End == nil:
		p.Stale = p.Form != form || p.Stale && stopping
	case p.Form != form:
		p.Backoff = 0 // the failures were not this form's
	}
}

// stale tells whether a container runs that is to be begun anew.
func (m Memory) stale() bool {
	for _, p := range m.Containers {
		if p.Stale {
			return true
		}
	}
	return false
}

// anew forgets what was tried for another form. What was asked of containers within the frame stays: they may run on.
func (en *entry) anew() {
	en.outgrown = ""
	if en.want == nil || en.mem.Frame == "" || en.mem.Frame != frameOf(en.want) {
		clear(en.trials)
		return
	}
	for name, t := range en.trials {
		t.Failed = Failure{}
		en.trials[name] = t
	}
}
