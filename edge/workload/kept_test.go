package workload

import (
	"path/filepath"
	"reflect"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/test/kept"
)

func TestWhatIsRememberedOfWorkloadsIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	at := func(path string) keeper {
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return keeper{db}
	}
	var full Memory
	kept.Fill(&full)
	k := at(filepath.Join(t.TempDir(), "state.db"))
	if err := k.save(map[string]*Memory{"web": &full}); err != nil {
		t.Fatal(err)
	}
	kept.Same(t, "workloads", kept.Dump(t, k.db))
	kept.Each(t, "workloads", func(raw []byte, today bool) {
		load := func(alter func(bucket, key string, value []byte) []byte) Memory {
			t.Helper()
			path := filepath.Join(t.TempDir(), "state.db")
			kept.Restore(t, path, raw, alter)
			got, err := at(path).load()
			if err != nil || len(got) != 1 {
				t.Errorf("%+v, %v; wanted one workload", got, err)
			}
			return got["web"]
		}
		plain := load(nil)
		if today && !reflect.DeepEqual(plain, full) {
			t.Errorf("%+v; wanted %+v", plain, full)
		}
		if newer := load(func(_, _ string, value []byte) []byte { return kept.Newer(t, value) }); !reflect.DeepEqual(newer, plain) {
			t.Errorf("with what a later version adds: %+v; wanted %+v", newer, plain)
		}
	})
}
