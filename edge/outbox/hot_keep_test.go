package outbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
)

// A disk that holds both tiers is full, so that nothing is kept; the agent is killed, and starts while it is still full.
func TestWhatAFullDiskCostIsCountedAcrossAKill(t *testing.T) {
	c := newFakeCluster()
	d := newDevice(t, c)
	disk := t.TempDir()
	d.cfg.Dir = disk
	smallFlash(t, d, "256k")
	d.cfg.Dir, d.cfg.RuntimeDir = filepath.Join(disk, "flash"), filepath.Join(disk, "run")
	o := d.open()
	d.putBatch(o, 1, "a")
	fill := filepath.Join(disk, "somebody-else")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	refused := uint64(0)
	for range 300 {
		if err := o.PutBatch(d.batch(1, "a", "b")); err != nil {
			refused++
		}
		pump(o)
	}
	if refused < 100 {
		t.Fatalf("%d batches refused; the disk is not full", refused)
	}
	want := o.Backlog().Dropped
	if want.Batches != refused || want.Samples != 2*refused {
		t.Fatalf("counted %+v; wanted %d batches", want, refused)
	}
	for life := range 3 {
		o.abandon()
		o = d.open()
		if got := o.Backlog().Dropped; got.Batches < refused || got.Samples < want.Samples {
			t.Errorf("life %d counts %+v; wanted at least %+v", life+2, got, want)
		}
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	drain2(t, d, o, c)
	if d := o.Backlog().Dropped; d.Batches != refused || d.Downsampled != 0 {
		t.Errorf("in the end it counts %+v; wanted %d batches", d, refused)
	}
	if len(c.samples) != 1+2*(300-int(refused)) {
		t.Errorf("%d samples arrived; wanted those that were kept, %d", len(c.samples), 1+2*(300-int(refused)))
	}
	o.abandon()
}

func TestAStateThatIsWrittenOverIsWholeAtAnyTime(t *testing.T) {
	old, err := appendState(nil, &state{Version: 1}, ample)
	if err != nil {
		t.Fatal(err)
	}
	room := len(old) / 2
	if got := firstStates(old); got != room {
		t.Fatalf("found states of %d bytes; wanted %d", got, room)
	}
	next, err := appendState(nil, &state{Version: 2, Dropped: api.Dropped{Batches: 1 << 60, Samples: 1 << 60}}, room)
	if err != nil || len(next) != len(old) {
		t.Fatalf("%d bytes, error %v; wanted %d in place", len(next), err, len(old))
	}
	for cut := range len(next) + 1 { // a kill may cut the writing over anywhere
		raw := append(append([]byte(nil), next[:cut]...), old[cut:]...)
		fd := &found{acks: map[lane]uint64{}}
		decodeHot(raw, fd, func(*record, int64) {})
		if v := fd.state.Version; v != 2 && (v != 1 || cut >= room) {
			t.Fatalf("cut at %d: version %d", cut, v)
		}
	}
	if _, err := appendState(nil, &state{Sent: make([]mark, 100)}, room); err == nil {
		t.Error("a state was cut to its room")
	}
}
