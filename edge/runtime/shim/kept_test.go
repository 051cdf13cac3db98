package shim

import (
	"encoding/json"
	"testing"

	"github.com/skerry-edge/skerry/test/kept"
)

// TestWhatKeepsStreamsIsToldInTheFormatThatWasRecorded: the agent after an update looks there for how to stop a container.
func TestWhatKeepsStreamsIsToldInTheFormatThatWasRecorded(t *testing.T) {
	var full Streams
	kept.Fill(&full)
	kept.Document(t, StreamsFile, full, func(s Streams) ([]byte, error) { return json.Marshal(&s) },
		func(raw []byte) (s Streams, err error) { return s, json.Unmarshal(raw, &s) })
}
