package telemetry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// numbered is a series that no compression makes small.
func numbered(i int) string {
	return fmt.Sprintf(`m{i="%d",text="%x"}`, i, sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
}

// damaged starts a store on a directory whose log holds a thousand samples in several segments, after harm was done.
func damaged(t *testing.T, harm func(dir string)) (s *running, reports []Damage, count float64) {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{Dir: dir, walSegmentBytes: 2 * walPage}
	s = start(t, cfg)
	now := time.Now().Truncate(time.Second)
	for i := range 1000 {
		mustAppend(t, s.Store, "n", batch(numbered(i), now, 0, float64(i)))
		if i%10 == 0 {
			mustAppend(t, s.Store, "n", batch(numbered(i), now.AddDate(0, 0, -1), 0, float64(i)))
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	harm(dir)
	cfg.OnDamage = func(d Damage) { reports = append(reports, d) }
	s = start(t, cfg)
	got := instant(t, s.Store, `count(m)`, now)
	if len(got) == 1 {
		count = got[0].Points[0].Value
	}
	if n := testutil.CollectAndCount(s.metrics.damage); n == 0 && len(reports) > 0 {
		t.Error("the damage is not counted")
	}
	mustAppend(t, s.Store, "n", batch("after", now, 0, 1))
	if v := scalar(t, s.Store, "after", now); v != 1 {
		t.Errorf("after damage: got %v; wanted 1", v)
	}
	return s, reports, count
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(raw), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newest returns the last segment of a log that has anything in it.
func newest(t *testing.T, dir string) string {
	t.Helper()
	names, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(names) - 1; i >= 0; i-- {
		if st, err := os.Stat(filepath.Join(dir, names[i])); err == nil && st.Size() > 0 {
			return filepath.Join(dir, names[i])
		}
	}
	t.Fatal("the log is empty")
	return ""
}

func TestATornLogEndLosesOnlyItsEnd(t *testing.T) {
	_, reports, count := damaged(t, func(dir string) {
		edit(t, newest(t, filepath.Join(dir, "wal")), func(raw []byte) []byte {
			whole := len(strings.TrimRight(string(raw), "\x00"))
			return raw[:whole-9]
		})
	})
	if count != 999 {
		t.Errorf("%v of 1000 series are left; wanted 999", count)
	}
	if len(reports) != 1 || reports[0].Kind != DamageLog || reports[0].Bytes == 0 || reports[0].Cause == nil {
		t.Errorf("reported %v; wanted one damaged log", reports)
	}
}

func TestAFlippedBitCostsTheRestOfItsSegmentAlone(t *testing.T) {
	_, reports, count := damaged(t, func(dir string) {
		edit(t, filepath.Join(dir, "wal", "00000001"), func(raw []byte) []byte { raw[walPage+1000] ^= 4; return raw })
	})
	if count < 700 || count > 990 {
		t.Errorf("%v of 1000 series are left; wanted all but half a segment's", count)
	}
	if len(reports) != 1 || reports[0].Kind != DamageLog {
		t.Errorf("reported %v; wanted one damaged log", reports)
	}
}

// The TSDB would give the numbers of series that were cut out of the log to new ones, and with them, at the next start, the late
// samples of those, which are in a log of their own.
func TestNoSeriesInheritsTheSamplesOfOneThatWasCutOut(t *testing.T) {
	s, _, count := damaged(t, func(dir string) {
		edit(t, newest(t, filepath.Join(dir, "wal")), func(raw []byte) []byte { return raw[:len(raw)/3] })
	})
	lost := 1000 - int(count)
	if lost < 20 {
		t.Fatalf("%d series are lost; wanted some that have late samples", lost)
	}
	now := time.Now().Truncate(time.Second)
	for i := range 2 * lost {
		mustAppend(t, s.Store, "n", batch(fmt.Sprintf(`fresh{i="%d"}`, i), now, 0, 1))
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, Config{Dir: s.cfg.Dir, walSegmentBytes: 2 * walPage})
	if got := instant(t, s.Store, `count(fresh)`, now); len(got) != 1 || got[0].Points[0].Value != float64(2*lost) {
		t.Errorf("of the new series there are %v; wanted %d", got, 2*lost)
	}
	if got := instant(t, s.Store, `count(count_over_time(fresh[1h]))`, now.AddDate(0, 0, -1).Add(time.Minute)); len(got) != 0 {
		t.Errorf("%v new series have samples of yesterday", got[0].Points[0].Value)
	}
}

func TestADamagedOutOfOrderLogCostsLateSamplesAlone(t *testing.T) {
	_, reports, count := damaged(t, func(dir string) {
		edit(t, newest(t, filepath.Join(dir, "wbl")), func(raw []byte) []byte { raw[100] ^= 1; return raw })
	})
	if count != 1000 || len(reports) != 1 {
		t.Errorf("%v of 1000 series are left, reported %v; wanted all and one report", count, reports)
	}
}

func TestDamagedChunksAreMadeAnewFromTheLogs(t *testing.T) {
	for name, damage := range map[string]func(chunks string) error{
		"no directory": func(chunks string) error { return errors.Join(os.RemoveAll(chunks), os.WriteFile(chunks, nil, 0o600)) },
		"a torn file": func(chunks string) error { // the TSDB itself removes the last one when it holds nothing
			torn, last := filepath.Join(chunks, "000001"), filepath.Join(chunks, "000002")
			return errors.Join(os.WriteFile(torn, []byte{1, 2, 3}, 0o600), os.WriteFile(last, make([]byte, 100), 0o600))
		},
	} {
		_, reports, count := damaged(t, func(dir string) {
			if err := damage(filepath.Join(dir, "chunks_head")); err != nil {
				t.Fatal(err)
			}
		})
		if count != 1000 || len(reports) != 1 || reports[0].Kind != DamageChunks {
			t.Errorf("%s: %v of 1000 series are left, reported %v; wanted all and the chunks set aside", name, count, reports)
		}
	}
}

func TestALogThatCannotBeOpenedIsSetAside(t *testing.T) {
	s, reports, count := damaged(t, func(dir string) { // more segments seem to be missing than a log has
		last := newest(t, filepath.Join(dir, "wal"))
		if err := os.Rename(last, filepath.Join(filepath.Dir(last), "00009999")); err != nil {
			t.Fatal(err)
		}
	})
	if count != 0 || !slices.ContainsFunc(reports, func(d Damage) bool { return d.Kind == DamageHead }) {
		t.Errorf("%v series are left, reported %v; wanted the head set aside", count, reports)
	}
	kept, err := filepath.Glob(filepath.Join(s.cfg.Dir, asideDir, "*-wal", "00000001"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept %v, %v; wanted the segments that could still be read", kept, err)
	}
}

func TestALostSegmentIsReported(t *testing.T) {
	_, reports, count := damaged(t, func(dir string) {
		if err := os.Remove(filepath.Join(dir, "wal", "00000001")); err != nil {
			t.Fatal(err)
		}
	})
	if count < 500 || count >= 1000 || len(reports) != 1 || reports[0].Kind != DamageLog {
		t.Errorf("%v of 1000 series are left, reported %v; wanted most and one report", count, reports)
	}
}

func TestADamagedBlockIsSetAsideAndTheRestServes(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir}
	s := start(t, cfg)
	now := time.Now().Truncate(time.Hour)
	old := now.Add(-20 * time.Hour)
	for h := range 20 {
		mustAppend(t, s.Store, "n", batch("m", old.Add(time.Duration(h)*time.Hour), time.Minute, 1, 2, 3))
	}
	if err := s.session.db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	blocks := len(s.session.db.Blocks())
	if blocks < 2 {
		t.Fatalf("%d blocks; wanted some", blocks)
	}
	oldest := s.session.db.Blocks()[0] // the newest may still be in the log, and would be whole again
	// How much of a day one block holds depends on the hour: blocks are cut at multiples of their length.
	wanted := 60 - float64(oldest.Meta().Stats.NumSamples)
	path := oldest.Dir()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(path, "index"), func(raw []byte) []byte { return raw[:len(raw)/2] })
	var reports []Damage
	cfg.OnDamage = func(d Damage) { reports = append(reports, d) }
	s = start(t, cfg)
	if len(reports) != 1 || reports[0].Kind != DamageBlock || len(s.session.db.Blocks()) != blocks-1 {
		t.Errorf("reported %v with %d of %d blocks left; wanted one less", reports, len(s.session.db.Blocks()), blocks)
	}
	if n := scalar(t, s.Store, "count_over_time(m[1d])", now); n != wanted || n == 60 {
		t.Errorf("%v samples are left of 60; wanted %v, all that were in other blocks", n, wanted)
	}
}

func TestADamagedCheckpointIsCutAndTheLogKept(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, walSegmentBytes: 2 * walPage}
	s := start(t, cfg)
	now := time.Now().Truncate(time.Second)
	for h := 8; h >= 0; h-- {
		for i := range 1500 {
			mustAppend(t, s.Store, "n", batch(numbered(i), now.Add(-time.Duration(h)*time.Hour), 0, 1))
		}
	}
	if err := s.session.db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	_, path, err := lastCheckpoint(filepath.Join(dir, "wal"))
	if err != nil || path == "" {
		t.Fatalf("no checkpoint: %v", err)
	}
	edit(t, newest(t, path), func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw })
	before := logBytes(dir)
	var reports []Damage
	cfg.OnDamage = func(d Damage) { reports = append(reports, d) }
	s = start(t, cfg)
	if len(reports) != 1 || reports[0].Kind != DamageCheckpoint {
		t.Errorf("reported %v; wanted one damaged checkpoint", reports)
	}
	if after := logBytes(dir); after < before {
		t.Errorf("the log shrank from %d to %d bytes", before, after)
	}
	if n := scalar(t, s.Store, `count(count_over_time(m[12h]))`, now); n != 1500 {
		t.Errorf("%v of 1500 series are left in the blocks", n)
	}
}

func TestAPathThatCannotBeWrittenIsAnErrorAndSetsNothingAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Dir: filepath.Join(dir, "file", "store"), Cluster: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v; wanted ENOTDIR", err)
	}
}
