package mqtt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func nodeKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var (
	idKey   = bytes.Repeat([]byte{7}, 32)
	secrets = &api.Secrets{Env: map[string][]api.EnvVar{"main": {{Name: "PASSWORD", Value: "hunter2"}}},
		Files: map[string][]api.File{"certs": {{Path: "tls.key", Mode: 0o400, Data: []byte("hunter3")}}}}
)

func TestSecretsOpenForTheNodeAndWorkloadThatTheyAreFor(t *testing.T) {
	key, at := nodeKey(t), Place{Node: "pump-3", Workload: "web"}
	sealed, err := SealSecrets(&key.PublicKey, at, secrets, idKey)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenSecrets(key, at, sealed)
	if err != nil || !reflect.DeepEqual(got, secrets) {
		t.Errorf("opened %+v, %v", got, err)
	}
	raw, err := json.Marshal(sealed)
	if err != nil || bytes.Contains(raw, []byte("hunter")) || bytes.Contains(sealed.Data, []byte("hunter")) {
		t.Errorf("what is sealed can be read: %s, %v", raw, err)
	}
	for what, open := range map[string]func() error{
		"another workload": func() error { _, err := OpenSecrets(key, Place{"pump-3", "api"}, sealed); return err },
		"another node":     func() error { _, err := OpenSecrets(key, Place{"pump-4", "web"}, sealed); return err },
		"a changed byte": func() error {
			bad := *sealed
			bad.Data = bytes.Clone(sealed.Data)
			bad.Data[len(bad.Data)-1] ^= 1
			_, err := OpenSecrets(key, at, &bad)
			return err
		},
		"nothing": func() error { _, err := OpenSecrets(key, at, &api.Sealed{Key: sealed.Key}); return err },
	} {
		if err := open(); err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: opened, %v", what, err)
		}
	}
	if _, err := OpenSecrets(nodeKey(t), at, sealed); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another key: %v; wanted ErrOtherKey", err)
	}
}

func TestTheIDOfSecretsChangesWithThemAndWithNothingElse(t *testing.T) {
	key, at := nodeKey(t), Place{Node: "pump-3", Workload: "web"}
	seal := func(key *ecdsa.PrivateKey, at Place, s *api.Secrets, idKey []byte) *api.Sealed {
		t.Helper()
		sealed, err := SealSecrets(&key.PublicKey, at, s, idKey)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	first, again := seal(key, at, secrets, idKey), seal(key, at, secrets, idKey)
	if first.ID != again.ID || bytes.Equal(first.Data, again.Data) {
		t.Errorf("the same content twice: IDs %s, %s, data the same: %t", first.ID, again.ID, bytes.Equal(first.Data, again.Data))
	}
	w, v := api.Workload{Name: "web", Sealed: first}, api.Workload{Name: "web", Sealed: again}
	if w.Hash() != v.Hash() {
		t.Error("a workload is another one when its secrets are sealed anew")
	}
	other := seal(key, at, &api.Secrets{Env: map[string][]api.EnvVar{"main": {{Name: "PASSWORD", Value: "hunter4"}}}}, idKey)
	for what, id := range map[string]string{"content": other.ID, "key of the node": seal(nodeKey(t), at, secrets, idKey).ID,
		"workload": seal(key, Place{"pump-3", "api"}, secrets, idKey).ID, "key of IDs": seal(key, at, secrets, bytes.Repeat([]byte{8}, 32)).ID} {
		if id == first.ID {
			t.Errorf("another %s has the same ID", what)
		}
	}
	if _, err := SealSecrets(&key.PublicKey, at, secrets, nil); err == nil || !strings.Contains(err.Error(), "idKey has 0 bytes; wanted at least 16") {
		t.Errorf("no key for IDs: %v", err)
	}
}
