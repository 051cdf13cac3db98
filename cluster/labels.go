package cluster

import (
	"strings"
	"sync"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// badLabels remembers which bad labels of a node were told, so that each connect does not tell them again. A device in the
// field with a bad label comes online all the same, without it.
type badLabels struct {
	mu   sync.Mutex
	told map[string]string
}

// maxBadLabels bounds what is remembered; beyond it the telling begins again.
const maxBadLabels = 4096

// tell makes an alarm of what is wrong with the labels that a node announced; nil: nothing is.
func (l *badLabels) tell(a *Agent, node string, faults error) {
	wrong := ""
	if faults != nil {
		wrong = strings.ReplaceAll(faults.Error(), "\n", "; ")
	}
	l.mu.Lock()
	was := l.told[node]
	if l.told == nil || len(l.told) >= maxBadLabels {
		l.told = map[string]string{}
	}
	delete(l.told, node)
	if wrong != "" {
		l.told[node] = wrong
	}
	l.mu.Unlock()
	switch {
	case wrong == was:
	case wrong == "":
		a.noteOf(node, api.ClassAlarm, "node.labels", "", "cleared")
	default:
		a.log.Warn("labels of a node are left out", agent.KeyNode, node, agent.KeyReason, clip(wrong))
		a.noteOf(node, api.ClassAlarm, "node.labels", "", clip("raised: left out: "+wrong))
	}
}
