package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func TestWorkloadsThatFillTheirRoomKeepNothingElseOut(t *testing.T) {
	for _, config := range []int{0, 2 << 10, 20 << 10} {
		r := newRegistry(t, Config{Now: (&clock{now: zero}).Now})
		enrol(t, r, "n1")
		set := func(change func(*api.Desired)) error {
			_, err := r.SetDesired("n1", func(d *api.Desired) error { change(d); return nil })
			return err
		}
		must(t, set(func(d *api.Desired) { d.Config = map[string]any{"a": strings.Repeat("x", config)} }))
		must(t, set(func(d *api.Desired) {
			room, err := Room(d)
			must(t, err)
			for i := 0; room > 400; i++ {
				w := api.Workload{Name: fmt.Sprint("w", i), GraceSeconds: 1, Containers: []api.Container{{Name: "main", Image: "i"}}}
				raw, err := json.Marshal(&w)
				must(t, err)
				w.Containers[0].Args = []string{strings.Repeat("x", min(room, 4000)-len(raw)-len(`,"args":[""],`))}
				d.Workloads, room = append(d.Workloads, w), room-min(room, 4000)
			}
		}))
		if err := set(func(d *api.Desired) {
			d.Agent = &api.AgentWant{Version: "1.2.3", URL: "https://releases.example/skerry"}
		}); err != nil {
			t.Errorf("with %d bytes of configuration: %v", config, err)
		}
		if err := set(func(d *api.Desired) { d.Config["b"] = "another setting" }); err != nil {
			t.Errorf("with %d bytes of configuration: %v", config, err)
		}
	}
}
