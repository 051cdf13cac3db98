package command

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

var lookout = fleet{"n1": {{Name: "look", Safe: true}, {Name: "act"}}}

// prompt is a Deliverer whose node answers before Deliver returns to its caller.
type prompt struct {
	tape
	j       *Journal
	answers sync.WaitGroup
	errs    chan error
}

func (p *prompt) Deliver(ctx context.Context, node string, epoch uint64, cmd *api.Command) error {
	p.answers.Go(func() {
		p.errs <- p.j.OnStatus(node, &api.Status{ID: cmd.ID, Phase: api.PhaseSucceeded, Epoch: epoch, At: cmd.Issued})
	})
	return p.tape.Deliver(ctx, node, epoch, cmd)
}

func TestSafeCommandGoesOutWhileItIsJournalled(t *testing.T) {
	p := &prompt{errs: make(chan error, 1)}
	j := newJournal(t, Config{Nodes: lookout, Deliverer: p})
	p.j = j
	j.OnNodeUp("n1", 1, nil)
	onDisk := false
	rec := mustSubmit(t, j, Order{ID: "a", Verb: "look", Journalled: func(*bbolt.Tx) error {
		onDisk = len(p.ids()) == 1 // sent before it is written
		return nil
	}})
	if !onDisk {
		t.Error("it was not sent while it was journalled")
	}
	if rec.Phase != api.PhaseDelivered {
		t.Errorf("submitted as %s; wanted delivered", rec.Phase)
	}
	p.answers.Wait()
	if err := <-p.errs; err != nil {
		t.Fatal(err)
	}
	if rec := mustGet(t, j, "a"); rec.Phase != api.PhaseSucceeded {
		t.Fatalf("answer that came before the journal's end left it %s", rec.Phase)
	}
	j.turn(t.Context())
	if ids := p.ids(); len(ids) != 1 {
		t.Errorf("sent %v; wanted once", ids)
	}
	if ids := j.Acks("n1"); len(ids) != 1 {
		t.Errorf("acknowledged %v; wanted a", ids)
	}
}

func TestSafeCommandThatIsNotJournalledIsNobodys(t *testing.T) {
	p := &prompt{errs: make(chan error, 1)}
	j := newJournal(t, Config{Nodes: lookout, Deliverer: p})
	p.j = j
	j.OnNodeUp("n1", 1, nil)
	full := errors.New("disk is full")
	_, err := j.Submit(t.Context(), Order{ID: "a", Node: "n1", Verb: "look", Deadline: j.cfg.Now().Add(1e10),
		Journalled: func(*bbolt.Tx) error { return full }})
	wantErr(t, err, full)
	p.answers.Wait()
	if err := <-p.errs; err != nil {
		t.Fatalf("its answer: %v; wanted it acknowledged, so that the node forgets", err)
	}
	if _, found, err := j.Get("a"); found || err != nil {
		t.Fatalf("found %v, %v; wanted no record of what was refused", found, err)
	}
	if len(j.ahead) != 0 {
		t.Error("something is still thought to be on its way")
	}
}

func TestOnlySafeCommandsOvertakeTheDisk(t *testing.T) {
	d := &tape{}
	j := newJournal(t, Config{Nodes: lookout, Deliverer: d})
	mustSubmit(t, j, Order{ID: "away", Verb: "look"})
	if len(d.ids()) != 0 {
		t.Fatal("sent to a node that is not connected")
	}
	j.OnNodeUp("n1", 1, nil)
	mustSubmit(t, j, Order{ID: "behind", Verb: "look"})
	if len(d.ids()) != 0 {
		t.Fatal("overtook what the node is still owed")
	}
	j.turn(t.Context())
	mustSubmit(t, j, Order{ID: "careful", Verb: "act", Journalled: func(*bbolt.Tx) error {
		if len(d.ids()) != 2 {
			t.Errorf("sent %v before it was journalled", d.ids())
		}
		return nil
	}})
	j.turn(t.Context())
	if ids := d.ids(); len(ids) != 3 {
		t.Fatalf("sent %v", ids)
	}
}

func TestSafeCommandSentToAnEarlierSessionGoesOutAgain(t *testing.T) {
	d := &tape{}
	j := newJournal(t, Config{Nodes: lookout, Deliverer: d})
	j.OnNodeUp("n1", 1, nil)
	mustSubmit(t, j, Order{ID: "a", Verb: "look", Journalled: func(*bbolt.Tx) error {
		j.OnNodeUp("n1", 2, nil) // reconnected meanwhile
		return nil
	}})
	j.turn(t.Context())
	if ids := d.ids(); len(ids) != 2 {
		t.Fatalf("sent %v; wanted it in both sessions", ids)
	}
}
