package outbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
)

// stocked returns a device with n batches and n events in flash, and nothing in the hot tier.
func stocked(t *testing.T, c *fakeCluster, n int) *device {
	t.Helper()
	d := newDevice(t, c)
	o := d.open()
	for i := range n {
		d.putBatch(o, 1+i%40, "node_load1", "node_load5")
		if err := o.PutEvent(api.ClassEvent, "test.happened", "", id(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

// survives opens the outbox over whatever is in flash and checks that what is missing is admitted.
func survives(t *testing.T, d *device, c *fakeCluster, events int) Stats {
	t.Helper()
	o := d.open()
	drain(t, d, o, c)
	b, st := o.Backlog(), o.Stats()
	missing, missingEvents := uint64(0), uint64(0)
	for v := 1.0; v <= d.next; v++ {
		if _, ok := c.samples[v]; !ok {
			missing++
		}
	}
	for i := range events {
		if _, ok := c.events[id(i)]; !ok {
			missingEvents++
		}
	}
	if missing != b.Dropped.Samples || missingEvents != b.Dropped.Events {
		if st.Unreadable == 0 || missing > st.Unreadable {
			t.Errorf("%d samples, %d events missing; reported %+v %+v", missing, missingEvents, b.Dropped, st)
		}
	}
	if st.Corruptions > 0 {
		told := false
		for msg := range c.events {
			told = told || strings.Contains(msg, "damaged outbox.db")
		}
		if !told {
			t.Errorf("damage was not reported: %d events", len(c.events))
		}
	}
	o.abandon()
	return st
}

func TestDamagedFlashNeverPreventsStart(t *testing.T) {
	page := os.Getpagesize()
	edits := map[string]func(raw []byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"text":             func([]byte) []byte { return []byte(strings.Repeat("not a database ", 5000)) },
		"both metas gone":  func(raw []byte) []byte { clear(raw[:2*page]); return raw },
		"first meta gone":  func(raw []byte) []byte { clear(raw[:page]); return raw },
		"second meta gone": func(raw []byte) []byte { clear(raw[page : 2*page]); return raw },
		"cut to one page":  func(raw []byte) []byte { return raw[:page] },
		"cut in half":      func(raw []byte) []byte { return raw[:len(raw)/2] },
		"cut after metas":  func(raw []byte) []byte { return raw[:2*page] },
		"all ones":         func(raw []byte) []byte { return []byte(strings.Repeat("\xff", len(raw))) },
	}
	for p := 2; p < 40; p++ {
		edits[fmt.Sprintf("page %d zeroed", p)] = func(raw []byte) []byte {
			if (p+1)*page <= len(raw) {
				clear(raw[p*page : (p+1)*page])
			}
			return raw
		}
		edits[fmt.Sprintf("page %d points to itself", p)] = func(raw []byte) []byte {
			if (p+1)*page <= len(raw) && raw[p*page+8]&1 != 0 { // a branch page: each child becomes the page itself
				for e := range int(binary.LittleEndian.Uint16(raw[p*page+10:])) {
					binary.LittleEndian.PutUint64(raw[p*page+16+e*16+8:], uint64(p))
				}
				t.Log("page", p, "is a branch")
			}
			return raw
		}
	}
	for name, edit := range edits {
		if strings.HasSuffix(name, "itself") {
			continue // see TestCrashLoopOverDamageEnds
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeCluster()
				d := stocked(t, c, 120)
				raw, err := os.ReadFile(dbPath(d))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dbPath(d), edit(raw), 0o600); err != nil {
					t.Fatal(err)
				}
				st := survives(t, d, c, 120)
				aside, err := filepath.Glob(dbPath(d) + ".corrupt-*")
				if err != nil || name != "empty" && len(aside) != int(min(st.Corruptions, 1)) {
					t.Errorf("set aside: %v, %v after %d corruptions", aside, err, st.Corruptions)
				}
			})
		})
	}
}

// TestOneBitAnywhereInFlashIsHarmless flips bits all over the file, one at a time.
func TestOneBitAnywhereInFlashIsHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := stocked(t, c, 40)
		sound, err := os.ReadFile(dbPath(d))
		if err != nil {
			t.Fatal(err)
		}
		hits := 0
		for n := range 150 {
			at := (n*7919 + n*n*13) % len(sound)
			raw := append([]byte(nil), sound...)
			raw[at] ^= 1 << (n % 8)
			c := newFakeCluster()
			d.cfg.Sender = c
			d.cfg.RuntimeDir = t.TempDir()
			if err := os.WriteFile(dbPath(d), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if survives(t, d, c, 40).Corruptions > 0 {
				hits++
			}
		}
		if hits == 0 {
			t.Error("no flip was noticed")
		}
	})
}

func TestCrashLoopOverDamageEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := stocked(t, c, 20)
		// Three starts died while they read outbox.db.
		if err := os.WriteFile(filepath.Join(d.cfg.RuntimeDir, "outbox.opening"), []byte("3"), 0o600); err != nil {
			t.Fatal(err)
		}
		if st := survives(t, d, c, 20); st.Corruptions != 1 {
			t.Errorf("stats %+v; wanted the file set aside", st)
		}
		if _, err := os.Stat(filepath.Join(d.cfg.RuntimeDir, "outbox.opening")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the count of openings stayed: %v", err)
		}
	})
}

