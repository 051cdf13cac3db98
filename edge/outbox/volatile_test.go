package outbox

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestAVolatileOutboxKeepsTheRules drops, counts, replays and drains as one with flash does, and touches no directory.
func TestAVolatileOutboxKeepsTheRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		t.Chdir(t.TempDir())
		d.cfg.Volatile, d.cfg.Dir, d.cfg.RuntimeDir, d.cfg.HotBytes = true, "", "", 8<<10
		o := d.open()
		d.connect(o)
		for range 20 {
			d.putBatch(o, 2, "a", "b")
			pump(o)
			c.ack(o)
			time.Sleep(10 * time.Second)
		}
		pump(o) // one more look after the tiers
		if s := o.Stats(); s.HotFile > idleVolatileBytes+1<<10 || s.Hot != 0 || s.FlashBytes != 0 || s.Refused != 0 {
			t.Errorf("after acknowledged batches it holds %+v; wanted hardly anything, and no thought of flash", s)
		}
		o.Disconnected()
		made := uint64(20 * 4)
		for range 400 {
			d.putBatch(o, 2, "a", "b")
			made += 4
			time.Sleep(10 * time.Second)
			pump(o)
		}
		b := o.Backlog()
		lost := b.Dropped.Samples + b.Dropped.Downsampled
		if b.Bytes > d.cfg.HotBytes || b.Batches == 0 || lost == 0 {
			t.Errorf("backlog %+v; wanted at most %d bytes, and what did not fit counted", b, d.cfg.HotBytes)
		}
		drain(t, d, o, c)
		if got := uint64(len(c.samples)); got+lost != made {
			t.Errorf("%d samples arrived and %d were given up of %d", got, lost, made)
		}
		d.putBatch(o, 1, "a")
		if err := o.Close(); err == nil {
			t.Error("close lost a record without a word")
		}
		if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
			t.Errorf("it left %v, %v", left, err)
		}
	})
}

func TestMemoryIsAMedium(t *testing.T) {
	m := &memory{}
	write := func(text string, off int64, ok bool) {
		t.Helper()
		if _, err := m.WriteAt([]byte(text), off); (err == nil) != ok {
			t.Errorf("write %q at %d: %v", text, off, err)
		}
	}
	write("hello", 0, true)
	write(" world", 5, true)
	write("x", 12, false)
	buf := make([]byte, 5)
	if n, err := m.ReadAt(buf, 6); n != 5 || err != nil || string(buf) != "world" {
		t.Errorf("read %q, %d, %v", buf, n, err)
	}
	if _, err := m.ReadAt(buf, 7); err == nil {
		t.Error("read beyond the end")
	}
	if m.Truncate(5) != nil || m.Truncate(6) == nil || string(m.data) != "hello" {
		t.Errorf("truncated to %q", m.data)
	}
}
