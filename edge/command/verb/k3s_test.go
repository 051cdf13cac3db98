package verb

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

type fakeK3s struct {
	joined *api.K3sJoin
	left   bool
}

var errOfK3s = errors.New("k3s says no")

func (f *fakeK3s) Join(_ context.Context, j *api.K3sJoin) error { f.joined = j; return errOfK3s }
func (f *fakeK3s) Leave(context.Context) error                  { f.left = true; return nil }

func TestK3sIsTheOwnersToAllow(t *testing.T) {
	for _, v := range NewK3s(false, nil) {
		if _, err := v.Prepare(nil); err == nil || !strings.Contains(err.Error(), "k3s.allow") {
			t.Errorf("%s: %v; wanted the setting that allows it", v.Spec().Name, err)
		}
		if role := v.Spec().Role; role != api.RoleAdmin {
			t.Errorf("%s takes %s; wanted admin", v.Spec().Name, role)
		}
	}
}

func TestK3sJoinTakesWhatTheClusterAgentSealed(t *testing.T) {
	f := &fakeK3s{}
	verbs := NewK3s(true, f)
	good := func() map[string]any {
		return map[string]any{"server": "https://10.0.0.1:6443", "name": "pi-a-k3s", "sealed": map[string]any{"id": "x", "key": "y", "data": "aGk="}}
	}
	do, err := verbs[0].Prepare(good())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), command.NewJob(&api.Command{}, nil)); !errors.Is(err, errOfK3s) || f.joined.Name != "pi-a-k3s" || string(f.joined.Sealed.Data) != "hi" {
		t.Errorf("joined %+v, %v", f.joined, err)
	}
	for field, bad := range map[string]any{"server": "http://10.0.0.1:6443", "name": "-x", "sealed": nil, "token": "K10::a.b"} {
		args := good()
		args[field] = bad
		if _, err := verbs[0].Prepare(args); err == nil {
			t.Errorf("%s %v is taken", field, bad)
		}
	}
	leave, err := verbs[1].Prepare(nil)
	if err == nil {
		_, err = leave(t.Context(), command.NewJob(&api.Command{}, nil))
	}
	if err != nil || !f.left {
		t.Errorf("leave: %v", err)
	}
}
