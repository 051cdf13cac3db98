package system

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestADamagedStateIsToldToTheCluster cuts off a node's state.db while the node is down: it comes back by itself, and an
// alarm says what it forgot.
func TestADamagedStateIsToldToTheCluster(t *testing.T) {
	t.Parallel()
	f := newField(t)
	node := f.node("hurt", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	start(t, node)
	f.online("hurt")
	f.ping("hurt")
	kill(t, node)
	if err := os.Truncate(filepath.Join(f.dir, "hurt", "state", "state.db"), 5000); err != nil {
		t.Fatal(err)
	}
	start(t, node)
	f.online("hurt")
	f.ping("hurt")
	poll(t, 2*time.Minute, "the alarm is there", func() error {
		var events api.List[api.EventRecord]
		if err := f.get("/v1/events", &events); err != nil {
			return err
		}
		if !slices.ContainsFunc(events.Items, func(e api.EventRecord) bool {
			return e.Node == "hurt" && e.Kind == "state.damaged" && e.Class == api.ClassAlarm && strings.Contains(e.Message, "state.db.corrupt")
		}) {
			return errors.New("no alarm state.damaged")
		}
		return nil
	})
}
