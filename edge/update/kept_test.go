package update

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/test/kept"
)

func TestTheStateOfTheSlotsIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	var full State
	kept.Fill(&full)
	full.Active, full.Trial.Slot = SlotA, SlotB
	full.Slots = map[Slot]Image{SlotA: full.Slots["key"]}
	raw, err := full.encode()
	if err != nil {
		t.Fatal(err)
	}
	kept.Same(t, "state.0", raw)
	kept.Each(t, "state.0", func(raw []byte, _ bool) {
		s, err := decodeState(raw)
		if err != nil || s.Seq != full.Seq || s.Trial == nil || s.Slots[SlotA].SHA256 == "" {
			t.Errorf("%+v, %v", s, err)
		}
		newer := kept.Newer(t, raw[strings.IndexByte(string(raw), ' ')+1:])
		sum := sha256.Sum256(newer)
		got, err := decodeState(append([]byte(hex.EncodeToString(sum[:sumBytes])+" "), newer...))
		delete(got.Slots, kept.Added) // it is a map: what is added is another slot of it
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("with what a later version adds: %+v, %v; wanted %+v", got, err, s)
		}
	})
	if s, err := decodeState(raw); err != nil || !reflect.DeepEqual(s, full) {
		t.Errorf("%+v, %v; wanted %+v", s, err, full)
	}
}

func TestAFailedWishIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	full := Failure{Try: 7, Version: "1.4.0", Reason: "it does not start"}
	kept.Same(t, "update-failed", full.Encode())
	kept.Each(t, "update-failed", func(raw []byte, _ bool) {
		if got := DecodeFailure(raw); got.Try == 0 || got.Version == "" || got.Reason == "" {
			t.Errorf("%+v", got)
		}
	})
	if got := DecodeFailure(full.Encode()); got != full {
		t.Errorf("%+v; wanted %+v", got, full)
	}
}

func TestStartsAreCountedInTheFormatThatWasRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), runLock)
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for range 3 {
		if err := countStart(lock, "b007", SlotB); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept.Same(t, runLock, raw)
	kept.Each(t, runLock, func(raw []byte, _ bool) {
		for _, more := range []string{"", "a later line\n"} {
			if err := os.WriteFile(path, append(raw, more...), 0o600); err != nil {
				t.Fatal(err)
			}
			if n := uncleanStarts(lock, "b007", SlotB); n != 3 {
				t.Errorf("%d starts; wanted 3", n)
			}
		}
	})
}
