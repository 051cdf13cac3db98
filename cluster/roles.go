package cluster

import "github.com/skerry-edge/skerry/api"

// roleFor is the one truth about who may ask for a verb, at every door and in what is shown of a node. Nobody commands with
// less than operator, not even a ping: each command wakes a device, may cost metered traffic, and is written down on both
// sides; a viewer reads. Above that a verb takes what this agent knows of it, or what the node says when that is stricter.
// A node's word alone makes no verb cheaper, and one that nobody has said a role for takes an administrator.
func roleFor(verb string, announced []api.Verb) api.Role {
	least, said := api.RoleOperator, false
	switch verb {
	case "config.set", "agent.restart", "reboot", api.VerbK3sJoin, api.VerbK3sLeave:
		return api.RoleAdmin
	case "ping", "info", "telemetry.now", "exec", "log.tail", "file.get", "file.put", "cancel":
		said = true
	}
	for i := range announced {
		v := &announced[i]
		if v.Name != verb || v.Role == "" {
			continue
		}
		said = true
		if !api.RoleOperator.Includes(v.Role) { // more than operator, or no role at all
			least = api.RoleAdmin
		}
	}
	if !said {
		return api.RoleAdmin
	}
	return least
}

// assignRoles has a node's verbs show the roles that they take here.
func assignRoles(verbs []api.Verb) {
	for i := range verbs {
		verbs[i].Role = roleFor(verbs[i].Name, verbs)
	}
}
