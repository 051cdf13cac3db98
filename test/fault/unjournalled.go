package fault

import (
	"bytes"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// unjournalled are the ends that a node agent's log tells of and that its journal did not take, by command. A refusal is told
// all the same, for nothing was done; other ends are told once they are in the journal, or are another after a restart.
func unjournalled(log []byte) map[string]api.Phase {
	out := map[string]api.Phase{}
	for line := range bytes.Lines(log) {
		if !bytes.Contains(line, []byte(`msg="command closed, but not journalled"`)) {
			continue
		}
		var id, state string
		for _, field := range strings.Fields(string(line)) {
			if v, ok := strings.CutPrefix(field, "command="); ok {
				id = v
			}
			if v, ok := strings.CutPrefix(field, "state="); ok {
				state = v
			}
		}
		if p := api.Phase(state); id != "" && p.Final() {
			out[id] = p
		}
	}
	return out
}
