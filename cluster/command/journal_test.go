package command

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

func TestSubmittingTheSameAgainReturnsTheFirstRecord(t *testing.T) {
	c := newClock()
	j := newJournal(t, Config{Now: c.Now})
	o := Order{ID: "job-1", Node: "n1", Verb: "exec", Args: map[string]any{"argv": []string{"ls"}, "n": 1}, By: "ann",
		Deadline: c.Now().Add(time.Minute)}
	first, err := j.Submit(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c.add(10 * time.Second)
	o.Deadline = c.Now().Add(time.Minute) // "1m" in a request that came twice
	again, err := j.Submit(t.Context(), o)
	if err != nil || again.Created != first.Created || again.Deadline != first.Deadline {
		t.Fatalf("second submission: %+v, %v; wanted the first record", again, err)
	}
	c.add(2 * time.Minute)
	j.turn(t.Context())
	if again, err = j.Submit(t.Context(), o); err != nil || again.Phase != api.PhaseExpired {
		t.Fatalf("submission after the end: %+v, %v; wanted the final record", again, err)
	}
	for name, change := range map[string]func(*Order){
		"another node":   func(o *Order) { o.Node = "n2" },
		"another verb":   func(o *Order) { o.Verb = "ping" },
		"other args":     func(o *Order) { o.Args = map[string]any{"argv": []string{"rm"}, "n": 1} },
		"another person": func(o *Order) { o.By = "bob" },
	} {
		other := o
		change(&other)
		if _, err := j.Submit(t.Context(), other); !errors.Is(err, ErrConflict) {
			t.Errorf("%s under the same id: %v; wanted a conflict", name, err)
		}
	}
}

func TestSubmitRefusesWhatCannotWork(t *testing.T) {
	c := newClock()
	limit := 10.0
	verbs := []api.Verb{{Name: "ping"}, {Name: "exec", Args: api.Schema{Type: "object", Required: []string{"argv"},
		AdditionalProperties: new(bool), Properties: map[string]api.Schema{
			"argv":  {Type: "array", Items: &api.Schema{Type: "string", MaxLength: 4}},
			"count": {Type: "integer", Maximum: &limit},
			"mode":  {Enum: []string{"a", "b"}, Pattern: "^[a-z]$"}}}}}
	j := newJournal(t, Config{Now: c.Now, Nodes: fleet{"n1": verbs, "mute": nil}})
	deep := map[string]any{}
	for at, i := deep, 0; i < argsDepth; i++ {
		next := map[string]any{}
		at["d"], at = next, next
	}
	for _, tc := range []struct {
		name string
		o    Order
		is   error
		says string
	}{
		{"no such node", Order{Node: "n9", Verb: "ping"}, ErrUnknownNode, "n9"},
		{"unknown verb tells the known", Order{Node: "n1", Verb: "fly"}, ErrInvalid, "it has exec, ping"},
		{"argument missing", Order{Node: "n1", Verb: "exec"}, ErrInvalid, "args.argv is missing"},
		{"argument unknown", Order{Node: "n1", Verb: "exec", Args: map[string]any{"argv": []any{}, "x": 1}}, ErrInvalid, "args.x is not known"},
		{"item of wrong type", Order{Node: "n1", Verb: "exec", Args: map[string]any{"argv": []any{"a", 2}}}, ErrInvalid, "args.argv[1]: is number; wanted string"},
		{"item too long", Order{Node: "n1", Verb: "exec", Args: map[string]any{"argv": []any{"abcde"}}}, ErrInvalid, "at most 4"},
		{"not whole", Order{Node: "n1", Verb: "exec", Args: map[string]any{"argv": []any{}, "count": 1.5}}, ErrInvalid, "wanted integer"},
		{"too big", Order{Node: "n1", Verb: "exec", Args: map[string]any{"argv": []any{}, "count": 11}}, ErrInvalid, "at most 10"},
		{"not in the list", Order{Node: "n1", Verb: "exec", Args: map[string]any{"argv": []any{}, "mode": "C"}}, ErrInvalid, "one of a, b"},
		{"deadline passed", Order{Node: "n1", Verb: "ping", Deadline: c.Now()}, ErrInvalid, "has passed"},
		{"deadline too far", Order{Node: "n1", Verb: "ping", Deadline: c.Now().Add(8 * 24 * time.Hour)}, ErrInvalid, "at most 168h"},
		{"args too large", Order{Node: "mute", Verb: "x", Args: map[string]any{"a": strings.Repeat("x", api.MaxArgsBytes)}}, ErrInvalid, "wanted at most"},
		{"args too deep", Order{Node: "mute", Verb: "x", Args: deep}, ErrInvalid, "levels deep"},
		{"bad id", Order{ID: "A/b", Node: "n1", Verb: "ping"}, ErrInvalid, `"A/b"`},
		{"args that are no JSON", Order{Node: "mute", Verb: "x", Args: map[string]any{"f": func() {}}}, ErrInvalid, "args"},
	} {
		if tc.o.Deadline.IsZero() {
			tc.o.Deadline = c.Now().Add(time.Minute)
		}
		_, err := j.Submit(t.Context(), tc.o)
		if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; wanted %v saying %q", tc.name, err, tc.is, tc.says)
		}
	}
	if _, err := j.Submit(t.Context(), Order{Node: "n1", Verb: "ping"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no deadline: %v", err)
	}
	mustSubmit(t, j, Order{Node: "mute", Verb: "anything"})
	mustSubmit(t, j, Order{Verb: "exec", Args: map[string]any{"argv": []string{"ls"}, "count": 10, "mode": "a"}})
	if n := j.Stats().Open; n != 2 {
		t.Errorf("%d open; wanted the two that were right", n)
	}
}

func TestOpenCommandsAreBoundedAndACancelIsLetThrough(t *testing.T) {
	c := newClock()
	j := newJournal(t, Config{Now: c.Now, MaxOpenPerNode: 3, MaxOpen: 5})
	j.OnNodeUp("n1", 1, nil)
	var last api.CommandRecord
	for range 3 {
		last = mustSubmit(t, j, Order{})
	}
	_, err := j.Submit(t.Context(), Order{Node: "n1", Verb: "ping", Deadline: c.Now().Add(time.Minute)})
	wantErr(t, err, ErrFull)
	if want := "too many open commands: node n1 has 3, the limit is 3"; err.Error() != want {
		t.Errorf("error %q; wanted %q", err, want)
	}
	if _, err := j.Cancel(t.Context(), last.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	mustSubmit(t, j, Order{Node: "n2"})
	_, err = j.Submit(t.Context(), Order{Node: "n3", Verb: "ping", Deadline: c.Now().Add(time.Minute)})
	wantErr(t, err, ErrFull)
	mustStatus(t, j, last.ID, api.PhaseCancelled)
	mustSubmit(t, j, Order{Node: "n3"})
}

func TestOneSideOnlyEndsACommand(t *testing.T) {
	c := newClock()
	j := newJournal(t, Config{Now: c.Now, Grace: 10 * time.Second})
	j.OnNodeUp("n1", 1, nil)
	deadline := c.Now().Add(time.Minute)
	for _, tc := range []struct {
		name          string
		before, after []api.Phase // the close
		want          api.Phase
		late          string
	}{
		{"nothing heard", nil, nil, api.PhaseExpired, ""},
		{"accepted only", []api.Phase{api.PhaseAccepted}, nil, api.PhaseTimedOut, ""},
		{"done in time", []api.Phase{api.PhaseAccepted, api.PhaseSucceeded}, []api.Phase{api.PhaseSucceeded}, api.PhaseSucceeded, ""},
		{"done, told late", []api.Phase{api.PhaseRunning}, []api.Phase{api.PhaseSucceeded}, api.PhaseTimedOut, "late: succeeded"},
		{"all told late", nil, []api.Phase{api.PhaseAccepted, api.PhaseRunning, api.PhaseFailed}, api.PhaseExpired, "late: failed"},
		{"refused late", nil, []api.Phase{api.PhaseExpired}, api.PhaseExpired, ""},
		{"closed alike", []api.Phase{api.PhaseRunning}, []api.Phase{api.PhaseTimedOut}, api.PhaseTimedOut, ""},
	} {
		id := strings.ReplaceAll(strings.ReplaceAll(tc.name, " ", "-"), ",", "")
		mustSubmit(t, j, Order{ID: id, Deadline: deadline})
		for _, p := range tc.before {
			mustStatus(t, j, id, p)
		}
	}
	c.add(70*time.Second - time.Millisecond)
	j.turn(t.Context())
	if rec := mustGet(t, j, "nothing-heard"); rec.Final {
		t.Fatalf("closed before deadline + grace: %s", rec.Phase)
	}
	c.add(time.Millisecond)
	j.turn(t.Context())
	j.Acks("n1")
	check := func(id string, want api.Phase, late string) {
		t.Helper()
		rec := mustGet(t, j, id)
		last := rec.History[len(rec.History)-1]
		if rec.Phase != want || late != "" && (last.Reason != late || last.Side != sideNode || last.Phase != want) {
			t.Errorf("%s is %s, last transition %+v; wanted %s, %q", id, rec.Phase, last, want, late)
		}
		if late != "" && "late: "+string(rec.Status.Phase) != late {
			t.Errorf("%s: status is %s; wanted the late one", id, rec.Status.Phase)
		}
	}
	check("nothing-heard", api.PhaseExpired, "")
	check("accepted-only", api.PhaseTimedOut, "")
	mustStatus(t, j, "done-told-late", api.PhaseSucceeded)
	check("done-told-late", api.PhaseTimedOut, "late: succeeded")
	for _, p := range []api.Phase{api.PhaseAccepted, api.PhaseRunning, api.PhaseFailed, api.PhaseFailed, api.PhaseRunning} {
		mustStatus(t, j, "all-told-late", p)
	}
	check("all-told-late", api.PhaseExpired, "late: failed")
	mustStatus(t, j, "refused-late", api.PhaseExpired)
	check("refused-late", api.PhaseExpired, "")
	mustStatus(t, j, "closed-alike", api.PhaseTimedOut)
	check("closed-alike", api.PhaseTimedOut, "")
	mustStatus(t, j, "done-in-time", api.PhaseFailed) // contradicts itself
	check("done-in-time", api.PhaseSucceeded, "")
	got := j.Acks("n1")
	slices.Sort(got)
	if want := []string{"all-told-late", "closed-alike", "done-in-time", "done-told-late", "refused-late"}; !slices.Equal(got, want) {
		t.Errorf("acknowledged %v; wanted %v", got, want)
	}
	j.close([]string{"done-in-time"}) // as when its end and its time come at one moment
	check("done-in-time", api.PhaseSucceeded, "")
	if st := j.Stats(); st.Conflicts != 1 || st.Open != 0 {
		t.Errorf("%d conflicts, %d open; wanted 1, 0", st.Conflicts, st.Open)
	}
}

func TestStatusIsAcknowledgedOnlyWhenItIsOnDisk(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "db"), false)
	j := newJournal(t, Config{DB: db})
	j.OnNodeUp("n1", 1, nil)
	rec := mustSubmit(t, j, Order{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	done := &api.Status{ID: rec.ID, Phase: api.PhaseSucceeded, Epoch: 1, At: 1}
	if err := j.OnStatus("n1", done); err == nil {
		t.Error("a status that could not be stored was taken")
	}
	if acks := j.Acks("n1"); len(acks) != 0 {
		t.Errorf("acknowledged %v", acks)
	}
	if now := mustGet(t, j, rec.ID); now.Final {
		t.Errorf("memory is ahead of the disk: %s", now.Phase)
	}
	if _, err := j.Submit(t.Context(), Order{Node: "n1", Verb: "ping", Deadline: time.Now().Add(time.Hour)}); err == nil {
		t.Error("a command that could not be stored was taken")
	}
}

func TestUnknownAndForeignStatusesAreAcknowledgedAndChangeNothing(t *testing.T) {
	j := newJournal(t, Config{})
	j.OnNodeUp("n1", 1, nil)
	rec := mustSubmit(t, j, Order{})
	mustStatus(t, j, "never-heard-of", api.PhaseSucceeded)
	mustStatus(t, j, "never-heard-of-either", api.PhaseRunning)
	if err := j.OnStatus("n2", &api.Status{ID: rec.ID, Phase: api.PhaseSucceeded, Epoch: 1, At: 1}); err != nil {
		t.Fatal(err)
	}
	if now := mustGet(t, j, rec.ID); now.Phase != api.PhaseDelivered {
		t.Errorf("another node ended the command: %s", now.Phase)
	}
	if acks := j.Acks("n1"); !slices.Equal(acks, []string{"never-heard-of"}) {
		t.Errorf("n1 is acknowledged %v", acks)
	}
	if acks := j.Acks("n2"); !slices.Equal(acks, []string{rec.ID}) {
		t.Errorf("n2 is acknowledged %v", acks)
	}
	if n := j.Stats().Unknown; n != 3 {
		t.Errorf("%d unknown; wanted 3", n)
	}
	for i := range api.MaxOpenCommands + 5 {
		mustStatus(t, j, fmt.Sprintf("u%d", i), api.PhaseFailed)
	}
	if acks, dropped := j.Acks("n1"), j.Stats().AcksDropped; len(acks) != api.MaxOpenCommands || dropped != 5 {
		t.Errorf("%d acknowledged, %d dropped", len(acks), dropped)
	}
	if err := j.OnStatus("n1", &api.Status{ID: "x", Phase: "odd"}); err == nil {
		t.Error("an invalid status was taken")
	}
}

func TestAcceptedCommandIsNotHandedToANodeThatForgotIt(t *testing.T) {
	wire := &tape{}
	j := newJournal(t, Config{Deliverer: wire})
	j.OnNodeUp("n1", 1, nil)
	known, forgotten, unheard := mustSubmit(t, j, Order{}), mustSubmit(t, j, Order{}), mustSubmit(t, j, Order{})
	j.turn(t.Context())
	if got := wire.ids(); !slices.Equal(got, []string{known.ID, forgotten.ID, unheard.ID}) {
		t.Fatalf("delivered %v; wanted all in order of submission", got)
	}
	mustStatus(t, j, known.ID, api.PhaseAccepted)
	mustStatus(t, j, forgotten.ID, api.PhaseRunning)
	j.OnNodeDown("n1", 1)
	wire.sent = nil
	j.OnNodeUp("n1", 2, []string{known.ID})
	j.OnNodeUp("n1", 1, []string{known.ID, forgotten.ID}) // an old one, late
	j.turn(t.Context())
	if got := wire.ids(); !slices.Equal(got, []string{known.ID, unheard.ID}) {
		t.Errorf("delivered %v; wanted %v", got, []string{known.ID, unheard.ID})
	}
	for _, c := range wire.sent {
		if c.Epoch != 2 {
			t.Errorf("command %s signed for session %d; wanted 2", c.ID, c.Epoch)
		}
	}
	j.OnNodeDown("n1", 1) // the end of the first session, told late
	if _, up := j.link("n1"); !up {
		t.Error("the end of an older session took the node down")
	}
}

func TestCancel(t *testing.T) {
	c, wire := newClock(), &tape{}
	j := newJournal(t, Config{Now: c.Now, Deliverer: wire})
	waiting := mustSubmit(t, j, Order{})
	rec, err := j.Cancel(t.Context(), waiting.ID, "ann")
	if err != nil || rec.Phase != api.PhaseCancelled || !rec.Final {
		t.Fatalf("cancel of a queued command: %s, %v", rec.Phase, err)
	}
	j.OnNodeUp("n1", 1, nil)
	sent := mustSubmit(t, j, Order{})
	j.turn(t.Context())
	for range 2 { // asking twice is asking once
		if rec, err = j.Cancel(t.Context(), sent.ID, "ann"); err != nil || rec.Final {
			t.Fatalf("cancel of a delivered command: %s, %v", rec.Phase, err)
		}
	}
	c.add(time.Second)
	j.turn(t.Context())
	if len(wire.sent) != 2 || wire.sent[1].Verb != verbCancel || wire.sent[1].Args[argCancel] != sent.ID {
		t.Fatalf("sent %+v; wanted the command and one cancel", wire.sent)
	}
	c.add(20 * time.Second) // time to deliver again what was not accepted
	j.turn(t.Context())
	for _, again := range wire.sent[2:] {
		if again.ID == sent.ID {
			t.Error("a command that is being cancelled was delivered again")
		}
	}
	mustStatus(t, j, sent.ID, api.PhaseCancelled)
	if rec = mustGet(t, j, sent.ID); rec.Phase != api.PhaseCancelled {
		t.Errorf("command is %s", rec.Phase)
	}
	done := mustSubmit(t, j, Order{})
	mustStatus(t, j, done.ID, api.PhaseSucceeded)
	_, err = j.Cancel(t.Context(), done.ID, "ann")
	wantErr(t, err, ErrFinal)
	_, err = j.Cancel(t.Context(), "nothing", "ann")
	wantErr(t, err, ErrNotFound)
}

func TestRetentionDropsTheOldestEndsAndNeverAnOpenCommand(t *testing.T) {
	c := newClock()
	j := newJournal(t, Config{Now: c.Now, KeepFinals: 100, KeepFor: 24 * time.Hour, MaxOpenPerNode: 1000})
	j.OnNodeUp("n1", 1, nil)
	old := mustSubmit(t, j, Order{ID: "old-but-open", Deadline: c.Now().Add(6 * 24 * time.Hour)})
	for i := range 300 {
		rec := mustSubmit(t, j, Order{ID: fmt.Sprintf("c%03d", i)})
		c.add(time.Second)
		mustStatus(t, j, rec.ID, api.PhaseSucceeded)
		j.turn(t.Context())
	}
	if n := j.Stats().Finals; n < 100 || n > 100+100/16+1 {
		t.Errorf("%d final records kept; wanted about 100", n)
	}
	if _, found, _ := j.Get("c000"); found {
		t.Error("the oldest record is still there")
	}
	list, err := j.List(Filter{Node: "n1", Limit: 3})
	if err != nil || len(list) != 3 || list[0].ID != old.ID || list[1].ID != "c299" || list[2].ID != "c298" {
		t.Errorf("list %v, %v", list, err)
	}
	c.add(25 * time.Hour)
	j.turn(t.Context())
	st := j.Stats()
	if st.Finals != 0 || st.Open != 1 || st.Retired != 300 {
		t.Errorf("%d finals, %d open, %d retired; wanted 0, 1, 300", st.Finals, st.Open, st.Retired)
	}
	reopened := newJournal(t, Config{DB: j.cfg.DB, Now: c.Now})
	if st := reopened.Stats(); st.Finals != 0 || st.Open != 1 {
		t.Errorf("after a restart %d finals, %d open; wanted 0, 1", st.Finals, st.Open)
	}
}

// However it ends: a metrics-server asks each device four times a minute.
func TestAPassingQuestionIsForgottenWithItsEndAndPushesNothingOut(t *testing.T) {
	c := newClock()
	j := newJournal(t, Config{Now: c.Now, KeepFinals: 100})
	j.OnNodeUp("n1", 1, nil)
	kept := mustSubmit(t, j, Order{ID: "of-a-person"})
	mustStatus(t, j, kept.ID, api.PhaseSucceeded)
	watch := j.Watch(t.Context())
	defer watch.Close()
	for i := range 300 {
		rec := mustSubmit(t, j, Order{ID: fmt.Sprintf("p%03d", i), Passing: true})
		if change := <-watch.Changes(); change.Item.ID != rec.ID || change.Item.Final {
			t.Fatalf("%+v", change.Item)
		}
		c.add(time.Second)
		want := api.PhaseSucceeded
		switch i % 3 {
		case 0:
			mustStatus(t, j, rec.ID, want)
		case 1:
			want = api.PhaseFailed
			mustStatus(t, j, rec.ID, want)
		default:
			want = api.PhaseExpired
			c.add(time.Hour)
			j.turn(t.Context())
		}
		for end := false; !end; {
			change := <-watch.Changes()
			if end = change.Item.Final; end && (change.Item.ID != rec.ID || change.Item.Phase != want) {
				t.Fatalf("%+v; wanted the end, %s", change.Item, want)
			}
		}
		mustStatus(t, j, rec.ID, api.PhaseSucceeded) // again, or too late
	}
	if list, err := j.List(Filter{Limit: 500}); err != nil || len(list) != 1 || list[0].ID != kept.ID {
		t.Errorf("%d records, %v; wanted the one of a person", len(list), err)
	}
	reopened := newJournal(t, Config{DB: j.cfg.DB, Now: c.Now})
	if st := reopened.Stats(); st.Finals != 1 || st.Open != 0 || j.Stats().Finals != 1 {
		t.Errorf("%d final, %d open after a restart, %d before; wanted 1, 0, 1", st.Finals, st.Open, j.Stats().Finals)
	}
}

func TestListFilters(t *testing.T) {
	j := newJournal(t, Config{})
	j.OnNodeUp("n1", 1, nil)
	for i := range 6 {
		mustSubmit(t, j, Order{ID: fmt.Sprintf("a%d", i), Node: fmt.Sprintf("n%d", 1+i%2)})
	}
	mustStatus(t, j, "a0", api.PhaseSucceeded)
	mustStatus(t, j, "a2", api.PhaseFailed)
	for _, tc := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "a5 a4 a3 a1 a2 a0"},
		{Filter{Open: true}, "a5 a4 a3 a1"},
		{Filter{Node: "n1"}, "a4 a2 a0"},
		{Filter{Node: "n2", Limit: 2}, "a5 a3"},
		{Filter{Phase: api.PhaseFailed}, "a2"},
		{Filter{Phase: api.PhaseQueued}, "a5 a3 a1"},
		{Filter{Node: "nobody"}, ""},
	} {
		list, err := j.List(tc.f)
		var ids []string
		for _, rec := range list {
			ids = append(ids, rec.ID)
		}
		if got := strings.Join(ids, " "); err != nil || got != tc.want {
			t.Errorf("%+v lists %q, %v; wanted %q", tc.f, got, err, tc.want)
		}
	}
	_, err := j.List(Filter{Phase: "odd"})
	wantErr(t, err, ErrInvalid)
}

