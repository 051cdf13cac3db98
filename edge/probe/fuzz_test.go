package probe

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// seed adds the fixtures of one kernel file, and damaged ones.
func seed(f *testing.F, file string) {
	f.Helper()
	paths, err := filepath.Glob("testdata/*/" + file)
	if err != nil || len(paths) == 0 {
		f.Fatalf("no fixture of %s: %v", file, err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte("\n\n \t\r\n"))
}

func FuzzCPU(f *testing.F) {
	seed(f, "proc/stat")
	f.Add([]byte("cpu99999999999999999999 1\ncpu0 18446744073709551616\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := parseCPU(data, nil)
		if err == nil && len(lines) == 0 || len(lines) > maxCPUs+1 {
			t.Fatalf("%d lines without an error", len(lines))
		}
		for _, l := range lines {
			if l.id < -1 || l.id >= maxCPUs {
				t.Fatalf("cpu %d", l.id)
			}
		}
	})
}

func FuzzKeyed(f *testing.F) {
	seed(f, "proc/meminfo")
	series := map[string]keyedSeries{"MemTotal": {"a", 1024}, "Buffers": {"b", 1024}}
	f.Fuzz(func(t *testing.T, data []byte) {
		emitted := 0
		found := parseKeyed(data, series, func(_ string, v float64) {
			if emitted++; v < 0 || math.IsNaN(v) {
				t.Fatal(v)
			}
		})
		if found != emitted || found > len(series) {
			t.Fatalf("found %d, emitted %d", found, emitted)
		}
	})
}

func FuzzLoadavg(f *testing.F) {
	seed(f, "proc/loadavg")
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := parseLoadavg(data); err == nil && !bytes.Contains(data, []byte("/")) {
			t.Fatal("accepted without a thread count")
		}
	})
}

func FuzzDisk(f *testing.F) {
	seed(f, "proc/diskstats")
	f.Fuzz(func(t *testing.T, data []byte) {
		for len(data) > 0 {
			var line []byte
			line, data = cutLine(data)
			if name, _, ok := parseDisk(line); ok && (len(name) == 0 || bytes.ContainsAny(name, " \t\n")) {
				t.Fatalf("device %q", name)
			}
		}
	})
}

func FuzzNetwork(f *testing.F) {
	seed(f, "proc/net/dev")
	f.Fuzz(func(t *testing.T, data []byte) {
		for len(data) > 0 {
			var line []byte
			line, data = cutLine(data)
			if name, _, ok := parseNetwork(line); ok && len(name) == 0 {
				t.Fatal("an interface without a name")
			}
		}
	})
}

func FuzzPressure(f *testing.F) {
	seed(f, "proc/pressure/io")
	f.Fuzz(func(t *testing.T, data []byte) {
		if some, full := parsePressure(data); some < -1 || full < -1 {
			t.Fatal(some, full)
		}
	})
}

func FuzzMount(f *testing.F) {
	seed(f, "proc/*/mounts")
	f.Add([]byte(`a\ /b\04 c\0400 ro,`))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, _, ok := parseMount(data)
		if ok && (key.device == "" || key.point == "" || key.fstype == "") {
			t.Fatalf("%+v", key)
		}
		if name := seriesName("x", "device", key.device, "mountpoint", key.point); !utf8.ValidString(name) {
			t.Fatalf("%q is not UTF-8", name)
		}
	})
}

// FuzzText holds the parser to its one form: what it writes it reads back as the same.
func FuzzText(f *testing.F) {
	for _, s := range []string{"a 1\n", "# HELP a b\n# TYPE a counter\na{b=\"c\",d=\"\\\\\\\"\\n\",} +Inf 123\n", "a{} NaN",
		"a{b=\"x\"}1\n", "_:9 -1e308", "a{b=\"\xff\"} 1", "a{le=\"0.5\",b=\"\"} 0x1p2", "# EOF", strings.Repeat("x", 9000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p, again textParser
		_ = p.parse(bytes.NewReader(data), func(pt *point) {
			series := string(pt.appendSeries(nil))
			if !utf8.ValidString(series) {
				t.Fatalf("series %q is not UTF-8", series)
			}
			n := 0
			err := again.parse(strings.NewReader(series+" 1"), func(back *point) {
				n++
				if got := string(back.appendSeries(nil)); got != series {
					t.Fatalf("wrote %q, read back as %q", series, got)
				}
			})
			if len(series)+2 < maxTextLine && (err != nil || n != 1) {
				t.Fatalf("%q does not read back: %v", series, err)
			}
		})
	})
}
