package store

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/kept"
)

// values are all that a store keeps.
type values struct {
	epoch   uint64
	floor   time.Time
	aside   bool
	forgot  int64
	desired string
	claim   string
	overlay string
	failure string
}

func read(t *testing.T, s *Store) (v values) {
	t.Helper()
	v.epoch, v.aside, v.forgot = epoch(t, s), s.SetAside() != "", s.forgot.Load()
	var err error
	if v.floor, err = s.Floor(); err != nil {
		t.Fatal(err)
	}
	for get, to := range map[string]*string{"Desired": &v.desired, "Claim": &v.claim, "Overlay": &v.overlay, "UpdateFailure": &v.failure} {
		out := reflect.ValueOf(s).MethodByName(get).Call(nil)
		if !out[1].IsNil() {
			t.Fatal(out[1])
		}
		*to = string(out[0].Bytes())
	}
	return v
}

func TestTheStoreIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	epoch(t, s)
	err := errors.Join(s.SetFloor(time.Unix(1790000000, 0)), s.SetDesired([]byte(`{"desired":1}`)), s.SetClaim([]byte(`{"claim":1}`)),
		s.SetOverlay([]byte(`{"overlay":1}`)), s.SetUpdateFailure([]byte("7 1.4.0 why")), s.beginAt(1790000000000), s.put(keyUntold, nil))
	if err != nil {
		t.Fatal(err)
	}
	dump := kept.Dump(t, s.DB())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := read(t, openAt(t, dir))
	kept.Same(t, "state.db", dump)
	kept.Each(t, "state.db", func(raw []byte, today bool) {
		dir := t.TempDir()
		kept.Restore(t, filepath.Join(dir, "state.db"), append(raw, "meta \""+kept.Added+"\" 1\n"...), nil)
		s := openAt(t, dir)
		defer s.Close() //nolint:errcheck // it was read
		if got := read(t, s); today && got != want {
			t.Errorf("%+v; wanted %+v", got, want)
		}
	})
}
