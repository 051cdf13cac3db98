package outbox

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("OUTBOX_CHILD"); dir != "" {
		if err := putForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// putForEver puts batches and, after each put has returned, notes its value in a ledger and tells it.
func putForEver(dir string) error {
	epoch, err := strconv.ParseUint(os.Getenv("OUTBOX_EPOCH"), 10, 64)
	if err != nil {
		return err
	}
	value, err := strconv.ParseFloat(os.Getenv("OUTBOX_FROM"), 64)
	if err != nil {
		return err
	}
	o, err := Open(Config{Dir: filepath.Join(dir, "flash"), RuntimeDir: filepath.Join(dir, "run"), Epoch: epoch, Boot: "boot-1",
		HotBytes: 16 << 10, Clock: agent.NewClock(time.Unix(0, 0), agent.ClockSource{}), Sender: &heldSender{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ledger, err := os.OpenFile(filepath.Join(dir, "ledger"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for {
		value++
		b := &api.Batch{Series: []string{"a"}, Rows: []api.Row{{Values: []float64{value}}}}
		if err := o.PutBatch(b); err != nil {
			return err
		}
		if _, err := ledger.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(value))); err != nil {
			return err
		}
		if _, err := fmt.Println(value); err != nil {
			return err
		}
	}
}

// childValues reads what all children noted.
func childValues(t *testing.T, dir string) []float64 {
	raw, err := os.ReadFile(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	var out []float64
	for ; len(raw) >= 8; raw = raw[8:] {
		out = append(out, math.Float64frombits(binary.LittleEndian.Uint64(raw)))
	}
	if len(out) == 0 {
		t.Fatal("the children put nothing")
	}
	return out
}

func lastLine(r io.Reader, begun func()) (last string) {
	for sc := bufio.NewScanner(r); sc.Scan(); begun = func() {} {
		last = sc.Text()
		begun()
	}
	return last
}

// drain2 is drain for a real clock: the pace is lifted instead of waited for.
func drain2(t *testing.T, d *device, o *Outbox, c *fakeCluster) {
	t.Helper()
	o.mu.Lock()
	o.pace.rate = 1 << 30
	o.mu.Unlock()
	d.connect(o)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		pump(o)
		c.ack(o)
		if b := o.Backlog(); b.Batches+b.Events == 0 {
			return
		}
		<-time.After(2 * time.Millisecond)
	}
	t.Fatalf("backlog never drained: %+v", o.Backlog())
}
