package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSystemdTakesTheUnits has systemd-analyze read them; before 254 it does not know the two keys of the growing delay, and passes over them.
func TestSystemdTakesTheUnits(t *testing.T) {
	t.Parallel()
	m := NewMachine(t, nil)
	for _, name := range []string{"skerry-edge", "skerry-cluster"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "install", "systemd", name+".service"))
		if err != nil {
			t.Fatal(err)
		}
		m.Write("/etc/systemd/system/"+name+".service", string(raw), 0o644)
		m.Write("/usr/local/bin/"+name, "#!/bin/sh\n", 0o755)
		out, code := m.Run(nil, "systemd-analyze", "verify", "/etc/systemd/system/"+name+".service")
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(line string) bool {
			return line == "" || strings.Contains(line, "Unknown key 'RestartSteps'") || strings.Contains(line, "Unknown key 'RestartMaxDelaySec'")
		})
		if code != 0 || len(lines) > 0 {
			t.Errorf("%s: %d\n%s", name, code, out)
		}
		for _, want := range []string{"Type=notify\n", "WatchdogSec=", "RestartPreventExitStatus=2\n", "ProtectSystem=strict\n"} {
			if !strings.Contains(string(raw), "\n"+want) {
				t.Errorf("%s lacks %s", name, want)
			}
		}
	}
}
