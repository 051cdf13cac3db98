package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
)

// rediscoverAfter is how many scrapes a list of sensors lasts; one that is gone has it looked up anew at once.
const rediscoverAfter = 30

// sensor is a file that holds one number.
type sensor struct {
	path   string
	series string
}

// sensors reads files that a discovery found. It serves hwmon and thermal zones, both in thousandths of a degree.
type sensors struct {
	name     string
	discover func(p *sensors) []sensor
	root     string
	buf      scratch
	found    []sensor
	infos    []string // series of value 1
	age      int
}

func (p *sensors) Name() string { return p.name }

func (p *sensors) Read(ctx context.Context, emit func(string, float64)) error {
	if p.age == 0 {
		p.infos = p.infos[:0]
		p.found = p.discover(p)
		p.age = rediscoverAfter
	}
	p.age--
	if len(p.found) == 0 {
		return ErrNoData
	}
	for _, series := range p.infos {
		emit(series, 1)
	}
	var failed error
	good := 0
	for _, s := range p.found {
		if ctx.Err() != nil {
			return fmt.Errorf("read sensors: %w", ctx.Err())
		}
		milli, err := p.buf.number(s.path)
		if err != nil {
			if failed = err; errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
				p.age = 0 // unplugged
			}
			continue
		}
		emit(s.series, float64(milli)/1000)
		good++
	}
	if good > 0 {
		return nil // sensors that sleep or lack a probe head answer with an error; that is their normal state
	}
	return failed
}

func newHwmon(e *env) Probe {
	return &sensors{name: "hwmon", root: e.cfg.Sys + "/class/hwmon", discover: discoverHwmon}
}

func newThermal(e *env) Probe {
	return &sensors{name: "thermal_zone", root: e.cfg.Sys + "/class/thermal", discover: discoverThermal}
}

func discoverThermal(p *sensors) []sensor {
	var out []sensor
	for _, dir := range subdirectories(p.root, "thermal_zone") {
		zone := strings.TrimPrefix(filepath.Base(dir), "thermal_zone")
		typ := p.buf.word(dir + "/type")
		out = append(out, sensor{dir + "/temp", seriesName("node_thermal_zone_temp", "type", typ, "zone", zone)})
	}
	return out
}

func discoverHwmon(p *sensors) []sensor {
	var out []sensor
	for _, dir := range subdirectories(p.root, "hwmon") {
		chip := hwmonChip(dir, &p.buf)
		attributes, at := inputs(dir, "temp"), dir
		if len(attributes) == 0 { // old kernels keep them under device/
			at = dir + "/device"
			attributes = inputs(at, "temp")
		}
		if name := cleanName(p.buf.word(dir + "/name")); name != "" && len(attributes) > 0 {
			p.infos = append(p.infos, seriesName("node_hwmon_chip_names", "chip", chip, "chip_name", name))
		}
		for _, a := range attributes {
			out = append(out, sensor{at + "/" + a + "_input", seriesName("node_hwmon_temp_celsius", "chip", chip, "sensor", a)})
		}
	}
	return out[:min(len(out), maxDevices)]
}

// hwmonChip names a chip as node_exporter does: by its place on a bus where it has one, else by its driver.
func hwmonChip(dir string, buf *scratch) string {
	if device, err := filepath.EvalSymlinks(dir + "/device"); err == nil {
		name, bus := cleanName(filepath.Base(device)), cleanName(filepath.Base(filepath.Dir(device)))
		if name != "" && bus != "" {
			return bus + "_" + name
		}
		if name != "" {
			return name
		}
	}
	if name := cleanName(buf.word(dir + "/name")); name != "" {
		return name
	}
	return cleanName(filepath.Base(dir))
}

// cleanName keeps a-z, 0-9, colon and underscore.
func cleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == ':' {
			return r
		}
		return '_'
	}, strings.ToLower(s))
	return strings.Trim(s, "_")
}

// inputs lists the sensors of dir that begin with prefix: temp1 for temp1_input.
func inputs(dir, prefix string) []string {
	var out []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), "_input")
		number := strings.TrimPrefix(name, prefix)
		if ok && number != name && number != "" && strings.Trim(number, "0123456789") == "" {
			out = append(out, name)
		}
	}
	return out
}

// subdirectories lists the entries of dir that are prefix and a number, in order.
func subdirectories(dir, prefix string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), prefix)
		if ok && number != "" && strings.Trim(number, "0123456789") == "" && len(out) < maxDevices {
			out = append(out, dir+"/"+e.Name())
		}
	}
	agent.Order(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return out
}
