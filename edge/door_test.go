package edge

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/edge/doctor"
)

// door runs a command line of skerry-edge on a device of its own.
func door(t *testing.T, dir string, args ...string) (exit int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	d := &Door{Out: &o, Err: &e}
	args = append(args, "--set", "node=pump-3", "--set", "dir="+dir, "--set", "runtime_dir="+filepath.Join(dir, "run"))
	exit = d.Main(t.Context(), args)
	return exit, o.String(), e.String()
}

// TestTheDoctorTellsOfWhatItCannotReadAsOfAnyFault has it as a finding with a cure, for people and for programs.
func TestTheDoctorTellsOfWhatItCannotReadAsOfAnyFault(t *testing.T) {
	const garbage = "skerry1.eyJlIjpbImh0dHBz" // cut short
	for _, c := range []struct {
		name, join, identity string
		exit                 int
		step, seen           string
	}{
		{"cut short", garbage, "", doctor.ExitJoin, "join", "was it copied whole?"},
		{"garbage", "correct horse battery staple", "", doctor.ExitJoin, "join", `begins with "skerry1."`},
		{"of another program", "K10abc::server:def", "", doctor.ExitJoin, "join", `join string "K10"…`},
		{"in a file that is not there", "@/nowhere/join", "", doctor.ExitJoin, "join", "/nowhere/join: no such file"},
		{"none", "", "", doctor.ExitJoin, "join", "join is empty"},
		{"none, and a damaged identity", "", `{"node":`, doctor.ExitCertificate, "certificate", "identity.json"},
		{"a damaged identity comes first", garbage, `{"node":"pump-3","key":"x"}`, doctor.ExitCertificate, "certificate", "no PEM block"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.identity != "" {
				if err := os.WriteFile(filepath.Join(dir, "identity.json"), []byte(c.identity), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			exit, out, errs := door(t, dir, "doctor", "--join", c.join)
			if exit != c.exit || !strings.Contains(out, c.seen) || !strings.Contains(out, "\n      cure    ") || errs != "" {
				t.Errorf("exit %d; wanted %d and %q with a cure in:\n%s%s", exit, c.exit, c.seen, out, errs)
			}
			if strings.Contains(out, "run --join") || c.exit == doctor.ExitJoin && !strings.Contains(out, "(0600)") {
				t.Errorf("wanted the file of the join string in the cure, and no second agent:\n%s", out)
			}
			exit, out, _ = door(t, dir, "doctor", "-o", "json", "--join", c.join)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			var last doctor.Finding
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
				t.Fatalf("%v in: %s", err, out)
			}
			if exit != c.exit || last.Exit != c.exit || last.Step != c.step || last.OK || !strings.Contains(last.Seen, c.seen) {
				t.Errorf("exit %d; wanted %d from step %s in: %+v", exit, c.exit, c.step, last)
			}
		})
	}
}
