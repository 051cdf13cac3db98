package probe

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/skerry-edge/skerry/api"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files")

// fixture is a machine under testdata.
type fixture struct {
	name, machine string
}

var fixtures = []fixture{{"x86", "x86_64"}, {"arm", "armv7l"}, {"mips", "mips"}}

func (f fixture) path(t *testing.T, under string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", f.name, under))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (f fixture) config(t *testing.T) Config {
	return Config{Proc: f.path(t, "proc"), Sys: f.path(t, "sys")}
}

func (f fixture) uname(u *unix.Utsname) error {
	copy(u.Sysname[:], "Linux")
	copy(u.Nodename[:], f.name+"-node")
	copy(u.Release[:], "6.1.0-"+f.name)
	copy(u.Version[:], `#1 SMP "quoted"`)
	copy(u.Machine[:], f.machine)
	copy(u.Domainname[:], "(none)")
	return nil
}

func (f fixture) env(t *testing.T) *env {
	t.Helper()
	e, err := newEnv(f.config(t).withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	e.now = func() time.Time { return time.UnixMilli(1795480000250) }
	e.uname = f.uname
	e.usage = func(_ context.Context, path string) (*disk.UsageStat, error) {
		n := uint64(len(path)) * 1000
		return &disk.UsageStat{Total: n * 10, Used: n * 4, Free: n * 5, InodesTotal: n, InodesFree: n / 2}, nil
	}
	return e
}

// text reads every probe but self, whose values are those of the test.
func (f fixture) text(t *testing.T) string {
	e := f.env(t)
	var out strings.Builder
	for _, b := range builtins() {
		if b.name == "self" {
			continue
		}
		fmt.Fprintf(&out, "# %s\n", b.name)
		err := b.make(e).Read(t.Context(), func(series string, v float64) { fmt.Fprintf(&out, "%s %v\n", series, v) })
		switch {
		case errors.Is(err, ErrNoData):
			out.WriteString("# no data\n")
		case err != nil:
			t.Errorf("%s: %v", b.name, err)
		}
	}
	return out.String()
}

func TestFixturesGiveTheirGoldenSeries(t *testing.T) {
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			got, golden := f.text(t), filepath.Join("testdata", f.name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s; got:\n%s", golden, got)
			}
		})
	}
}

func TestEverySeriesIsInItsOneForm(t *testing.T) {
	for _, f := range fixtures {
		for line := range strings.Lines(f.text(t)) {
			series, _, _ := strings.Cut(strings.TrimSpace(line), "} ")
			if strings.HasPrefix(series, "#") || !strings.Contains(series, "{") {
				continue
			}
			if !validSeries(series + "}") {
				t.Errorf("%s: series %s}: wanted the form in which the text parser would write it", f.name, series)
			}
		}
	}
}

func TestNoReadingAllocatesMuchOnceItsNamesAreKnown(t *testing.T) {
	e := fixtures[0].env(t)
	for _, b := range builtins() {
		p := b.make(e)
		emit := func(string, float64) {}
		p.Read(t.Context(), emit)
		allowed := 12.0 // paths for the kernel, and a channel per mount
		if b.name == "filesystem" {
			allowed = 60 // a goroutine per mount, and gopsutil's part
		}
		if got := testing.AllocsPerRun(20, func() { p.Read(t.Context(), emit) }); got > allowed {
			t.Errorf("%s: %v allocations a reading; wanted at most %v", b.name, got, allowed)
		}
	}
}

