package probe

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/skerry-edge/skerry/api"
)

const (
	// maxBatchBytes keeps a batch in JSON under api.MaxMessageBytes with room for a signature or an envelope.
	maxBatchBytes = 100 << 10
	minBatchBytes = 4 << 10
	// envelopeBytes is more than everything around series and rows takes, the boot id included.
	envelopeBytes = 512
	// maxSkew is how far wall clock and boot clock may drift apart within a batch, whose rows share one T0.
	maxSkew = 500 * time.Millisecond
)

// BatchConfig says when a batch is full. Boot is the kernel's boot id.
type BatchConfig struct {
	Boot     string
	Rows     int           // scrapes in a batch; 0 means 1
	Age      time.Duration // from its first to its last scrape; 0 means no limit
	MaxBytes int           // as JSON; 0 means 100 KiB
}

// Batcher gathers scrapes into batches. Not for concurrent use.
type Batcher struct {
	cfg     BatchConfig
	index   map[string]int
	series  []string
	rows    []api.Row // values shorter than series: the rest is NaN
	first   Scrape
	size    int // upper bound of the JSON
	scratch []byte
}

// NewBatcher checks cfg.
func NewBatcher(cfg BatchConfig) (*Batcher, error) {
	if cfg.Rows == 0 {
		cfg.Rows = 1
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = maxBatchBytes
	}
	var errs []error
	if cfg.Boot == "" || len(cfg.Boot) > api.MaxIDLength {
		errs = append(errs, fmt.Errorf("boot %q: wanted 1 to %d bytes", cfg.Boot, api.MaxIDLength))
	}
	if cfg.Rows < 1 || cfg.Rows > api.MaxRows {
		errs = append(errs, fmt.Errorf("rows %d: wanted 1 to %d", cfg.Rows, api.MaxRows))
	}
	if cfg.Age < 0 {
		errs = append(errs, fmt.Errorf("age %s: wanted none below 0", cfg.Age))
	}
	if cfg.MaxBytes < minBatchBytes || cfg.MaxBytes > maxBatchBytes {
		errs = append(errs, fmt.Errorf("maxBytes %d: wanted %d to %d", cfg.MaxBytes, minBatchBytes, maxBatchBytes))
	}
	return &Batcher{cfg: cfg, index: make(map[string]int)}, errors.Join(errs...)
}

// Add takes a scrape and returns the batches that it completes, oldest first; none as a rule while Rows is above 1.
// Their Epoch, Seq and Prev are the outbox's to set. A scrape without samples leaves no row.
func (b *Batcher) Add(s Scrape) []api.Batch {
	var out []api.Batch
	if len(b.rows) > 0 && (!b.sameTime(s) || b.cost(s) > b.cfg.MaxBytes) {
		out = append(out, b.take())
	}
	for rest := s.Samples; len(rest) > 0; {
		n := b.fits(s, rest)
		b.add(s, rest[:n])
		if rest = rest[n:]; len(rest) > 0 {
			out = append(out, b.take())
		}
	}
	if len(b.rows) >= b.cfg.Rows || len(b.rows) > 0 && b.cfg.Age > 0 && s.Mono-b.first.Mono >= b.cfg.Age {
		out = append(out, b.take())
	}
	return out
}

// Flush returns what has been gathered, nil when that is nothing.
func (b *Batcher) Flush() []api.Batch {
	if len(b.rows) == 0 {
		return nil
	}
	return []api.Batch{b.take()}
}

// sameTime reports whether s can share T0 with the rows before it: no clock was set in between.
func (b *Batcher) sameTime(s Scrape) bool {
	skew := s.At.Sub(b.first.At) - (s.Mono - b.first.Mono)
	return s.Quality == b.first.Quality && skew.Abs() <= maxSkew && s.Mono >= b.first.Mono
}

// cost is the size of the batch with s in it.
func (b *Batcher) cost(s Scrape) int {
	size, fresh := b.size+24, 0
	for i := range s.Samples {
		if _, known := b.index[s.Samples[i].Series]; !known {
			fresh++
			size += b.seriesCost(s.Samples[i].Series)
		}
		size += b.valueCost(s.Samples[i].Value)
	}
	if len(b.series)+fresh > api.MaxSeries || len(b.rows) >= api.MaxRows {
		return math.MaxInt
	}
	// Series that s lacks are null in its row.
	return size + len("null,")*(len(b.series)-(len(s.Samples)-fresh))
}

// fits is how many samples of rest the batch holds, at least one.
func (b *Batcher) fits(s Scrape, rest []Sample) int {
	if len(b.rows) > 0 { // Add has asked for the whole of it
		return len(rest)
	}
	size := envelopeBytes + 24
	for i := range rest {
		size += b.seriesCost(rest[i].Series) + b.valueCost(rest[i].Value)
		if i > 0 && (size > b.cfg.MaxBytes || i == api.MaxSeries) {
			return i
		}
	}
	return len(rest)
}

func (b *Batcher) add(s Scrape, samples []Sample) {
	if len(b.rows) == 0 {
		b.first = Scrape{Mono: s.Mono, At: s.At, Quality: s.Quality}
		b.size = envelopeBytes
		b.series = make([]string, 0, len(samples))
	}
	b.size = b.cost(Scrape{Samples: samples})
	values := make([]float64, len(b.series), len(b.series)+len(samples))
	for i := range values {
		values[i] = math.NaN()
	}
	for _, v := range samples {
		at, known := b.index[v.Series]
		if !known {
			at = len(b.series)
			b.index[v.Series] = at
			b.series = append(b.series, v.Series)
			values = append(values, 0)
		}
		values[at] = v.Value
	}
	b.rows = append(b.rows, api.Row{OffsetMillis: (s.Mono - b.first.Mono).Milliseconds(), Values: values})
}

func (b *Batcher) take() api.Batch {
	for i := range b.rows {
		for len(b.rows[i].Values) < len(b.series) {
			b.rows[i].Values = append(b.rows[i].Values, math.NaN())
		}
	}
	batch := api.Batch{Boot: b.cfg.Boot, T0: api.At(b.first.At), Mono: b.first.Mono.Milliseconds(),
		TimeQuality: b.first.Quality, Series: b.series, Rows: b.rows}
	b.series, b.rows, b.size = nil, nil, 0
	clear(b.index)
	return batch
}

// seriesCost is at most what a series adds: its name as a JSON string, and null in every row so far.
func (b *Batcher) seriesCost(s string) int {
	n := len(`"",`) + len("null,")*len(b.rows)
	for i := 0; i < len(s); {
		r, width := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			n += 2
		case r < ' ' || r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029',
			r == utf8.RuneError, r == 0x7f:
			n += len(`\u0000`)
		default:
			n += width
		}
		i += width
	}
	return n
}

func (b *Batcher) valueCost(v float64) int {
	b.scratch = strconv.AppendFloat(b.scratch[:0], v, 'g', -1, 64)
	return max(len(b.scratch), len("null")) + 1
}
