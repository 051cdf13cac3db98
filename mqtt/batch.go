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

// fieldReader reads the value that comes next in an encoding. Its methods report whether it was of that kind.
type fieldReader interface {
	unsigned(*uint64) bool
	signed(*int64) bool
	string(*string) bool
	boolean(*bool) bool
	series() bool
	rows() bool
}

// batchFields notes which fields of a batch were read, by bit.
type batchFields uint16

// first notes a field, and reports whether it was not there before.
func (f *batchFields) first(bit int) bool {
	was := *f
	*f |= 1 << bit
	return was != *f
}

// read reads the field key into b, or into what r reads rows and series into. It reports whether all was usual.
func (f *batchFields) read(b *api.Batch, key string, r fieldReader) bool {
	switch key {
	case "epoch":
		return f.first(0) && r.unsigned(&b.Epoch)
	case "seq":
		return f.first(1) && r.unsigned(&b.Seq)
	case "prev":
		return f.first(2) && r.unsigned(&b.Prev)
	case "boot":
		return f.first(3) && r.string(&b.Boot)
	case "t0":
		return f.first(4) && r.signed((*int64)(&b.T0))
	case "mono":
		return f.first(5) && r.signed(&b.Mono)
	case "timeQuality":
		return f.first(6) && r.string((*string)(&b.TimeQuality))
	case "series":
		return f.first(7) && r.series()
	case "rows":
		return f.first(8) && r.rows()
	case "historical":
		return f.first(9) && r.boolean(&b.Historical)
	}
	return false
}