func TestFlashDamagedUnderARunningAgentIsSalvaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := stocked(t, c, 120)
		o := d.open()
		raw, err := os.ReadFile(dbPath(d))
		if err != nil {
			t.Fatal(err)
		}
		page := os.Getpagesize()
		for p := 6; p < 9; p++ {
			clear(raw[p*page : (p+1)*page])
		}
		f, err := os.OpenFile(dbPath(d), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(raw, 0); err != nil { // the same file, under its mapping
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		drain(t, d, o, c)
		missing := uint64(0)
		for v := 1.0; v <= d.next; v++ {
			if _, ok := c.samples[v]; !ok {
				missing++
			}
		}
		b, st := o.Backlog(), o.Stats()
		if st.Corruptions == 0 || missing > b.Dropped.Samples || missing == uint64(d.next) {
			t.Errorf("%d of %v samples missing, dropped %+v, %+v", missing, d.next, b.Dropped, st)
		}
		o.abandon()
	})
}

// smallFlash mounts a tmpfs of the given size as the device's flash.
func smallFlash(t *testing.T, d *device, size string) {
	t.Helper()
	if err := os.MkdirAll(d.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", d.cfg.Dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small tmpfs: %v; run as root", err)
		}
		t.Skipf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.cfg.Dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestFullFlashDropsByPolicyAndRecovers(t *testing.T) {
	c := newFakeCluster()
	d := newDevice(t, c)
	smallFlash(t, d, "256k")
	synctest.Test(t, func(t *testing.T) {
		d.up = time.Now()
		d.cfg.HotBytes = 32 << 10
		fill := filepath.Join(d.cfg.Dir, "somebody-else")
		o := d.open()
		for n := range 3000 {
			d.putBatch(o, 1, "a", fmt.Sprint("series-that-changes-", n))
			if n%100 == 0 {
				if err := o.PutEvent(api.ClassAlarm, "test.alarm", "", id(n/100), nil); err != nil {
					t.Fatal(err)
				}
			}
			if n == 500 { // the disk fills up
				if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
					t.Fatalf("filling the disk: %v", err)
				}
			}
			pump(o)
			time.Sleep(time.Second)
		}
		st, b := o.Stats(), o.Backlog()
		if st.Refused == 0 || b.Dropped.Samples == 0 || b.Dropped.Alarms != 0 {
			t.Fatalf("stats %+v, dropped %+v; wanted refusals and dropped samples, no dropped alarm", st, b.Dropped)
		}
		if st.Hot > d.cfg.HotBytes {
			t.Errorf("hot tier holds %d bytes; bound is %d", st.Hot, d.cfg.HotBytes)
		}
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
		flash := st.FlashBytes
		for range 60 {
			d.putBatch(o, 1, "a")
			pump(o)
			time.Sleep(time.Second)
		}
		if o.Stats().FlashBytes == flash {
			t.Error("flash was not used again after space returned")
		}
		o.abandon()
		o = d.open()
		drain(t, d, o, c)
		missing := uint64(0)
		for v := 1.0; v <= d.next; v++ {
			if _, ok := c.samples[v]; !ok {
				missing++
			}
		}
		if got := o.Backlog().Dropped; missing != got.Samples+got.Downsampled {
			t.Errorf("%d samples missing; dropped %+v", missing, got)
		}
		for n := range 30 {
			if _, ok := c.events[id(n)]; !ok {
				t.Errorf("alarm %d is missing", n)
			}
		}
		o.abandon()
	})
}

func TestReadOnlyFlashDoesNotPreventStart(t *testing.T) {
	c := newFakeCluster()
	d := newDevice(t, c)
	smallFlash(t, d, "256k")
	if err := unix.Mount("", d.cfg.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	o := d.open()
	d.putBatch(o, 1, "a")
	if err := o.Close(); err == nil {
		t.Error("close said nothing of records that are not in flash")
	}
	o = d.open()
	drain2(t, d, o, c)
	o.abandon()
}

// TestKilledProcessLosesNothing runs a real process that puts as fast as it can, and kills it with SIGKILL.
func TestKilledProcessLosesNothing(t *testing.T) {
	c := newFakeCluster()
	d := newDevice(t, c)
	var last string
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "OUTBOX_CHILD="+filepath.Dir(d.cfg.Dir), fmt.Sprint("OUTBOX_EPOCH=", d.epoch+1),
			fmt.Sprint("OUTBOX_FROM=", d.next))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		d.epoch++
		seen := make(chan string)
		go func() { seen <- lastLine(out) }()
		timer := time.NewTimer(time.Duration(40+round*23) * time.Millisecond)
		<-timer.C
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		last = <-seen
		if err := cmd.Wait(); err == nil {
			t.Fatal("child ended by itself")
		}
		if last != "" {
			if _, err := fmt.Sscan(last, &d.next); err != nil {
				t.Fatalf("child said %q: %v", last, err)
			}
		}
		d.next += 1000 // the child may have put one more than it said
	}
	if last == "" {
		t.Fatal("the last child put nothing")
	}
	o := d.open()
	drain2(t, d, o, c)
	if dropped := o.Backlog().Dropped; dropped != (api.Dropped{}) {
		t.Errorf("dropped %+v", dropped)
	}
	missing := 0
	for _, v := range childValues(t, filepath.Dir(d.cfg.Dir)) {
		if _, ok := c.samples[v]; !ok {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d samples are missing that a put had returned for", missing)
	}
	o.abandon()
}
