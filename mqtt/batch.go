package mqtt

import (
	"fmt"
	"reflect"

	"github.com/skerry-edge/skerry/api"
)

// mapType is what an object of unknown shape decodes to, as encoding/json does.
var mapType = reflect.TypeFor[map[string]any]()

// wireBatch is a batch with its rows as plain arrays: CBOR has no hook by which api.Row could do this itself without
// package api knowing the CBOR library.
type wireBatch struct {
	Epoch       uint64          `json:"epoch"`
	Seq         uint64          `json:"seq"`
	Prev        uint64          `json:"prev"`
	Boot        string          `json:"boot"`
	T0          api.Millis      `json:"t0"`
	Mono        int64           `json:"mono"`
	TimeQuality api.TimeQuality `json:"timeQuality"`
	Series      []string        `json:"series"`
	Rows        [][]*float64    `json:"rows"`
	Historical  bool            `json:"historical"`
}

func toWire(b *api.Batch) *wireBatch {
	w := &wireBatch{b.Epoch, b.Seq, b.Prev, b.Boot, b.T0, b.Mono, b.TimeQuality, b.Series, make([][]*float64, len(b.Rows)), b.Historical}
	for i := range b.Rows {
		w.Rows[i] = b.Rows[i].Cells()
	}
	return w
}

func (w *wireBatch) to(b *api.Batch) error {
	*b = api.Batch{Epoch: w.Epoch, Seq: w.Seq, Prev: w.Prev, Boot: w.Boot, T0: w.T0, Mono: w.Mono,
		TimeQuality: w.TimeQuality, Series: w.Series, Rows: make([]api.Row, len(w.Rows)), Historical: w.Historical}
	for i := range w.Rows {
		if err := b.Rows[i].SetCells(w.Rows[i]); err != nil {
			return fmt.Errorf("rows[%d]: %w", i, err)
		}
	}
	return nil
}
