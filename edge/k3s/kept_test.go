package k3s

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/skerry-edge/skerry/test/kept"
)

func TestWhatK3sWasJoinedToIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	var full membership
	kept.Fill(&full)
	kept.Document(t, stateFile, full, func(m membership) ([]byte, error) { return json.Marshal(&m) }, func(raw []byte) (membership, error) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFile), raw, 0o600); err != nil {
			return membership{}, err
		}
		a, err := New(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
		if err != nil || a.joined == nil {
			return membership{}, err
		}
		return *a.joined, nil
	})
}
