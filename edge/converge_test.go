package edge

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/store"
)

func TestWhatIsStatedAnewEndsTheAttemptAtWhatWasBefore(t *testing.T) {
	a := &Agent{reportDue: make(chan struct{}, 1)}
	w := &wish{wake: make(chan struct{}, 1)}
	w.set(&api.AgentWant{Version: "1.4.0", Try: 1})
	if w.report() != nil {
		t.Error("it is told before it is known how it stands")
	}
	w.begin()
	want, ctx, stop := w.attempt(t.Context())
	defer stop()
	w.stands(a, api.AgentFailed, "why")
	if got := *w.report(); got != (api.AgentStatus{Version: agent.Version(), Wanted: "1.4.0", Try: 1, State: api.AgentFailed, Reason: "why"}) {
		t.Errorf("%+v", got)
	}
	if len(a.reportDue) != 1 {
		t.Error("a change is not reported")
	}
	w.set(&api.AgentWant{Version: want.Version, Try: want.Try})
	if ctx.Err() != nil || w.report().State != api.AgentFailed {
		t.Error("the same again ended the attempt")
	}
	w.set(&api.AgentWant{Version: "1.5.0", Try: 2})
	if ctx.Err() == nil {
		t.Error("the attempt goes on")
	}
	if got := w.report(); got.State != api.AgentWaiting || got.Reason != "" || got.Try != 2 {
		t.Errorf("%+v; wanted nothing of the one before", got)
	}
	w.set(nil)
	if w.report() != nil {
		t.Errorf("%+v; wanted nothing to be told when nothing is wanted", w.report())
	}
}

func TestAWaitEndsWhenItIsDueOrSomethingElseIsStated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wish{wake: make(chan struct{}, 1)}
		began := time.Now()
		w.await(t.Context(), time.Hour)
		if took := time.Since(began); took < 50*time.Minute || took > 70*time.Minute {
			t.Errorf("waited %s; wanted an hour, more or less", took)
		}
		began = time.Now()
		go func() {
			agent.Wait(t.Context(), time.Minute)
			w.set(&api.AgentWant{Version: "1.4.0", Try: 1})
		}()
		w.await(t.Context(), -1)
		if took := time.Since(began); took != time.Minute {
			t.Errorf("waited %s; wanted until something was stated", took)
		}
	})
}

func TestThatADesiredVersionFailedSurvivesARestartOfTheAgent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for i := range 2 {
		st, err := store.Open(dir, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		u := &updates{agent: &Agent{store: st, reportDue: make(chan struct{}, 1)}}
		if i == 0 {
			u.gaveUp(&api.AgentWant{Version: "1.4.0", Try: 7}, "no broker")
		} else if f := u.failure(); f.Try != 7 || f.Reason != "no broker" {
			t.Errorf("%+v", f)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
