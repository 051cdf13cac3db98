package mqtt

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// typicalBatch is what a node with default probes sends: names of node_exporter, values of a running machine.
func typicalBatch(series, rows int) *api.Batch {
	b := &api.Batch{Epoch: 7, Seq: 981, Prev: 980, Boot: "0f0e7f3c-5a53-4c1e-9f5e-6b7c2d8c1a2b", T0: 1764000000000, Mono: 86400123,
		TimeQuality: api.TimeSynced}
	for i := range series {
		b.Series = append(b.Series, fmt.Sprintf("node_network_receive_bytes_total{device=\"eth%d\"}", i))
	}
	for r := range rows {
		row := api.Row{OffsetMillis: int64(r) * 10000}
		for i := range series {
			row.Values = append(row.Values, []float64{0.31, 1.2e9 + float64(i*4096), float64(i), 0.0625 * float64(i*r)}[i%4])
		}
		b.Rows = append(b.Rows, row)
	}
	return b
}

func BenchmarkDecodeBatch(b *testing.B) {
	codec, err := NewCodec()
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range [][2]int{{20, 3}, {60, 6}} {
		for _, enc := range []Encoding{JSON, CBOR} {
			data, err := codec.Encode(enc, typicalBatch(size[0], size[1]))
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%dx%d/%s", size[0], size[1], []string{"json", "cbor"}[enc]), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					var got api.Batch
					if err := codec.Decode(KindTele, data, &got); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func equalBatches(a, b *api.Batch) bool {
	rows := func(x, y api.Row) bool {
		return x.OffsetMillis == y.OffsetMillis && slices.EqualFunc(x.Values, y.Values, func(v, w float64) bool {
			return math.Float64bits(v) == math.Float64bits(w) || math.IsNaN(v) && math.IsNaN(w)
		})
	}
	x, y := *a, *b
	x.Rows, y.Rows = nil, nil
	return reflect.DeepEqual(x, y) && slices.EqualFunc(a.Rows, b.Rows, rows)
}

func TestBatchOfANodeTakesTheFastPath(t *testing.T) {
	b := typicalBatch(20, 3)
	b.Rows[1].Values[4] = math.NaN()
	data, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := ReadBatch(data)
	if !ok || !equalBatches(got, b) {
		t.Errorf("taken %v, %+v; wanted %+v", ok, got, b)
	}
}

func TestCBORBatchOfANodeTakesTheFastPath(t *testing.T) {
	b := typicalBatch(20, 3)
	b.Historical = true
	b.Rows[0].Values = []float64{0, -1, 1.5, -65504, 1e-7, 5.960464477539063e-08, math.NaN(), math.MaxUint64, 1e300, 24, 256, 65536, 1 << 40, -24,
		-256, -65537, 0.1, 3.4e38, math.SmallestNonzeroFloat64, math.Copysign(0, -1)}
	codec, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	data, err := codec.Encode(CBOR, b)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := readBatchCBOR(data)
	if !ok || !equalBatches(got, b) {
		t.Errorf("taken %v, %+v; wanted %+v", ok, got, b)
	}
	for end := range data {
		if _, ok := readBatchCBOR(data[:end]); ok {
			t.Fatalf("took the first %d of %d bytes for a batch", end, len(data))
		}
	}
}

func TestEveryHalfFloatIsReadAsTheStrictPathReadsIt(t *testing.T) {
	codec, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	for bits := range 1 << 16 {
		var want float64
		if err := codec.dec.Unmarshal([]byte{0xf9, byte(bits >> 8), byte(bits)}, &want); err != nil {
			t.Fatal(err)
		}
		if got := half(uint16(bits)); math.Float64bits(got) != math.Float64bits(want) && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Fatalf("half %04x is %v; the strict path reads %v", bits, got, want)
		}
	}
}

func FuzzCBORBatchIsReadAsTheStrictPathReadsIt(f *testing.F) {
	codec, err := NewCodec()
	if err != nil {
		f.Fatal(err)
	}
	whole, err := codec.Encode(CBOR, typicalBatch(2, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, s := range []string{
		"\xa0", "\xa1\x63seq\x01", "\xa2\x63seq\x01\x63seq\x02", "\xa1\x64mono\x20", "\xa1\x64mono\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
		"\xa1\x63seq\x1b\x00\x00\x00\x00\x00\x00\x00\x01", "\xa1\x64rows\x81\x81\x00", "\xa1\x64rows\x81\x82\x00\xf9\x7c\x01",
		"\xa1\x64rows\x81\x82\xf9\x3c\x00\xf6", "\xa1\x66series\x9a\xff\xff\xff\xff", "\xa1\x6ahistorical\xf4", "\xa1\x6ahistorical\xf8\x14",
		"\xa1\x64boot\xf6", "\xa1\x64boot\x61\xff", "\xbf\xff", "\xa1\x64rows\x80", "\xa1\x66series\x80", "\xa1\x64rows\x81\x82\x00\xf7",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fast, ok := readBatchCBOR(data)
		if !ok {
			return
		}
		var w wireBatch
		var strict api.Batch
		if err := codec.dec.Unmarshal(data, &w); err != nil {
			t.Fatalf("%x: the strict path refuses: %v", data, err)
		}
		if err := w.to(&strict); err != nil {
			t.Fatalf("%x: the strict path refuses: %v", data, err)
		}
		if !equalBatches(fast, &strict) {
			t.Fatalf("%x: %+v; the strict path reads %+v", data, fast, &strict)
		}
	})
}

func FuzzBatchIsReadAsTheStrictPathReadsIt(f *testing.F) {
	whole, err := json.Marshal(typicalBatch(2, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, s := range []string{
		`{"epoch":1,"epoch":2,"rows":[[1]],"series":["a"]}`, `{"Epoch":1}`, `{"epoch":01}`, `{"epoch":1.0}`, `{"epoch":-1}`, `{"mono":-0}`,
		`{"epoch":18446744073709551616}`, ` { "t0" : 5 , "series" : [ "a\"\\" ] , "rows" : [ [ 1 , null ] , [2,-0] ] } `, `{"boot":null}`,
		`{"boot":"a\u0041"}`, `{"boot":"` + "\xff" + `"}`, `{"boot":"a` + "\x01" + `"}`, `{"historical":true}`, `{"historical":truex}`, `{}`, `{,}`,
		`{"seq":1,}`, `{"seq":1}}`, `{"rows":[]}`, `{"rows":[null]}`, `{"series":[]}`, `{"rows":[[1]],"x":{}}`, `{"series":["]",","]}`, `[]`, `{"seq":}`,
		`{"seq":-}`, `{"mono":--1}`, `{"ſeq":1}`, `{"seq":1e2}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fast, ok := ReadBatch(data)
		if !ok {
			return
		}
		var strict api.Batch
		if err := decodeJSON(data, &strict, false); err != nil {
			t.Fatalf("%q: the strict path refuses: %v", data, err)
		}
		if !equalBatches(fast, &strict) {
			t.Fatalf("%q: %+v; the strict path reads %+v", data, fast, &strict)
		}
	})
}
