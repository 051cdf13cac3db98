package telemetry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

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

// filler sends batches of series that no one else has, one row now and one three hours ago each, so large that a write
// that fails tears a record in the middle.
type filler struct {
	s     *running
	at    time.Time
	taken []int // numbers of the batches that were
	next  int
}

const fillerSeries = 300

func (f *filler) send(t *testing.T) error {
	i := f.next
	f.next++
	b := &api.Batch{Epoch: 1, Seq: 1, T0: api.At(f.at), Rows: []api.Row{{}, {OffsetMillis: -3 * 3600 * 1000}}}
	for j := range fillerSeries {
		hash := sha256.Sum256(fmt.Appendf(nil, "%d/%d", i, j))
		b.Series = append(b.Series, fmt.Sprintf(`m{batch="%d",text="%x"}`, i, hash))
		b.Rows[0].Values = append(b.Rows[0].Values, 1)
		b.Rows[1].Values = append(b.Rows[1].Values, 2)
	}
	_, err := f.s.Append(t.Context(), "n", b)
	if err == nil {
		f.taken = append(f.taken, i)
	}
	return err
}

func (f *filler) check(t *testing.T, s *Store) {
	t.Helper()
	for _, at := range []time.Time{f.at, f.at.Add(-3 * time.Hour)} {
		have := map[string]float64{}
		for _, series := range instant(t, s, `count by (batch) (m)`, at) {
			have[series.Labels["batch"]] = series.Points[0].Value
		}
		for _, i := range f.taken {
			if n := have[strconv.Itoa(i)]; n != fillerSeries {
				t.Errorf("at %s %v samples of batch %d are there; %d were taken", at, n, i, fillerSeries)
			}
		}
	}
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
			cfg := Config{Dir: filepath.Join(sub, "store"), ReserveBytes: reserve, SeriesPerNode: 1e6}
			f := filler{s: start(t, cfg), at: time.Now().Truncate(time.Second)}
			f.mustSend(t, 3)
			for round := range 3 {
				ballast := filepath.Join(sub, "ballast")
				fill(t, ballast, 200_000+round*4096)
				var err error
				for err == nil && f.next < 100*(round+1) {
					err = f.send(t)
				}
				if !errors.Is(err, ErrUnavailable) {
					t.Fatalf("on a full disk: got %v; wanted ErrUnavailable", err)
				}
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				f.recover(t)
				f.mustSend(t, 3)
			}
			f.check(t, f.s.Store)
			if err := f.s.stop(); err != nil {
				t.Fatal(err)
			}
			again := start(t, cfg)
			f.check(t, again.Store)
			if err := again.stop(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(sub); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// recover sends until the store takes something again.
func (f *filler) recover(t *testing.T) {
	t.Helper()
	eventually(t, "the store takes batches again", func() bool { return f.send(t) == nil })
}

func (f *filler) mustSend(t *testing.T, n int) {
	t.Helper()
	for range n {
		if err := f.send(t); err != nil {
			t.Fatal(err)
		}
	}
}

// The TSDB logs that it could not write late samples and reports success.
func TestAFailedWriteOfLateSamplesIsNotTaken(t *testing.T) {
	dir, here := onSmallDisk(t, 64<<20)
	if !here {
		return
	}
	cfg := Config{Dir: filepath.Join(dir, "store"), SeriesPerNode: 1e6, ReserveBytes: 1 << 20}
	wbl := filepath.Join(cfg.Dir, "wbl")
	if err := os.MkdirAll(wbl, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", wbl, "tmpfs", 0, "size=65536"); err != nil {
		t.Fatal(err)
	}
	f := filler{s: start(t, cfg), at: time.Now().Truncate(time.Second)}
	var err error
	for err == nil && f.next < 200 {
		err = f.send(t)
	}
	if !errors.Is(err, ErrUnavailable) || len(f.taken) == 0 {
		t.Fatalf("after %d batches: got %v; wanted ErrUnavailable", len(f.taken), err)
	}
	if err := syscall.Mount("tmpfs", wbl, "tmpfs", syscall.MS_REMOUNT, "size=16777216"); err != nil {
		t.Fatal(err)
	}
	f.recover(t)
	f.mustSend(t, 3)
	if err := f.s.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg)
	f.check(t, again.Store)
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Unmount(wbl, syscall.MNT_DETACH); err != nil { // a reader may still hold a mapping
		t.Fatal(err)
	}
}

// fill leaves so many bytes of the disk free.
func fill(t *testing.T, path string, leave int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end := int64(0)
	for size := 1 << 20; size >= 512; {
		n, err := f.Write(make([]byte, size))
		end += int64(n)
		if err != nil {
			size /= 2
		}
	}
	if err := f.Truncate(end - int64(leave)); err != nil {
		t.Fatal(err)
	}
}

// Late samples are put into files of chunks while the log is replayed, and a TSDB that cannot do so panics.
func TestAStoreWhoseDiskIsFullAtTheStartOpensWhenThereIsRoom(t *testing.T) {
	dir, here := onSmallDisk(t, 24<<20)
	if !here {
		return
	}
	const series, late = 50, 100
	cfg := Config{Dir: filepath.Join(dir, "store"), ReserveBytes: 2 << 20}
	at := time.Now().Truncate(time.Second)
	b := &api.Batch{Epoch: 1, Seq: 1, T0: api.At(at), Rows: []api.Row{{}}}
	for i := range late {
		b.Rows = append(b.Rows, api.Row{OffsetMillis: -3*3600*1000 + int64(i)*1000})
	}
	for i := range series {
		b.Series = append(b.Series, fmt.Sprintf(`m{i="%d"}`, i))
		for r := range b.Rows {
			b.Rows[r].Values = append(b.Rows[r].Values, float64(r))
		}
	}
	s := start(t, cfg)
	mustAppend(t, s.Store, "n", b)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "chunks_head")); err != nil { // as after a power cut: all of them are made anew
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast, 0)

	s = start(t, cfg)
	if _, err := s.Append(t.Context(), "n", batch("other", at, time.Second, 1)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a batch on a full disk: got %v; wanted ErrUnavailable", err)
	}
	if _, err := s.Instant(t.Context(), "m", at); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a query before it could be opened: got %v; wanted ErrUnavailable", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store takes batches", func() bool {
		_, err := s.Append(t.Context(), "n", batch("other", at, time.Second, 1))
		return err == nil
	})
	if n := scalar(t, s.Store, `sum(count_over_time(m[4h]))`, at); n != series*(late+1) {
		t.Errorf("%v samples are there; wanted %d", n, series*(late+1))
	}
}
