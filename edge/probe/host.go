package probe

import (
	"cmp"
	"context"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v4/common"
	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"golang.org/x/sys/unix"
)

// HostInfo describes the machine whose /proc and /sys are mounted at proc and sys; "" means there. What the kernel does
// not tell stays empty.
func HostInfo(proc, sys string) api.Host { return machine{proc: proc, sys: sys}.host() }

// machine is where HostInfo looks; tests set all of it.
type machine struct {
	proc, sys string
	osRelease []string // the first that can be read counts (os-release(5))
	uname     func(*unix.Utsname) error
}

func (m machine) host() api.Host {
	if m.proc == "" {
		m.proc = "/proc"
	}
	if m.sys == "" {
		m.sys = "/sys"
	}
	if m.osRelease == nil {
		m.osRelease = []string{"/etc/os-release", "/usr/lib/os-release"}
	}
	if m.uname == nil {
		m.uname = unix.Uname
	}
	h := api.Host{OS: runtime.GOOS, Arch: runtime.GOARCH}
	var u unix.Utsname
	if err := m.uname(&u); err == nil {
		h.Hostname = unix.ByteSliceToString(u.Nodename[:])
		h.Kernel = unix.ByteSliceToString(u.Release[:])
		h.Arch = armLevel(runtime.GOARCH, unix.ByteSliceToString(u.Machine[:]))
	}
	ctx := context.WithValue(context.Background(), common.EnvKey,
		common.EnvMap{common.HostProcEnvKey: m.proc, common.HostSysEnvKey: m.sys})
	if n, err := cpu.CountsWithContext(ctx, true); err == nil && n > 0 {
		h.CPUs = n
	} else {
		h.CPUs = runtime.NumCPU() // MIPS kernels count otherwise in cpuinfo
	}
	if v, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		h.MemoryBytes = v.Total
	}
	var buf scratch
	for _, path := range m.osRelease {
		if raw, err := buf.read(path, 16<<10); err == nil {
			if name := prettyName(string(raw)); name != "" {
				h.OS = name
			}
			break
		}
	}
	for _, path := range []string{m.proc + "/device-tree/model", m.sys + "/firmware/devicetree/base/model",
		m.sys + "/class/dmi/id/product_name"} {
		if h.Model = buf.word(path); h.Model != "" {
			break
		}
	}
	limit := func(s string) string { return strings.ToValidUTF8(s[:min(len(s), api.MaxLabelBytes)], "") }
	h.Hostname, h.OS, h.Kernel, h.Model = limit(h.Hostname), limit(h.OS), limit(h.Kernel), limit(h.Model)
	return h
}

// prettyName finds PRETTY_NAME in os-release(5), without its quotes.
func prettyName(text string) string {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME=")
		if !ok {
			continue
		}
		if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			value = value[1 : len(value)-1]
		}
		return strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`, "\\`", "`").Replace(value)
	}
	return ""
}

// armLevel adds the level of the processor to arm: uname says armv7l, or armv8l and aarch64 under a 64-bit kernel, both
// of which run what was built for 7.
func armLevel(goarch, machine string) string {
	if goarch != "arm" {
		return goarch
	}
	level, ok := strings.CutPrefix(machine, "armv")
	if !ok {
		if machine == "aarch64" {
			return "armv7"
		}
		return goarch
	}
	if level != "" && level[0] >= '5' && level[0] <= '7' {
		return "armv" + level[:1]
	}
	return "armv7"
}

// hwmonKinds and iioKinds tell what the files of a driver measure (Documentation/hwmon/sysfs-interface.rst,
// Documentation/ABI/testing/sysfs-bus-iio).
func sensorKinds() (hwmon, iio map[string]string) {
	return map[string]string{"temp": "temperature", "fan": "fan", "in": "voltage", "curr": "current", "power": "power",
			"energy": "energy", "humidity": "humidity"},
		map[string]string{"temp": "temperature", "humidityrelative": "humidity", "pressure": "pressure",
			"illuminance": "light", "proximity": "proximity", "accel": "acceleration", "anglvel": "rotation",
			"magn": "magnetism", "voltage": "voltage", "current": "current", "concentration": "gas", "distance": "distance"}
}

// Sensors lists what the kernel's hwmon, thermal and iio drivers measure, each kind and model once. sys is where /sys is
// mounted; "" means there.
func Sensors(sys string) []api.Sensor {
	if sys == "" {
		sys = "/sys"
	}
	var out []api.Sensor
	var buf scratch
	hwmon, iio := sensorKinds()
	add := func(kind, model string) {
		s := api.Sensor{Kind: kind, Model: strings.ToValidUTF8(model[:min(len(model), api.MaxLabelBytes)], "")}
		if !slices.Contains(out, s) && len(out) < api.MaxSensors {
			out = append(out, s)
		}
	}
	scan := func(dir, model string, kindOf func(file string) string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, e := range entries {
			if kind := kindOf(e.Name()); kind != "" {
				add(kind, model)
			}
		}
	}
	for _, dir := range subdirectories(sys+"/class/hwmon", "hwmon") {
		scan(dir, buf.word(dir+"/name"), func(file string) string {
			name, ok := strings.CutSuffix(file, "_input")
			if !ok {
				return ""
			}
			return hwmon[strings.TrimRight(name, "0123456789")]
		})
	}
	for _, dir := range subdirectories(sys+"/class/thermal", "thermal_zone") {
		add("temperature", buf.word(dir+"/type"))
	}
	for _, dir := range subdirectories(sys+"/bus/iio/devices", "iio:device") {
		scan(dir, buf.word(dir+"/name"), func(file string) string { return iioKind(file, iio) })
	}
	agent.Order(out, func(a, b api.Sensor) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Model, b.Model))
	})
	return out
}

// iioKind reads in_temp_input, in_accel_x_raw or in_voltage0_raw.
func iioKind(file string, kinds map[string]string) string {
	name, ok := strings.CutPrefix(file, "in_")
	if !ok || !strings.HasSuffix(name, "_input") && !strings.HasSuffix(name, "_raw") {
		return ""
	}
	name, _, _ = strings.Cut(name, "_")
	return kinds[strings.TrimRight(name, "0123456789")]
}
