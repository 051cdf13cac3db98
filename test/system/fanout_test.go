package system

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/skerry-edge/skerry/test/scale"
)

func TestWhatGoesToAllIsMeasured(t *testing.T) {
	program, err := Program("skerry-cluster")
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := (&scale.Door{Out: &out, Err: &errs}).Main(t.Context(), []string{"fanout", "--nodes", "20", "--cluster", program, "--dir", t.TempDir(),
		"--memory", "0", "--cluster-cpu", "-1", "--swarm-cpu", "-1", "-o", "json"})
	var f scale.Fanout
	if err := json.Unmarshal(out.Bytes(), &f); err != nil || code != scale.ExitOK {
		t.Fatalf("exit code %d, %v\n%s", code, err, &errs)
	}
	for what, p := range map[string]scale.Spread{"desired": f.Desired, "command": f.Command} {
		if p.Written <= 0 || p.Half <= 0 || p.Half > p.Most || p.Most > p.All {
			t.Errorf("%s: %+v; wanted times that rise", what, p)
		}
	}
	if f.Nodes != 20 || f.Connect <= 0 || f.Desired.EachP50 <= 0 || f.Desired.EachP99 < f.Desired.EachP50 || f.Use.RSSMost <= 0 {
		t.Errorf("%+v", f)
	}
}
