package mqtt

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/api"
)

// The major types of RFC 8949 §3.1 that a batch is made of.
const (
	cborUnsigned = 0
	cborNegative = 1
	cborText     = 3
	cborArray    = 4
	cborMap      = 5
	cborSimple   = 7
)

// readBatchCBOR is ReadBatch for CBOR.
func readBatchCBOR(data []byte) (*api.Batch, bool) {
	r := cborReader{data: data}
	fields, ok := r.head(cborMap)
	if !ok || fields > 16 {
		return nil, false
	}
	for range fields {
		if !r.field() {
			return nil, false
		}
	}
	return &r.batch, r.at == len(data)
}

// cborReader walks over data. Its methods report whether all was usual.
type cborReader struct {
	batchFields
	batch api.Batch
	data  []byte
	at    int
}

// item reads the head of any item of definite length; arg is its argument, size how many bytes that took.
func (r *cborReader) item() (major byte, arg uint64, size int, ok bool) {
	if r.at >= len(r.data) {
		return 0, 0, 0, false
	}
	first := r.data[r.at]
	major, arg = first>>5, uint64(first&31)
	r.at++
	if arg < 24 {
		return major, arg, 0, true
	}
	if arg > 27 {
		return 0, 0, 0, false
	}
	size = 1 << (arg - 24)
	rest := r.data[r.at:]
	if len(rest) < size {
		return 0, 0, 0, false
	}
	r.at += size
	switch size {
	case 1:
		arg = uint64(rest[0])
	case 2:
		arg = uint64(binary.BigEndian.Uint16(rest))
	case 4:
		arg = uint64(binary.BigEndian.Uint32(rest))
	default:
		arg = binary.BigEndian.Uint64(rest)
	}
	return major, arg, size, true
}

// head reads the head of an item of a major type. What it announces is at most what is left: an element takes a byte or
// more, so nothing is allocated for what cannot be there.
func (r *cborReader) head(want byte) (n int, ok bool) {
	major, arg, _, ok := r.item()
	if !ok || major != want || arg > uint64(len(r.data)-r.at) {
		return 0, false
	}
	return int(arg), true
}

// text reads a text without copying it.
func (r *cborReader) text() ([]byte, bool) {
	n, ok := r.head(cborText)
	if !ok {
		return nil, false
	}
	raw := r.data[r.at : r.at+n]
	r.at += n
	return raw, utf8.Valid(raw)
}

func (r *cborReader) field() bool {
	key, ok := r.text()
	return ok && r.read(&r.batch, string(key), r)
}

func (r *cborReader) string(s *string) bool {
	raw, ok := r.text()
	*s = string(raw)
	return ok
}

func (r *cborReader) unsigned(v *uint64) bool {
	major, arg, _, ok := r.item()
	*v = arg
	return ok && major == cborUnsigned
}

func (r *cborReader) signed(v *int64) bool {
	major, arg, _, ok := r.item()
	if !ok || arg > math.MaxInt64 {
		return false
	}
	switch major {
	case cborUnsigned:
		*v = int64(arg)
	case cborNegative:
		*v = -1 - int64(arg)
	default:
		return false
	}
	return true
}

func (r *cborReader) boolean(v *bool) bool {
	major, arg, size, ok := r.item()
	*v = arg == 21
	return ok && major == cborSimple && size == 0 && (arg == 20 || arg == 21)
}

// series reads the names into one string, of which each is a part.
func (r *cborReader) series() bool {
	n, ok := r.head(cborArray)
	if !ok || n > api.MaxSeries {
		return false
	}
	start := r.at
	ends := make([]int, n)
	text := make([]byte, 0, len(r.data)-start)
	for i := range ends {
		raw, ok := r.text()
		if !ok {
			return false
		}
		text = append(text, raw...)
		ends[i] = len(text)
	}
	all, from := string(text), 0
	r.batch.Series = make([]string, n)
	for i, end := range ends {
		r.batch.Series[i] = all[from:end]
		from = end
	}
	return true
}

func (r *cborReader) rows() bool {
	n, ok := r.head(cborArray)
	if !ok || n > api.MaxRows {
		return false
	}
	r.batch.Rows = make([]api.Row, n)
	for i := range r.batch.Rows {
		row := &r.batch.Rows[i]
		cells, ok := r.head(cborArray)
		if !ok || cells < 1 || cells > api.MaxSeries+1 || !r.offset(&row.OffsetMillis) {
			return false
		}
		row.Values = make([]float64, cells-1)
		for j := range row.Values {
			if row.Values[j], ok = r.number(); !ok {
				return false
			}
		}
	}
	return true
}

// offset reads whole milliseconds, which travel as a number like the values after them.
func (r *cborReader) offset(v *int64) bool {
	n, ok := r.number()
	*v = int64(n)
	return ok && n == math.Trunc(n) && math.Abs(n) <= 1<<52
}

// number reads a value, null being NaN.
func (r *cborReader) number() (float64, bool) {
	major, arg, size, ok := r.item()
	switch {
	case !ok:
		return 0, false
	case major == cborUnsigned:
		return float64(arg), true
	case major == cborNegative && arg <= math.MaxInt64:
		return float64(-1 - int64(arg)), true
	case major != cborSimple:
		return 0, false
	}
	switch size {
	case 2:
		return half(uint16(arg)), true
	case 4:
		return float64(math.Float32frombits(uint32(arg))), true
	case 8:
		return math.Float64frombits(arg), true
	}
	return math.NaN(), size == 0 && arg == 22
}

// half is the value of a half-precision float (RFC 8949 appendix D).
func half(bits uint16) float64 {
	exponent, mantissa := int(bits>>10&31), float64(bits&1023)
	var v float64
	switch exponent {
	case 0:
		v = math.Ldexp(mantissa, -24)
	case 31:
		v = math.Inf(1)
		if mantissa != 0 {
			v = math.NaN()
		}
	default:
		v = math.Ldexp(mantissa+1024, exponent-25)
	}
	if bits>>15 == 1 {
		v = -v
	}
	return v
}
