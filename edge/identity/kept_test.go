package identity

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/enrolment"
	"github.com/skerry-edge/skerry/test/kept"
)

// TestAnIdentityIsKeptInTheFormatThatWasRecorded has one whose key and certificates were made for it, and are of use to nobody.
func TestAnIdentityIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	if kept.Recording() {
		s := (&enrolment.Service{Now: noon}).Start(t)
		id := joining(t, s).enrolled()
		id.Root, id.Joined, id.MQTT, id.Endpoints = "site/a", "ab", []string{"mqtts://10.0.0.1:8883"}, []string{"https://10.0.0.1:8443"}
		dir := t.TempDir()
		if err := id.Save(dir); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path(dir))
		if err != nil {
			t.Fatal(err)
		}
		kept.Same(t, fileName, raw)
	}
	load := func(raw []byte) *Identity {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(path(dir), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		id, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	kept.Each(t, fileName, func(raw []byte, _ bool) {
		id := load(raw)
		if v := reflect.ValueOf(*id); !id.Enrolled() {
			t.Error("it is not enrolled")
		} else {
			for i := range v.NumField() {
				if v.Field(i).IsZero() {
					t.Errorf("%s is empty", v.Type().Field(i).Name)
				}
			}
		}
		newer := load(kept.Newer(t, raw))
		text, err := json.Marshal(id)
		if again, nerr := json.Marshal(newer); err != nil || nerr != nil || string(again) != string(text) || !newer.key.Equal(id.key) {
			t.Errorf("with what a later version adds: %s; wanted %s", again, text)
		}
	})
	dir := t.TempDir()
	if err := load(kept.File(t, fileName)).Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(path(dir))
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(kept.File(t, fileName)) {
		t.Errorf("it is written as\n%s\nwanted\n%s", again, kept.File(t, fileName))
	}
}

func TestABegunEnrolmentIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	dir := t.TempDir()
	kept.Document(t, pendingName, Pending{Join: "skerry-join", Waiting: api.Millis(1790000000000)},
		func(p Pending) ([]byte, error) {
			err := p.save(dir)
			if err != nil {
				return nil, err
			}
			return os.ReadFile(filepath.Join(dir, pendingName))
		},
		func(raw []byte) (Pending, error) {
			if !json.Valid(raw) {
				t.Errorf("%q", raw)
			}
			if err := os.WriteFile(filepath.Join(dir, pendingName), raw, 0o600); err != nil {
				return Pending{}, err
			}
			return LoadPending(dir)
		})
}
