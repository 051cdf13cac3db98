package rest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// shown is what somebody may see of a command. Arguments, output and results can hold secrets, and what a node says in
// its own words can quote them: those are for whoever may command nodes. A viewer sees which command it is, whose, and
// what became of it when.
func shown(rec api.CommandRecord, role api.Role) api.CommandRecord {
	if role.Includes(api.RoleOperator) {
		return rec
	}
	rec.Args = nil
	rec.History = slices.Clone(rec.History) // records are shared
	for i := range rec.History {
		if rec.History[i].Side != "cluster" {
			rec.History[i].Reason = ""
		}
	}
	if st := rec.Status; st != nil {
		rec.Status = &api.Status{ID: st.ID, Phase: st.Phase, Epoch: st.Epoch, At: st.At, Exit: st.Exit, Truncated: st.Truncated}
	}
	return rec
}

// maxOrdered bounds what the audit log says of one request: it has to fit into an entry.
const maxOrdered = api.MaxReasonBytes - len(", and 10000 more")

// ordered is what the audit log says of a request: the verb, then each node with the id of its command.
func ordered(req *api.CommandRequest, out []api.CommandRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.63s", req.Verb)
	if len(out) == 0 { // it came to nothing: what was asked for
		for _, n := range req.Nodes {
			out = append(out, api.CommandRecord{Node: n, ID: req.ID})
		}
	}
	if req.Selector != "" {
		fmt.Fprintf(&b, " -l %.200s", req.Selector)
		if len(out) > 0 {
			b.WriteString(":")
		}
	}
	for i := range out {
		text := " " + out[i].Node
		if out[i].ID != "" {
			text += " " + out[i].ID
		} else if out[i].Final {
			text += " " + string(out[i].Phase)
		}
		if i > 0 {
			text = "," + text
		}
		if b.Len()+len(text) > maxOrdered {
			fmt.Fprintf(&b, ", and %d more", len(out)-i)
			break
		}
		b.WriteString(text)
	}
	return b.String()
}
