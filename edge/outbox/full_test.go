package outbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
)

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
	dir := d.cfg.Dir
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
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
	const kills = 12
	for round := range kills {
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
		seen, first := make(chan string, 1), make(chan struct{})
		go func() { seen <- lastLine(out, func() { close(first) }) }()
		select { // it has put something; how much more it puts is chance
		case <-first:
		case <-time.After(time.Minute):
			t.Fatal("child puts nothing")
		}
		timer := time.NewTimer(time.Duration(round*23) * time.Millisecond)
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
	// A put that had not returned may be torn by the kill: it counts as dropped although nobody was promised anything.
	if d := o.Backlog().Dropped; d.Batches > kills || d.Samples > kills || d.Events+d.Alarms+d.Downsampled > 0 {
		t.Errorf("dropped %+v; wanted at most one torn put per kill", d)
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
