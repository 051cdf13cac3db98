package mqtt

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/api"
)

// ReadBatch reads the JSON of a batch as every node writes it, without reflection: batches are nearly all of what a
// cluster agent decodes. Whatever is in any way unusual, faults included, it leaves to the strict path by returning
// false; what it takes, the strict path takes with the same result (FuzzBatchIsReadAsTheStrictPathReadsIt).
func ReadBatch(data []byte) (*api.Batch, bool) {
	if !utf8.Valid(data) {
		return nil, false
	}
	r := batchReader{data: data}
	if !r.take('{') {
		return nil, false
	}
	for {
		if !r.field() {
			return nil, false
		}
		if r.take(',') {
			continue
		}
		return &r.batch, r.take('}') && skipSpace(r.data, r.at) == len(r.data)
	}
}

// batchReader walks over data. Its methods report whether all was usual.
type batchReader struct {
	batchFields
	batch api.Batch
	data  []byte
	at    int
}

// take skips white space and then c.
func (r *batchReader) take(c byte) bool {
	r.at = skipSpace(r.data, r.at)
	if r.at < len(r.data) && r.data[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *batchReader) field() bool {
	key, plain := r.text()
	return plain && r.take(':') && r.read(&r.batch, string(key), r)
}

// text reads a string and returns what is between its quotes. plain is false when there is no string, or one with
// escapes or control characters.
func (r *batchReader) text() (raw []byte, plain bool) {
	if !r.take('"') {
		return nil, false
	}
	for i := r.at; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			raw = r.data[r.at:i]
			r.at = i + 1
			return raw, true
		case c == '\\' || c < ' ':
			return nil, false
		}
	}
	return nil, false
}

func (r *batchReader) string(s *string) bool {
	raw, plain := r.text()
	*s = string(raw)
	return plain
}

// integer reads the text of a JSON integer.
func (r *batchReader) integer() string {
	r.at = skipSpace(r.data, r.at)
	i := r.at
	if i < len(r.data) && r.data[i] == '-' {
		i++
	}
	start := i
	for i < len(r.data) && r.data[i] >= '0' && r.data[i] <= '9' {
		i++
	}
	if i-start > 1 && r.data[start] == '0' { // RFC 8259 §6 has no leading zeros
		return ""
	}
	text := r.data[r.at:i]
	r.at = i // what follows has to be a comma or a bracket; a fraction or an exponent is not
	return string(text)
}

func (r *batchReader) unsigned(v *uint64) (ok bool) {
	n, err := strconv.ParseUint(r.integer(), 10, 64)
	*v = n
	return err == nil
}

func (r *batchReader) signed(v *int64) (ok bool) {
	n, err := strconv.ParseInt(r.integer(), 10, 64)
	*v = n
	return err == nil
}

func (r *batchReader) boolean(v *bool) bool {
	r.at = skipSpace(r.data, r.at)
	rest := r.data[r.at:]
	switch {
	case bytes.HasPrefix(rest, []byte("false")):
		r.at += len("false")
	case bytes.HasPrefix(rest, []byte("true")):
		r.at += len("true")
		*v = true
	default:
		return false
	}
	return true
}

// series reads the names into one string, of which each is a part. Label values bring escaped quotes.
func (r *batchReader) series() bool {
	if !r.take('[') {
		return false
	}
	end := bytes.IndexByte(r.data[r.at:], ']')
	if end < 0 {
		return false
	}
	text := make([]byte, 0, end)
	ends := make([]int, 0, bytes.Count(r.data[r.at:r.at+end], []byte{','})+1)
	for {
		var ok bool
		if text, ok = r.unescape(text); !ok {
			return false
		}
		ends = append(ends, len(text))
		if r.take(']') {
			break
		}
		if !r.take(',') {
			return false
		}
	}
	all, start := string(text), 0
	r.batch.Series = make([]string, len(ends))
	for i, end := range ends {
		r.batch.Series[i] = all[start:end]
		start = end
	}
	return true
}

// unescape reads a string and appends it to text.
func (r *batchReader) unescape(text []byte) ([]byte, bool) {
	if !r.take('"') {
		return nil, false
	}
	for r.at < len(r.data) {
		c := r.data[r.at]
		r.at++
		switch {
		case c == '"':
			return text, true
		case c < ' ':
			return nil, false
		case c == '\\':
			if r.at == len(r.data) || r.data[r.at] != '"' && r.data[r.at] != '\\' {
				return nil, false
			}
			c = r.data[r.at]
			r.at++
		}
		text = append(text, c)
	}
	return nil, false
}

func (r *batchReader) rows() bool {
	if !r.take('[') {
		return false
	}
	r.batch.Rows = make([]api.Row, 0, bytes.Count(r.data[r.at:], []byte{'['}))
	for {
		var row api.Row
		rest, err := row.ReadJSON(r.data[r.at:])
		if err != nil {
			return false
		}
		r.at = len(r.data) - len(rest)
		r.batch.Rows = append(r.batch.Rows, row)
		if r.take(']') {
			return true
		}
		if !r.take(',') {
			return false
		}
	}
}
