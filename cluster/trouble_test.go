package cluster

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/telemetry"
)

func TestTroubleIsToldInOneLineWithItsCure(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	well := health{Now: now, Disk: telemetry.Disk{Dir: "/d", Free: 257 << 20, Reserve: 128 << 20}, CA: now.Add(400 * 24 * time.Hour),
		Server: now.Add(20 * 24 * time.Hour), Synced: true}
	if got := well.trouble(); len(got) != 0 {
		t.Errorf("all is well, and yet: %q", got)
	}
	for name, c := range map[string]struct {
		change func(*health)
		says   []string
	}{
		"put off":          {func(h *health) { h.PutOff, h.Disk.Free = "disk is nearly full", 0 }, []string{"telemetry is put off", "nearly full", "free some"}},
		"nearly full":      {func(h *health) { h.Disk.Free = 255 << 20 }, []string{"disk is nearly full: 255 MiB free in /d", "below 128 MiB", "telemetry.retention"}},
		"statfs":           {func(h *health) { h.DiskErr = errors.New("i/o error") }, []string{"disk cannot be looked at: i/o error", "log"}},
		"CA":               {func(h *health) { h.CA = now.Add(100*24*time.Hour + time.Hour) }, []string{"CA certificate ends at 2027-04-11, in 100 days", "join"}},
		"server":           {func(h *health) { h.Server = now.Add(13 * 24 * time.Hour) }, []string{"server certificate ends at 2027-01-14", "restart"}},
		"broker":           {func(h *health) { h.Broker = now.Add(29 * 24 * time.Hour) }, []string{"external broker ends at 2027-01-30", "broker-config"}},
		"clock":            {func(h *health) { h.Synced = false }, []string{"clock is not synchronised", "chronyd"}},
		"no reserve":       {func(h *health) { h.Disk = telemetry.Disk{Free: 1} }, nil},
		"nothing is known": {func(h *health) { h.CA, h.Server = time.Time{}, time.Time{} }, nil},
		"silent":           {func(h *health) { h.Silent = []string{"n1"} }, []string{"node n1 is online and sends no telemetry", "log of its agent"}},
		"several silent":   {func(h *health) { h.Silent = []string{"n1", "n2", "n3"} }, []string{"node n1 is online, as are 2 more, and sends no telemetry"}},
		"remote write": {func(h *health) {
			h.Remotes = []telemetry.RemoteFault{{URL: "https://mimir/push", Since: now, Err: errors.New("receiver answers 503")}}
		}, []string{"remote_write to https://mimir/push fails since 2027-01-01T00:00:00Z", "503", "mend the receiver"}},
	} {
		h := well
		c.change(&h)
		got := h.trouble()
		if len(got) != min(len(c.says), 1) {
			t.Errorf("%s: %q; wanted %d line", name, got, min(len(c.says), 1))
			continue
		}
		for _, want := range c.says {
			if !strings.Contains(got[0], want) || strings.Contains(got[0], "\n") {
				t.Errorf("%s: %q does not say %q", name, got[0], want)
			}
		}
	}
}

func TestADiskNearItsReserveShowsBeforeItIsFull(t *testing.T) {
	r := newRig(t, nil)
	r.stop()
	var st unix.Statfs_t
	if err := unix.Statfs(r.dir, &st); err != nil {
		t.Fatal(err)
	}
	r.flags["telemetry.reserve"] = strconv.FormatUint(st.Bavail*uint64(st.Bsize)/10*7, 10) // between one and two reserves, with as much to either side: others use the disk too
	r.start()
	status := must[api.ClusterStatus](r, "GET", "/v1/status", nil)
	if text := strings.Join(status.Trouble, "\n"); !strings.Contains(text, "disk is nearly full") || !strings.Contains(text, filepath.Join(r.dir, "tsdb")) ||
		strings.Contains(text, "put off, and") {
		t.Errorf("trouble %q", text)
	}
	_, text := r.call(r.root(), "GET", "/metrics", "")
	for _, name := range []string{"skerry_cluster_disk_free_bytes", "skerry_cluster_disk_reserve_bytes"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("no metric %s", name)
		}
	}
}
