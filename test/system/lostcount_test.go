package system

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// TestANodeThatLostCountIsHeardAgain damages the state of a node that has started so often that its session counter is
// ahead of the Unix time, from which a lost state begins.
func TestANodeThatLostCountIsHeardAgain(t *testing.T) {
	f := newField(t)
	node := f.node("n1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	for range 3 {
		start(t, node)
		f.online("n1")
		f.ping("n1")
		kill(t, node)
	}
	path := filepath.Join(f.dir, "n1", "state", "state.db")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, info.Size())
	if _, err := rand.Read(garbage); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, garbage, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, node)
	f.online("n1")
	f.ping("n1")
}
