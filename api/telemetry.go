package api

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Batch is a columnar block of samples. Rows hold one value per entry of Series after a leading offset in milliseconds
// from T0. Names and units are those of node_exporter, labels in Prometheus text form:
// node_filesystem_avail_bytes{mountpoint="/"}.
//
// Epoch and Seq number the batch: Epoch is the session in which it was made, Seq counts from 1 within it. Prev is the
// batch of the same epoch that the node still holds unacknowledged just before this one, 0 when there is none; the
// cluster agent advances its watermark only along this chain, so a batch that went astray is never acknowledged.
//
// Mono is the node's CLOCK_BOOTTIME at T0 in milliseconds: with Boot it lets a node whose clock was wrong restamp what
// it has not yet sent. Historical marks a batch that was not sent within its own interval.
type Batch struct {
	Epoch       uint64      `json:"epoch"`
	Seq         uint64      `json:"seq"`
	Prev        uint64      `json:"prev"`
	Boot        string      `json:"boot"`
	T0          Millis      `json:"t0"`
	Mono        int64       `json:"mono"`
	TimeQuality TimeQuality `json:"timeQuality"`
	Series      []string    `json:"series"`
	Rows        []Row       `json:"rows"`
	Historical  bool        `json:"historical"`
}

// Row is one scrape: an offset from the batch's T0, then one value per series. NaN stands for "no value" (null on the
// wire; neither JSON nor a dashboard knows another way).
type Row struct {
	OffsetMillis int64
	Values       []float64
}

// Samples counts the values present in b.
func (b *Batch) Samples() int {
	n := 0
	for _, r := range b.Rows {
		for _, v := range r.Values {
			if !math.IsNaN(v) {
				n++
			}
		}
	}
	return n
}

// Validate checks b as it arrives from a node. It does not parse the series names.
func (b *Batch) Validate() error {
	if len(b.Series) == 0 || len(b.Series) > MaxSeries {
		return fmt.Errorf("batch has %d series; wanted 1 to %d", len(b.Series), MaxSeries)
	}
	if len(b.Rows) == 0 || len(b.Rows) > MaxRows {
		return fmt.Errorf("batch has %d rows; wanted 1 to %d", len(b.Rows), MaxRows)
	}
	for i, s := range b.Series {
		if s == "" || len(s) > MaxSeriesBytes {
			return fmt.Errorf("series[%d] has %d bytes; wanted 1 to %d", i, len(s), MaxSeriesBytes)
		}
	}
	for i, r := range b.Rows {
		if len(r.Values) != len(b.Series) {
			return fmt.Errorf("rows[%d] has %d values; wanted %d, one per series", i, len(r.Values), len(b.Series))
		}
	}
	if b.Seq == 0 {
		return errors.New("seq is 0; the first batch of an epoch is 1")
	}
	if b.Prev >= b.Seq {
		return fmt.Errorf("prev %d: wanted less than seq %d", b.Prev, b.Seq)
	}
	if b.T0 <= 0 {
		return fmt.Errorf("t0 %d: wanted milliseconds since 1970", b.T0)
	}
	return errors.Join(positiveEpoch(b.Epoch), maxLen("boot", b.Boot, MaxIDLength))
}

// MarshalJSON writes a row as [offset, value, null, …].
func (r Row) MarshalJSON() ([]byte, error) {
	buf := make([]byte, 0, 16+12*len(r.Values))
	buf = append(buf, '[')
	buf = strconv.AppendInt(buf, r.OffsetMillis, 10)
	for _, v := range r.Values {
		buf = append(buf, ',')
		if math.IsNaN(v) || math.IsInf(v, 0) {
			buf = append(buf, "null"...)
		} else {
			buf = strconv.AppendFloat(buf, v, 'g', -1, 64)
		}
	}
	return append(buf, ']'), nil
}

// UnmarshalJSON reads what MarshalJSON writes. Rows are most of what a cluster agent decodes, so they have a reader of
// their own.
func (r *Row) UnmarshalJSON(data []byte) error {
	rest, err := r.ReadJSON(data)
	if err != nil {
		return fmt.Errorf("row: %w", err)
	}
	if i := skipSpace(rest, 0); i != len(rest) {
		return fmt.Errorf("row: %.20q after its end", rest[i:])
	}
	return nil
}

// Cells returns the row as the wire has it: the offset, then the values, nil for "no value". SetCells is its inverse.
// Encodings other than JSON use the pair.
func (r *Row) Cells() []*float64 {
	out := make([]*float64, 1, 1+len(r.Values))
	offset := float64(r.OffsetMillis)
	out[0] = &offset
	for i := range r.Values {
		if math.IsNaN(r.Values[i]) || math.IsInf(r.Values[i], 0) {
			out = append(out, nil)
			continue
		}
		out = append(out, &r.Values[i])
	}
	return out
}

// SetCells fills the row from its wire form.
func (r *Row) SetCells(cells []*float64) error { return r.fromCells(cells) }

func (r *Row) fromCells(cells []*float64) error {
	if len(cells) == 0 || cells[0] == nil {
		return errors.New("row has no offset; wanted [milliseconds after t0, value, …]")
	}
	if err := r.setOffset(*cells[0]); err != nil {
		return err
	}
	r.Values = make([]float64, len(cells)-1)
	for i, c := range cells[1:] {
		r.Values[i] = math.NaN()
		if c != nil {
			r.Values[i] = *c
		}
	}
	return nil
}

func (r *Row) setOffset(offset float64) error {
	if offset != math.Trunc(offset) || math.Abs(offset) > 1<<52 { // exact in a float64, and in other people's readers
		return fmt.Errorf("row offset %v: wanted whole milliseconds after t0", offset)
	}
	r.OffsetMillis = int64(offset)
	return nil
}
