package command

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

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
	wait    <-chan struct{} // Deliver returns no sooner
}

func (p *prompt) Deliver(ctx context.Context, node string, epoch uint64, cmd *api.Command) error {
	err := p.tape.Deliver(ctx, node, epoch, cmd)
	p.answers.Go(func() {
		p.errs <- p.j.OnStatus(node, &api.Status{ID: cmd.ID, Phase: api.PhaseSucceeded, Epoch: epoch, At: cmd.Issued})
	})
	if p.wait != nil {
		<-p.wait
	}
	return err
}

// TestWhoGivesUpDoesNotWaitForTheDisk has a node's answer be journalled, for as long as the disk takes, when the caller leaves.
func TestWhoGivesUpDoesNotWaitForTheDisk(t *testing.T) {
	p := &prompt{errs: make(chan error, 1)}
	j := newJournal(t, Config{Nodes: lookout, Deliverer: p})
	p.j = j
	j.OnNodeUp("n1", 1, nil)
	j.swift["n1"] = struct{}{}
	writing, disk := make(chan struct{}), make(chan struct{})
	p.wait = writing // so that it is the answer that is journalled
	ctx, leave := context.WithCancelCause(t.Context())
	left := errors.New("the caller left")
	go func() {
		<-writing
		leave(left)
	}()
	_, err := j.Submit(ctx, Order{ID: "a", Node: "n1", Verb: "look", By: "alice", Deadline: time.Now().Add(time.Minute), Journalled: func(*bbolt.Tx) error {
		close(writing)
		<-disk
		return nil
	}})
	if !errors.Is(err, left) {
		t.Errorf("%v; wanted what ended the caller", err)
	}
	close(disk)
	p.answers.Wait()
	if err := <-p.errs; err != nil {
		t.Fatal(err)
	}
	if rec := mustGet(t, j, "a"); rec.Phase != api.PhaseSucceeded {
		t.Errorf("the command is %s; wanted its answer", rec.Phase)
	}
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
	if rec.Phase != api.PhaseDelivered && rec.Phase != api.PhaseSucceeded { // whichever of the two journals it
		t.Errorf("submitted as %s; wanted delivered or succeeded", rec.Phase)
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

func TestCommandAndPromptAnswerShareATransaction(t *testing.T) {
	p := &prompt{errs: make(chan error, 2)}
	j := newJournal(t, Config{Nodes: lookout, Deliverer: p})
	p.j = j
	j.OnNodeUp("n1", 1, nil)
	j.swift["n1"] = struct{}{}
	watch := j.Watch(t.Context())
	defer watch.Close()
	before := j.Stats().Commits
	writing := make(chan struct{})
	p.wait = writing // so that it is the answer that is journalled, however late this machine lets it speak
	rec := mustSubmit(t, j, Order{ID: "a", Verb: "look", Journalled: func(*bbolt.Tx) error {
		close(writing)
		return nil
	}})
	p.answers.Wait()
	if err := <-p.errs; err != nil {
		t.Fatal(err)
	}
	st := j.Stats()
	if n := st.Commits - before; n != 1 {
		t.Errorf("%d transactions; wanted one", n)
	}
	var phases []api.Phase
	for _, h := range rec.History {
		phases = append(phases, h.Phase)
	}
	if want := []api.Phase{api.PhaseQueued, api.PhaseDelivered, api.PhaseSucceeded}; !slices.Equal(phases, want) || !rec.Final {
		t.Errorf("Submit returned %v, final %v; wanted %v", phases, rec.Final, want)
	}
	if c := <-watch.Changes(); c.Item.Phase != api.PhaseSucceeded {
		t.Errorf("watchers hear of %s first; wanted the end, which was committed with the rest", c.Item.Phase)
	}
	if st.Succeeded != 1 || st.Finals != 1 || st.Open != 0 || st.Statuses != 1 || st.Unknown+st.Ignored != 0 {
		t.Errorf("counted %+v; wanted one success", st)
	}
	if ids := j.Acks("n1"); len(ids) != 1 {
		t.Errorf("acknowledged %v; wanted a", ids)
	}
	if err := j.OnStatus("n1", &api.Status{ID: "a", Phase: api.PhaseFailed, Epoch: 1, At: 1}); err != nil {
		t.Fatal(err)
	}
	if rec := mustGet(t, j, "a"); rec.Phase != api.PhaseSucceeded || j.Stats().Conflicts != 1 {
		t.Errorf("a second end left it %s", rec.Phase)
	}
}

func TestNodeThatDoesNotAnswerAtOnceIsNotWaitedForAgain(t *testing.T) {
	now := time.Now() // stands still: a busy machine must not make a slow node of one that answers at once
	j := newJournal(t, Config{Nodes: lookout, Now: func() time.Time { return now }})
	j.OnNodeUp("n1", 1, nil)
	answer := func(id string) {
		t.Helper()
		if err := j.OnStatus("n1", &api.Status{ID: id, Phase: api.PhaseSucceeded, Epoch: 1, At: api.At(j.cfg.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	waited := func() bool { _, ok := j.swift["n1"]; return ok }
	mustSubmit(t, j, Order{ID: "first", Verb: "look"})
	if waited() {
		t.Fatal("waits for a node that never answered")
	}
	answer("first")
	if !waited() {
		t.Fatal("does not wait for a node that answers at once")
	}
	if rec := mustSubmit(t, j, Order{ID: "silent", Verb: "look"}); rec.Phase != api.PhaseDelivered {
		t.Fatalf("submitted as %s; wanted it journalled without its answer", rec.Phase)
	}
	if waited() {
		t.Fatal("still waits for a node that did not answer")
	}
	answer("silent")
	if rec := mustGet(t, j, "silent"); rec.Phase != api.PhaseSucceeded {
		t.Fatalf("its answer left it %s", rec.Phase)
	}
	j.OnNodeDown("n1", 0)
	if waited() {
		t.Fatal("remembers a node that has gone")
	}
}

// stuck is a Deliverer whose broker takes its time to say that it has the command, which the node answers meanwhile.
type stuck struct {
	prompt
	release chan struct{}
}

func (s *stuck) Deliver(ctx context.Context, node string, epoch uint64, cmd *api.Command) error {
	err := s.prompt.Deliver(ctx, node, epoch, cmd)
	select {
	case <-s.release:
	case <-ctx.Done():
	}
	return err
}

func TestAnswerDoesNotWaitForTheDeliveryToReturn(t *testing.T) {
	s := &stuck{prompt: prompt{errs: make(chan error, 1)}, release: make(chan struct{})}
	j := newJournal(t, Config{Nodes: lookout, Deliverer: s})
	s.j = j
	j.OnNodeUp("n1", 1, nil)
	done := make(chan api.CommandRecord, 1)
	go func() { done <- mustSubmit(t, j, Order{ID: "a", Verb: "look"}) }()
	if err := <-s.errs; err != nil { // the node's reader is free although Deliver has not returned
		t.Fatal(err)
	}
	if rec := mustGet(t, j, "a"); rec.Phase != api.PhaseSucceeded {
		t.Fatalf("its answer left it %s", rec.Phase)
	}
	close(s.release)
	if rec := <-done; rec.Phase != api.PhaseSucceeded {
		t.Fatalf("submitted as %s; wanted succeeded", rec.Phase)
	}
}

func TestStatusOfAnotherNodeDoesNotEndACommandThatWasSentAhead(t *testing.T) {
	f := &forging{}
	j := newJournal(t, Config{Nodes: lookout, Deliverer: f})
	f.j = j
	j.OnNodeUp("n1", 1, nil)
	rec := mustSubmit(t, j, Order{ID: "a", Verb: "look"})
	f.answers.Wait()
	if rec.Phase != api.PhaseDelivered || j.Stats().Unknown != 1 {
		t.Fatalf("submitted as %s with %d statuses of nobody; wanted delivered, 1", rec.Phase, j.Stats().Unknown)
	}
}

// forging is a Deliverer beside which another node speaks.
type forging struct {
	tape
	j       *Journal
	answers sync.WaitGroup
}

func (f *forging) Deliver(ctx context.Context, node string, epoch uint64, cmd *api.Command) error {
	f.answers.Go(func() {
		_ = f.j.OnStatus("n2", &api.Status{ID: cmd.ID, Phase: api.PhaseFailed, Epoch: epoch, At: cmd.Issued})
	})
	return f.tape.Deliver(ctx, node, epoch, cmd)
}
