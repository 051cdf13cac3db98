package edge

import (
	"encoding/json"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/kept"
)

// packed and unpacked are how a value of T is kept.
func packed[T any](v T) ([]byte, error) { return json.Marshal(v) }

func unpacked[T any](raw []byte) (v T, err error) { return v, json.Unmarshal(raw, &v) }

func TestSettingsAndClaimsAreKeptInTheFormatThatWasRecorded(t *testing.T) {
	var o overlays
	kept.Fill(&o)
	kept.Document(t, "config-overlay", o, packed, unpacked[overlays])
	var c api.Claim
	kept.Fill(&c)
	kept.Document(t, "claim", c, packed, unpacked[api.Claim])
}
