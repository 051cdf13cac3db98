package command

import (
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// The first byte of a key in the plan says what is due; the rest is a command's id.
const (
	closeKey   = "c"
	deliverKey = "d"
	retireKey  = "r"
)

// admit puts an open entry, or a new version of one, in memory. Caller holds mu.
func (j *Journal) admit(e *entry) *openCommand {
	o := j.open[e.ID]
	if o == nil {
		o = &openCommand{}
		j.open[e.ID] = o
		if j.byNode[e.Node] == nil {
			j.byNode[e.Node] = make(map[string]*openCommand)
		}
		j.byNode[e.Node][e.ID] = o
		j.planFor(closeKey+e.ID, e.Deadline.Time().Add(j.cfg.Grace))
	}
	o.entry = *e
	return o
}

// planFor has Run do what key says at at, earlier than it meant to look if need be. Caller holds mu.
func (j *Journal) planFor(key string, at time.Time) {
	j.plan.Set(key, at)
	if first, _ := j.plan.Next(); first.Equal(at) {
		j.poke()
	}
}

// settle shows a committed entry: in memory, to watchers, in the numbers. It runs in the order of the commits.
func (j *Journal) settle(e *entry, what effect) {
	j.mu.Lock()
	defer j.mu.Unlock()
	wasOpen := j.open[e.ID] != nil
	switch {
	case !e.Final:
		o := j.admit(e)
		if e.Phase != api.PhaseQueued && e.Phase != api.PhaseDelivered {
			o.due = false
			j.plan.Remove(deliverKey + e.ID)
		}
	case wasOpen, what == ended:
		j.forget(e)
		j.stats.count(e.Phase)
		if e.Passing {
			break
		}
		j.finals++
		if j.finals > j.cfg.KeepFinals+j.cfg.KeepFinals/16 { // not for every single one
			j.planFor(retireKey, j.cfg.Now())
		}
	}
	if what == late {
		j.stats.Late++
	}
	j.feed.Publish(e.CommandRecord, false)
}

// forget takes an entry that became final out of memory. Caller holds mu.
func (j *Journal) forget(e *entry) {
	delete(j.open, e.ID)
	if of := j.byNode[e.Node]; of != nil {
		delete(of, e.ID)
		if len(of) == 0 {
			delete(j.byNode, e.Node)
		}
	}
	j.plan.Remove(closeKey + e.ID)
	j.plan.Remove(deliverKey + e.ID)
}

// lookup returns the newest committed entry of id.
func (j *Journal) lookup(id string) (e entry, found bool, err error) {
	j.mu.Lock()
	loaded, o := j.loaded, j.open[id]
	if o != nil {
		e = o.entry
	}
	j.mu.Unlock()
	if !loaded {
		return entry{}, false, ErrNotLoaded
	}
	if o != nil {
		return e, true, nil
	}
	err = j.cfg.DB.View(func(tx *bbolt.Tx) error {
		e, found, err = load(tx, id)
		return err
	})
	return e, found, err
}

// change applies f to the stored entry of id and returns what came of it. Nothing is written when f says so, or when
// there is no such entry.
func (j *Journal) change(id string, f func(e *entry) effect) (e entry, what effect, err error) {
	found := false
	err = j.group.Do(func(tx *bbolt.Tx) (err error) {
		if e, found, err = load(tx, id); err != nil || !found {
			what = ignored
			return err
		}
		if what = f(&e); what.writes() {
			return save(tx, &e)
		}
		return nil
	}, func() {
		if found && what.writes() {
			j.settle(&e, what)
		}
	})
	if err != nil {
		j.cfg.Log.Debug("command not journalled", agent.KeyCommand, id, agent.KeyErr, err)
		return entry{}, ignored, err
	}
	return e, what, nil
}
