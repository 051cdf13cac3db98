package api

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
)

func equalRows(a, b Row) bool {
	return a.OffsetMillis == b.OffsetMillis && slices.EqualFunc(a.Values, b.Values, func(x, y float64) bool {
		return math.Float64bits(x) == math.Float64bits(y) || math.IsNaN(x) && math.IsNaN(y)
	})
}

// referenceRow reads a row by way of encoding/json alone.
func referenceRow(data []byte) (r Row, err error) {
	var cells []*float64
	if err = json.Unmarshal(data, &cells); err == nil {
		err = r.SetCells(cells)
	}
	return r, err
}

func TestRowRoundTrip(t *testing.T) {
	for _, r := range []Row{
		{0, []float64{}}, {-5, []float64{0, math.Copysign(0, -1), math.NaN()}},
		{1 << 52, []float64{math.MaxFloat64, math.SmallestNonzeroFloat64, 1e21, 1e-7, 0.1, 123456789.125}},
	} {
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back Row
		if err := json.Unmarshal(raw, &back); err != nil || !equalRows(r, back) {
			t.Errorf("%s became %v, %v", raw, back, err)
		}
		var cells Row
		if err := cells.SetCells(r.Cells()); err != nil || !equalRows(r, cells) {
			t.Errorf("cells of %v became %v, %v", r, cells, err)
		}
	}
	raw, err := json.Marshal(Row{1, []float64{math.Inf(1), math.NaN()}})
	if err != nil || string(raw) != "[1,null,null]" {
		t.Errorf("no value became %s, %v", raw, err)
	}
}

func TestRowRefusesWhatIsNoRow(t *testing.T) {
	for text, want := range map[string]string{
		"": "wanted [milliseconds", "null": "wanted [milliseconds", "{}": "wanted [milliseconds", "[]": "no offset", "[null,1]": "no offset",
		"[1": "no end", "[1,": "no end", "[1,]": "wanted a number or null", "[1 2]": "wanted a comma", "[1.5]": "whole milliseconds",
		"[1e300]": "whole milliseconds", "[1,1e999]": "beyond a 64-bit float", "[1,01]": "wanted a number", "[1,.5]": "wanted a number",
		"[1,5.]": "wanted a number", "[1,+5]": "wanted a number", "[1,0x5]": "wanted a comma", "[1,NaN]": "wanted a number", "[1,-]": "wanted a number",
		"[1,1e]": "wanted a number", "[1,nul]": "wanted a number", "[1,\"2\"]": "wanted a number", "[1] 2": "after its end", "[1,[2]]": "wanted a number",
	} {
		var r Row
		if err := r.UnmarshalJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; wanted an error that says %q", text, err, want)
		}
	}
}

func FuzzRowIsReadAsEncodingJSONReadsIt(f *testing.F) {
	for _, s := range []string{"[0]", " [ 1 , 2.5e-3 ,null,-0 ] ", "[1,]", "[01]", "[1,1e999]", "[1,null", "null", "[1e3,1E+2]", "[[1]]", "[1]]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := referenceRow(data)
		var got Row
		err := got.UnmarshalJSON(data)
		if (err == nil) != (wantErr == nil) || err == nil && !equalRows(got, want) {
			t.Fatalf("%q: %v, %v; encoding/json says %v, %v", data, got, err, want, wantErr)
		}
	})
}
