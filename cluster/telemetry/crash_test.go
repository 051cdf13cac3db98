package telemetry

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skerry-edge/skerry/api"
)

// The environment variables that make this test binary the process to be killed, or one that has a small disk.
const (
	envCrash = "SKERRY_TEST_CRASH_DIR"
	envDisk  = "SKERRY_TEST_SMALL_DISK"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envCrash); dir != "" {
		if err := crashChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashChild stores for ever and prints, for each of four nodes, how many batches were taken. Each batch has one row in
// order and, every fifth time, one that is days late.
func crashChild(dir string) error {
	s, err := New(Config{Dir: dir, Cluster: "site"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 5)
	go func() { ended <- s.Run(ctx) }()
	from, err := strconv.ParseInt(os.Getenv("SKERRY_TEST_FROM"), 10, 64)
	if err != nil {
		return err
	}
	for n := range 4 {
		go func() {
			for i := int64(0); ; i++ {
				b := batch("m", time.UnixMilli(from+i), 0, float64(i))
				if i%5 == 4 {
					b.Rows = append(b.Rows, api.Row{OffsetMillis: -2 * 24 * 3600 * 1000, Values: []float64{float64(i)}})
				}
				if _, err := s.Append(ctx, fmt.Sprintf("n%d", n), b); err != nil {
					ended <- err
					return
				}
				fmt.Printf("%d %d\n", n, i+1)
			}
		}()
	}
	return <-ended
}

// crash runs a child on dir, kills it when it has taken enough, and returns how many batches each node knows to be
// taken.
func crash(t *testing.T, dir string, from time.Time, enough int) (taken [4]int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), envCrash+"="+dir, fmt.Sprintf("SKERRY_TEST_FROM=%d", from.UnixMilli()))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for sum := 0; lines.Scan(); sum++ {
		var n, i int
		if _, err := fmt.Sscan(lines.Text(), &n, &i); err != nil {
			t.Fatalf("child says %q", lines.Text())
		}
		taken[n] = i
		if sum == enough {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		} // and go on reading what it had printed before it died
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child ended with %v: %s", err, complaint.String())
	}
	return taken
}

func checkTaken(t *testing.T, s *Store, from time.Time, taken [4]int) {
	t.Helper()
	for n, want := range taken {
		at := from.Add(59 * time.Minute)
		got := scalar(t, s, fmt.Sprintf(`count_over_time(m{node="n%d"}[59m1s])`, n), at)
		if int(got) < want {
			t.Errorf("n%d: %v samples are there; %d were taken", n, got, want)
		}
		if want < 5 {
			continue
		}
		late := scalar(t, s, fmt.Sprintf(`count_over_time(m{node="n%d"}[59m1s])`, n), at.AddDate(0, 0, -2))
		if int(late) < want/5 {
			t.Errorf("n%d: %v late samples are there; %d were taken", n, late, want/5)
		}
	}
}

