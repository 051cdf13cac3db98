package bundle

import (
	"encoding/json"
	"testing"

	"github.com/skerry-edge/skerry/test/kept"
)

// keptAs checks the file of one kind of record.
func keptAs[T any](t *testing.T, name string, encode func(T) ([]byte, error)) {
	t.Helper()
	var full T
	kept.Fill(&full)
	kept.Document(t, name, full, encode, func(raw []byte) (v T, err error) { return v, decode(name, raw, &v) })
}

// TestContainersAreKeptInTheFormatThatWasRecorded: they outlive the agent that began them, and an update of it.
func TestContainersAreKeptInTheFormatThatWasRecorded(t *testing.T) {
	keptAs(t, recordFile, func(r Record) ([]byte, error) { return json.Marshal(r) })
	keptAs(t, begunFile, func(b Begun) ([]byte, error) { return json.Marshal(b) })
	keptAs(t, endFile, func(e End) ([]byte, error) { return e.encode() })
}
