package configs

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestOneRunTellsEveryFaultOfAFile has unknown keys, wrong types and wrong values in one file, in its variables and flags.
func TestOneRunTellsEveryFaultOfAFile(t *testing.T) {
	_, edge := LoadEdge(Source{File: filepath.Join("testdata", "edge-faults.yaml"), Flags: map[string]string{"no.such": "1", "log.level": "loud"},
		Env: []string{"SKERRY_EDGE_MQTT_BACKOFF_MAX=soon", "SKERRY_EDGE_BOGUS=1"}})
	_, cluster := LoadCluster(Source{File: filepath.Join("testdata", "cluster-faults.yaml"), Flags: map[string]string{"http.listen": "here"},
		Env: []string{"SKERRY_CLUSTER_EVENTS_KEEP=1"}})
	for name, err := range map[string]error{"edge": edge, "cluster": cluster} {
		if err == nil {
			t.Fatalf("%s: no fault", name)
		}
		file, got := filepath.Join("testdata", name+"-faults.txt"), err.Error()+"\n"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s, error %v, got:\n%s\nwanted:\n%s", name, err, got, want)
		}
		lines := strings.Split(strings.TrimSpace(got), "\n")
		if len(lines) < 10 {
			t.Errorf("%s: %d faults; wanted ten or more", name, len(lines))
		}
		for i, line := range lines {
			if !strings.Contains(line, ": wanted ") || strings.Contains(line, "configs.") || strings.Contains(line, "[]string") || strings.Contains(line, "map[") {
				t.Errorf("%s: not a fault as people read it: %s", name, line)
			}
			for _, other := range lines[:i] {
				if line == other {
					t.Errorf("%s: told twice: %s", name, line)
				}
			}
		}
	}
}

func TestASyntaxErrorTellsItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"node: [\n":                               "line ",
		"node: a: b\n":                            ": line 1: ",
		"node: a\n\ntelemetry: interval: 5s\n":    ": line 3: ",
		"node: a\nlog:\n\tlevel: info\n":          ": line 3: ",
		"node: a\nlog:\n  level: info\n level: x": "line ",
	} {
		path := write(t, text)
		_, err := LoadEdge(Source{File: path})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), " yaml: ") {
			t.Errorf("%q: %v; wanted %q", text, err, want)
		}
	}
}

func TestTheJoinStringIsNoPartOfAFault(t *testing.T) {
	_, err := LoadEdge(Source{File: write(t, "join: [S3CRET]\n")})
	if err == nil || strings.Contains(err.Error(), "S3CRET") {
		t.Errorf("error %v", err)
	}
}

func TestTheEnvironmentOfAProgramKeepsItsNames(t *testing.T) {
	cfg, err := LoadEdge(Source{File: write(t, "command: {exec: [{name: x, argv: [/bin/true], env: {LC_ALL: C, Mixed: 7}, timeout: 5s}]}\n")})
	if err != nil {
		t.Fatal(err)
	}
	e := cfg.Command.Exec[0]
	if e.Env["LC_ALL"] != "C" || e.Env["Mixed"] != "7" || e.Timeout.Seconds() != 5 || e.Argv[0] != "/bin/true" {
		t.Errorf("%+v", e)
	}
}
