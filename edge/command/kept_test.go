package command

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/kept"
)

// journalAt opens the journal of a file.
func journalAt(t *testing.T, path string) (*journal, []stored) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	j := newJournal(db, "command")
	open, damaged, err := j.load()
	if err != nil || damaged > 0 {
		t.Fatalf("%d damaged, %v", damaged, err)
	}
	return j, open
}

// TestTheJournalIsKeptInTheFormatThatWasRecorded has a command that runs, and one whose end waits for its acknowledgement.
func TestTheJournalIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	j, _ := journalAt(t, path)
	made := func(id string, phase api.Phase) *record {
		var r record
		kept.Fill(&r)
		r.Command.ID, r.Status.ID, r.Status.Phase, r.Acked = id, id, phase, false
		return &r
	}
	running, ended := made("c1", api.PhaseRunning), made("c2", api.PhaseSucceeded)
	running.Bytes, ended.Bytes = 0, 0
	final := ended.Status
	final.Output, final.Result = "hello", map[string]any{"key": "value"}
	at := time.Unix(1790000000, 0)
	if _, err := j.keep(0, running, nil, at); err != nil {
		t.Fatal(err)
	}
	if _, err := j.keep(0, ended, &final, at); err != nil {
		t.Fatal(err)
	}
	kept.Same(t, "journal", kept.Dump(t, j.db))
	kept.Each(t, "journal", func(raw []byte, _ bool) {
		path := filepath.Join(t.TempDir(), "state.db")
		kept.Restore(t, path, raw, func(_, _ string, value []byte) []byte { return kept.Newer(t, value) })
		j, open := journalAt(t, path)
		if len(open) != 1 || open[0].Command.ID != "c1" || open[0].number != 1 || open[0].Digest == "" || open[0].Command.Args == nil {
			t.Fatalf("%+v; wanted c1 to be open", open)
		}
		if e, found := j.find("c2"); !found || e.phase != api.PhaseSucceeded || e.bytes == 0 {
			t.Errorf("%+v", e)
		}
		st, err := j.status("c2")
		if err != nil || st == nil || st.Output != "hello" {
			t.Errorf("%+v, %v; wanted the end of c2, whole", st, err)
		}
		if n, err := j.keep(0, made("c3", api.PhaseRunning), nil, at); err != nil || n != 3 {
			t.Errorf("number %d, %v; wanted the next", n, err)
		}
	})
	raw, err := running.encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeRecord(raw)
	if again, merr := json.Marshal(back); err != nil || merr != nil || string(again) != string(raw) || !reflect.DeepEqual(back.Status, running.Status) {
		t.Errorf("%s, %v; wanted %s", again, err, raw)
	}
}