func TestManyCPUsAreSummed(t *testing.T) {
	e := fixtures[1].env(t)
	e.cfg.MaxCPUs = 3
	var got []string
	if err := newCPU(e).Read(t.Context(), func(s string, v float64) { got = append(got, fmt.Sprint(s, " ", v)) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(cpuModes) || got[0] != `node_cpu_seconds_total{cpu="all",mode="user"} 40` {
		t.Errorf("four CPUs, at most three told apart: got %q", got)
	}
}

func TestIdleTimeNeverRunsBackALittle(t *testing.T) {
	e, path := fixtures[0].env(t), filepath.Join(t.TempDir(), "stat")
	e.cfg.Proc = filepath.Dir(path)
	p := newCPU(e)
	var idle []float64
	for _, ticks := range []string{"1000", "950", "1001", "100"} {
		if err := os.WriteFile(path, []byte("cpu 1 1 1 1\ncpu0 1 1 1 "+ticks+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		p.Read(t.Context(), func(s string, v float64) {
			if strings.Contains(s, `"idle"`) {
				idle = append(idle, v)
			}
		})
	}
	if want := []float64{10, 10, 10.01, 1}; !slices.Equal(idle, want) {
		t.Errorf("idle %v; wanted %v", idle, want)
	}
}

func TestHostIsDescribed(t *testing.T) {
	want := map[string]api.Host{
		"x86": {Hostname: "x86-node", OS: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0-x86", CPUs: 2,
			MemoryBytes: 2031204 << 10, Model: "Standard PC (Q35 + ICH9, 2009)"},
		"arm": {Hostname: "arm-node", OS: "Board OS 12", Kernel: "6.1.0-arm", CPUs: 4, MemoryBytes: 948304 << 10,
			Model: "Board 3 Model B Plus Rev 1.3"},
		"mips": {Hostname: "mips-node", OS: "OpenWrt 23.05", Kernel: "6.1.0-mips", CPUs: 1, MemoryBytes: 28036 << 10},
	}
	for _, f := range fixtures {
		got := machine{proc: f.path(t, "proc"), sys: f.path(t, "sys"), osRelease: []string{f.path(t, "etc/os-release")},
			uname: f.uname}.host()
		got.Arch = ""
		if got != want[f.name] {
			t.Errorf("%s: got %+v, wanted %+v", f.name, got, want[f.name])
		}
	}
	if got := HostInfo("", ""); got.Hostname == "" || got.Kernel == "" || got.CPUs == 0 || got.MemoryBytes == 0 || got.Arch == "" {
		t.Errorf("this machine: %+v lacks something", got)
	}
}

func TestArmLevelFollowsTheProcessor(t *testing.T) {
	for _, c := range [][3]string{{"arm", "armv7l", "armv7"}, {"arm", "armv6l", "armv6"}, {"arm", "armv5tejl", "armv5"},
		{"arm", "armv8l", "armv7"}, {"arm", "aarch64", "armv7"}, {"arm", "", "arm"}, {"arm64", "aarch64", "arm64"},
		{"mipsle", "mips", "mipsle"}} {
		if got := armLevel(c[0], c[1]); got != c[2] {
			t.Errorf("armLevel(%q, %q) = %q, wanted %q", c[0], c[1], got, c[2])
		}
	}
}

func TestSensorsAreFoundInAllThreePlaces(t *testing.T) {
	sys := t.TempDir()
	for file, content := range map[string]string{
		"class/hwmon/hwmon0/name": "coretemp\n", "class/hwmon/hwmon0/temp1_input": "1", "class/hwmon/hwmon0/temp2_input": "1",
		"class/hwmon/hwmon0/fan1_input": "1", "class/hwmon/hwmon0/temp1_max": "1",
		"class/thermal/thermal_zone0/type": "cpu-thermal\n", "class/thermal/cooling_device0/type": "fan\n",
		"bus/iio/devices/iio:device0/name": "bme280\n", "bus/iio/devices/iio:device0/in_temp_input": "1",
		"bus/iio/devices/iio:device0/in_humidityrelative_input": "1", "bus/iio/devices/iio:device0/sampling_frequency": "1",
		"bus/iio/devices/iio:device1/name": "mpu6050\n", "bus/iio/devices/iio:device1/in_accel_x_raw": "1",
		"bus/iio/devices/iio:device1/in_accel_y_raw": "1",
	} {
		path := filepath.Join(sys, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []api.Sensor{{Kind: "acceleration", Model: "mpu6050"}, {Kind: "fan", Model: "coretemp"},
		{Kind: "humidity", Model: "bme280"}, {Kind: "temperature", Model: "bme280"},
		{Kind: "temperature", Model: "coretemp"}, {Kind: "temperature", Model: "cpu-thermal"}}
	if got := Sensors(sys); !slices.Equal(got, want) {
		t.Errorf("got %v, wanted %v", got, want)
	}
}

func TestHungMountIsMarkedAndAskedOnce(t *testing.T) {
	e := fixtures[0].env(t)
	real, stuck, asked := e.usage, make(chan struct{}), make(chan struct{}, 10)
	e.usage = func(ctx context.Context, path string) (*disk.UsageStat, error) {
		if path == "/srv/nfs" {
			asked <- struct{}{}
			<-stuck
		}
		return real(ctx, path)
	}
	p := newFilesystem(e).(*filesystem)
	p.timeout = 10 * time.Millisecond
	read := func() (hung, sizes float64, err error) {
		err = p.Read(t.Context(), func(s string, v float64) {
			if strings.HasPrefix(s, "node_filesystem_device_error") && strings.Contains(s, "/srv/nfs") {
				hung = v
			}
			if strings.HasPrefix(s, "node_filesystem_size_bytes") {
				sizes++
			}
		})
		return hung, sizes, err
	}
	for range 3 {
		if hung, sizes, err := read(); hung != 1 || sizes != 3 || err == nil {
			t.Fatalf("hung mount: device_error %v, %v sizes, error %v; wanted 1, the 3 others, an error", hung, sizes, err)
		}
	}
	if len(asked) != 1 {
		t.Errorf("the hung mount was asked %d times; wanted once, each holds a thread", len(asked))
	}
	close(stuck)
	<-p.mounts[mountKey{"server:/export", "/srv/nfs", "nfs4"}].asked
	p.mounts[mountKey{"server:/export", "/srv/nfs", "nfs4"}].asked = nil
	if hung, sizes, err := read(); hung != 0 || sizes != 4 || err != nil {
		t.Errorf("after it answered: device_error %v, %v sizes, error %v; wanted 0, 4, nil", hung, sizes, err)
	}
}