func TestCommandsAreWalkedPageByPageInTheOrderOfTheWholeList(t *testing.T) {
	j := newJournal(t, Config{})
	j.OnNodeUp("n1", 1, nil)
	for i := range 20 {
		mustSubmit(t, j, Order{ID: fmt.Sprintf("a%02d", i), Node: fmt.Sprintf("n%d", 1+i%2)})
	}
	for i := 0; i < 20; i += 4 {
		mustStatus(t, j, fmt.Sprintf("a%02d", i), api.PhaseSucceeded)
	}
	walk := func(f Filter, between func()) (ids []string) {
		for {
			page, next, err := j.Page(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range page {
				ids = append(ids, rec.ID)
			}
			if next == "" {
				return ids
			}
			f.After = next
			between()
		}
	}
	for _, f := range []Filter{{}, {Open: true}, {Node: "n1"}, {Phase: api.PhaseSucceeded}} {
		f.Limit = 1000
		want := walk(f, func() {})
		for f.Limit = range 21 {
			if f.Limit == 0 {
				continue
			}
			if got := walk(f, func() {}); !slices.Equal(got, want) {
				t.Errorf("%+v: %v; wanted %v", f, got, want)
			}
		}
	}
	next := 1
	ids := walk(Filter{Limit: 2}, func() { // one ends after each page, some that were seen and some that were not
		if next < 20 {
			mustStatus(t, j, fmt.Sprintf("a%02d", next), api.PhaseSucceeded)
			next += 4
		}
	})
	for i := range 20 {
		if id := fmt.Sprintf("a%02d", i); !slices.Contains(ids, id) {
			t.Errorf("%s was missed: %v", id, ids)
		}
	}
	for _, bad := range []string{"x", "o", "o-1", "d", "dzz", "d00"} {
		_, _, err := j.Page(Filter{After: bad})
		wantErr(t, err, ErrInvalid)
	}
}

func TestNothingWorksBeforeLoad(t *testing.T) {
	j, err := New(Config{DB: openDB(t, filepath.Join(t.TempDir(), "db"), false), Nodes: everybody{}, Deliverer: &tape{},
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = j.Submit(t.Context(), Order{Node: "n1", Verb: "ping", Deadline: time.Now().Add(time.Hour)})
	wantErr(t, err, ErrNotLoaded)
	wantErr(t, j.OnStatus("n1", &api.Status{ID: "x", Phase: api.PhaseFailed}), ErrNotLoaded)
	_, err = j.Cancel(t.Context(), "x", "ann")
	wantErr(t, err, ErrNotLoaded)
	_, err = j.List(Filter{})
	wantErr(t, err, ErrNotLoaded)
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}

// run starts j.Run in a synctest bubble and returns what stops it.
func run(t *testing.T, j *Journal) {
	t.Helper()
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- j.Run(ctx) }()
	<-j.Ready()
	t.Cleanup(func() { // after t.Context has ended
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestRunDeliversAtOnceAgainWhileUnansweredAndClosesInTime(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "db"), false)
	synctest.Test(t, func(t *testing.T) {
		wire := &tape{}
		j := newJournal(t, Config{DB: db, Deliverer: wire, Grace: 10 * time.Second})
		run(t, j)
		w := j.Watch(t.Context())
		began := time.Now()
		rec := mustSubmit(t, j, Order{Deadline: began.Add(time.Minute)})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(wire.ids()); n != 0 || mustGet(t, j, rec.ID).Phase != api.PhaseQueued {
			t.Fatalf("%d deliveries to a node that is not there", n)
		}
		j.OnNodeUp("n1", 1, nil)
		synctest.Wait()
		if n := len(wire.ids()); n != 1 || mustGet(t, j, rec.ID).Phase != api.PhaseDelivered {
			t.Fatalf("%d deliveries when the node came; wanted 1", n)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := len(wire.ids()); n < 3 || n > 4 {
			t.Errorf("%d deliveries in 30 s without an answer; wanted 3 or 4", n)
		}
		before := len(wire.ids())
		mustStatus(t, j, rec.ID, api.PhaseAccepted)
		time.Sleep(time.Until(began.Add(70*time.Second)) - time.Millisecond)
		synctest.Wait()
		if n := len(wire.ids()); n != before {
			t.Errorf("delivered %d times after it was accepted", n-before)
		}
		if now := mustGet(t, j, rec.ID); now.Final {
			t.Errorf("%s before deadline + grace", now.Phase)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if now := mustGet(t, j, rec.ID); now.Phase != api.PhaseTimedOut {
			t.Errorf("%s at deadline + grace; wanted timed_out", now.Phase)
		}
		var seen []string
		for len(w.Changes()) > 0 {
			c := <-w.Changes()
			seen = append(seen, string(c.Item.Phase))
		}
		if got := strings.Join(seen, " "); got != "queued delivered accepted timed_out" {
			t.Errorf("watchers saw %q", got)
		}
	})
}

func TestRunServesManyNodesThroughFewCouriers(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "db"), false)
	synctest.Test(t, func(t *testing.T) {
		wire := &tape{}
		j := newJournal(t, Config{DB: db, Deliverer: wire, Deliveries: 2})
		for i := range 50 {
			mustSubmit(t, j, Order{Node: fmt.Sprintf("n%d", i)})
		}
		run(t, j)
		for i := range 50 {
			j.OnNodeUp(fmt.Sprintf("n%d", i), 1, nil)
		}
		synctest.Wait()
		if n := len(wire.ids()); n != 50 {
			t.Errorf("%d delivered; wanted 50 without waiting for a timer", n)
		}
	})
}

func TestTheIndexOfEndsFillsItsPages(t *testing.T) {
	db := openDB(t, filepath.Join(t.TempDir(), "db"), false)
	j := newJournal(t, Config{DB: db, MaxOpenPerNode: 1 << 20})
	for i := range 1000 {
		id := fmt.Sprintf("c%d", i)
		if _, err := j.Submit(t.Context(), Order{ID: id, Node: "n1", Verb: "ping", Deadline: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if err := j.OnStatus("n1", &api.Status{ID: id, Phase: api.PhaseRejected, Epoch: 1, At: 1}); err != nil {
			t.Fatal(err)
		}
	}
	err := db.View(func(tx *bbolt.Tx) error {
		if s := tx.Bucket([]byte(bucketDone)).Stats(); s.KeyN != 1000 || s.LeafInuse*10 < s.LeafAlloc*9 {
			t.Errorf("%d ends take %d of %d bytes; wanted 1000 in nine of ten", s.KeyN, s.LeafInuse, s.LeafAlloc)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
