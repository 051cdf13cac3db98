package telemetry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/skerry-edge/skerry/agent"
)

// All of time, as the TSDB counts it.
const (
	minTime = math.MinInt64
	maxTime = math.MaxInt64
)

// open mends what a crash or a bad disk left behind and opens the TSDB.
func (s *Store) open() (*session, error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("create directory: %w", err)
	}
	m := mender{dir: s.cfg.Dir, log: s.log.quiet(), report: s.reportDamage}
	if err := m.mend(); err != nil {
		return nil, err
	}
	ses, err := s.openTSDB()
	if err != nil && !isSystemError(err) { // what the chunks hold is in the logs too, as long as they are not in a block
		if err := m.setAside(DamageChunks, err, "chunks_head"); err != nil {
			return nil, err
		}
		ses, err = s.openTSDB()
	}
	if err != nil && !isSystemError(err) { // the last resort: the blocks stay
		if err := m.setAside(DamageHead, err, "wal", "wbl", "chunks_head"); err != nil {
			return nil, err
		}
		ses, err = s.openTSDB()
	}
	return ses, err
}

// isSystemError tells a machine that fails (permission, no space, too many files) from data that is broken: only the
// latter is cured by putting the data aside.
func isSystemError(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && errno != syscall.ENOENT && errno != syscall.ENOTDIR
}

func (s *Store) openTSDB() (*session, error) {
	reg := &registry{Registry: prometheus.NewRegistry()}
	db, err := tsdb.Open(s.cfg.Dir, s.log.quiet(), reg, s.options(), nil)
	if err != nil {
		return nil, err
	}
	s.opened++
	ses := &session{db: db, number: s.opened, wblFailed: reg.wblFailed}
	ses.ctx, ses.cancel = context.WithCancel(context.Background())
	if s.cfg.OutOfOrderWindow > 0 && ses.wblFailed == nil {
		return nil, errors.Join(errors.New("the TSDB has no counter "+wblFailedMetric), db.Close())
	}
	corruptions, err := reg.corruptions()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	for name, n := range corruptions {
		s.reportDamage(Damage{Kind: DamageOther, Path: s.cfg.Dir, Cause: fmt.Errorf("%s is %v", name, n)})
	}
	return ses, nil
}

// options trims the TSDB to a small machine: little memory per series, small files.
func (s *Store) options() *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.RetentionDuration = s.cfg.Retention.Milliseconds()
	o.MaxBytes = s.cfg.RetentionBytes
	o.MinBlockDuration = s.cfg.minBlockDuration.Milliseconds()
	o.MaxBlockDuration = max(min(s.cfg.Retention/10, longestBlock).Milliseconds(), o.MinBlockDuration)
	o.OutOfOrderTimeWindow = max(s.cfg.OutOfOrderWindow, 0).Milliseconds()
	o.WALCompression = compression.Snappy // zstd saves a fifth more and takes four times the time
	o.WALSegmentSize = s.cfg.walSegmentBytes
	o.IsolationDisabled = true // 64 bytes a series for queries that see a batch whole or not at all
	o.StripeSize = 1 << 12
	o.HeadChunksWriteBufferSize = 512 << 10
	return o
}

// registry catches the TSDB's metrics that tell what it does not return.
type registry struct {
	*prometheus.Registry
	wblFailed func() float64
}

const wblFailedMetric = "prometheus_tsdb_out_of_order_wbl_writes_failed_total"

// Register is prometheus.Registerer's.
func (r *registry) Register(c prometheus.Collector) error {
	r.look(c)
	return r.Registry.Register(c)
}

// MustRegister is prometheus.Registerer's.
func (r *registry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		r.look(c)
	}
	r.Registry.MustRegister(cs...)
}

// look remembers the counter of failed out-of-order writes. The TSDB wraps its metrics to prefix their names, so only
// the description has the whole name.
func (r *registry) look(c prometheus.Collector) {
	descs := make(chan *prometheus.Desc, 16)
	go func() { defer close(descs); c.Describe(descs) }()
	found := false
	for d := range descs {
		found = found || strings.Contains(d.String(), `"`+wblFailedMetric+`"`)
	}
	if found {
		r.wblFailed = func() float64 { return counterValue(c) }
	}
}

// corruptions returns the counters of damage that the TSDB met while it opened.
func (r *registry) corruptions() (map[string]float64, error) {
	families, err := r.Gather()
	if err != nil {
		return nil, fmt.Errorf("read the TSDB's metrics: %w", err)
	}
	out := map[string]float64{}
	for _, f := range families {
		switch f.GetName() {
		case "prometheus_tsdb_wal_corruptions_total", "prometheus_tsdb_mmap_chunk_corruptions_total":
			for _, m := range f.GetMetric() {
				if v := m.GetCounter().GetValue(); v > 0 {
					out[f.GetName()] = v
				}
			}
		}
	}
	return out, nil
}

// DamageKind says what was damaged.
type DamageKind string

// The kinds.
const (
	DamageLog        DamageKind = "log"        // the end of a segment of the write-ahead log was cut off
	DamageCheckpoint DamageKind = "checkpoint" // of the write-ahead log; cut off as well
	DamageBlock      DamageKind = "block"      // could not be opened and was set aside
	DamageChunks     DamageKind = "chunks"     // of the newest samples; set aside, and made anew from the logs
	DamageHead       DamageKind = "head"       // the logs could not be opened and were set aside
	DamageOther      DamageKind = "other"      // met and mended by the TSDB itself
)

// Damage is a loss found while opening. After a power cut it is the end of the log, which was never acknowledged end to
// end; anything else is a disk that does not keep what it is given.
type Damage struct {
	Kind  DamageKind
	Path  string
	Bytes int64 // cut off or set aside
	Cause error
}

func (s *Store) reportDamage(d Damage) {
	s.metrics.damage.WithLabelValues(string(d.Kind)).Inc()
	s.log.Warn("telemetry was damaged", agent.KeyReason, string(d.Kind), agent.KeyPath, d.Path, agent.KeyBytes, d.Bytes, agent.KeyErr, d.Cause)
	if s.cfg.OnDamage != nil {
		s.cfg.OnDamage(d)
	}
}

// segments returns the names of a log's segments in order.
func segments(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted; the names have eight digits
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.IsDir() && isSegment(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func isSegment(name string) bool {
	return len(name) == 8 && strings.Trim(name, "0123456789") == ""
}

// logBytes is the size of the write-ahead logs.
func logBytes(dir string) (sum int64) {
	for _, log := range []string{"wal", "wbl"} {
		names, err := segments(filepath.Join(dir, log))
		if err != nil {
			continue
		}
		for _, name := range names {
			if st, err := os.Stat(filepath.Join(dir, log, name)); err == nil {
				sum += st.Size()
			}
		}
	}
	return sum
}