func TestKillDuringIngestLosesNothingThatWasTaken(t *testing.T) {
	for _, enough := range []int{200, 3000, 12000} {
		t.Run(strconv.Itoa(enough), func(t *testing.T) {
			dir := t.TempDir()
			begin := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
			var taken [3][4]int
			for i := range taken { // what one life leaves behind must not harm what the next one stores
				taken[i] = crash(t, dir, begin.Add(time.Duration(i)*time.Hour), enough)
			}
			for range 2 {
				s := start(t, Config{Dir: dir})
				for i := range taken {
					checkTaken(t, s.Store, begin.Add(time.Duration(i)*time.Hour), taken[i])
				}
				if err := s.stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

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

func TestADamagedOutOfOrderLogCostsLateSamplesAlone(t *testing.T) {
	_, reports, count := damaged(t, func(dir string) {
		edit(t, newest(t, filepath.Join(dir, "wbl")), func(raw []byte) []byte { raw[100] ^= 1; return raw })
	})
	if count != 1000 || len(reports) != 1 {
		t.Errorf("%v of 1000 series are left, reported %v; wanted all and one report", count, reports)
	}
}

func TestALogThatCannotBeOpenedIsSetAside(t *testing.T) {
	s, reports, count := damaged(t, func(dir string) {
		chunks := filepath.Join(dir, "chunks_head")
		if err := errors.Join(os.RemoveAll(chunks), os.WriteFile(chunks, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	})
	if count != 0 || len(reports) == 0 || reports[0].Kind != DamageHead {
		t.Errorf("%v series are left, reported %v; wanted the head set aside", count, reports)
	}
	kept, err := filepath.Glob(filepath.Join(s.cfg.Dir, asideDir, "*-wal", "00000002"))
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
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	indexes, err := filepath.Glob(filepath.Join(dir, "*", "index"))
	if err != nil || len(indexes) != blocks || blocks < 2 {
		t.Fatalf("%d blocks, %v; wanted some", len(indexes), err)
	}
	edit(t, indexes[0], func(raw []byte) []byte { return raw[:len(raw)/2] })
	var reports []Damage
	cfg.OnDamage = func(d Damage) { reports = append(reports, d) }
	s = start(t, cfg)
	if len(reports) != 1 || reports[0].Kind != DamageBlock || len(s.session.db.Blocks()) != blocks-1 {
		t.Errorf("reported %v with %d of %d blocks left; wanted one less", reports, len(s.session.db.Blocks()), blocks)
	}
	if n := scalar(t, s.Store, "count_over_time(m[1d])", now); n < 30 || n >= 60 {
		t.Errorf("%v samples are left of 60; wanted most", n)
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

// onSmallDisk runs the calling test again in a mount namespace of its own with a tmpfs of some bytes, and reports
// whether this is that run, with the directory.
func onSmallDisk(t *testing.T, bytes int) (dir string, here bool) {
	t.Helper()
	if dir := os.Getenv(envDisk); dir != "" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
			t.Fatalf("mount: %v", err)
		}
		return dir, true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), envDisk+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("on a small disk: %v\n%s", err, out)
	}
	return "", false
}

func TestAFullDiskRefusesAndRecoversWithoutLoss(t *testing.T) {
	dir, here := onSmallDisk(t, 24<<20)
	if !here {
		return
	}
	for name, reserve := range map[string]int64{"reserve kept": 2 << 20, "writes fail": -1} {
		t.Run(name, func(t *testing.T) {
			sub := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if err := os.Mkdir(sub, 0o700); err != nil {
				t.Fatal(err)
			}
			cfg := Config{Dir: filepath.Join(sub, "store"), ReserveBytes: reserve, walSegmentBytes: 1 << 20,
				Log: slog.New(slog.DiscardHandler)}
			s := start(t, cfg)
			from := time.Now().Add(-time.Hour).Truncate(time.Second)
			ballast := filepath.Join(sub, "ballast")
			var taken atomic.Int64
			send := func() error {
				i := taken.Load()
				b := batch(fmt.Sprintf(`m{i="%d",text="%0400d"}`, i, i), from, 0, 1)
				b.Rows = append(b.Rows, api.Row{OffsetMillis: -3 * 3600 * 1000, Values: []float64{2}})
				_, err := s.Append(t.Context(), fmt.Sprintf("n%d", i%7), b)
				if err == nil {
					taken.Add(1)
				}
				return err
			}
			for range 100 {
				if err := send(); err != nil {
					t.Fatal(err)
				}
			}
			fill(t, ballast)
			var err error
			for range 20_000 {
				if err = send(); err != nil {
					break
				}
			}
			if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("on a full disk: got %v; wanted ErrUnavailable", err)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			for err != nil && t.Context().Err() == nil {
				err = send()
			}
			for range 100 {
				if err := send(); err != nil {
					t.Fatal(err)
				}
			}
			check := func(s *Store) {
				if n := scalar(t, s, `count(m)`, from); int64(n) < taken.Load() {
					t.Errorf("%v series are there; %d were taken", n, taken.Load())
				}
				if n := scalar(t, s, `count(m)`, from.Add(-3*time.Hour)); int64(n) < taken.Load() {
					t.Errorf("%v late series are there; %d were taken", n, taken.Load())
				}
			}
			check(s.Store)
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			check(start(t, cfg).Store)
		})
	}
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, fs.ErrInvalid) || err != nil {
			size /= 2
		}
	}
}
