package access

import (
	"net/http"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// Principal is somebody who was authenticated. Via is rest or mqtt: by which door they came.
type Principal struct {
	Name string
	Role api.Role
	Via  string
}

// The doors, as they stand in the audit log.
const (
	ViaREST  = "rest"
	ViaMQTT  = "mqtt"
	ViaLocal = "local"
)

// Certified is the principal of an operator's certificate that somebody else has verified. Nodes and the cluster agent
// are none.
func Certified(who mqtt.Identity, via string) (Principal, error) {
	if who.Kind != mqtt.OperatorIdentity {
		return Principal{}, problem(http.StatusForbidden, CodeForbidden, "use an operator's certificate or an access token",
			"%s %q may not use this door", who.Kind, who.Name)
	}
	return Principal{Name: who.Name, Role: who.Role, Via: via}, nil
}

// Require refuses who has less than the role.
func (p Principal) Require(least api.Role) error {
	if p.Role.Includes(least) {
		return nil
	}
	return problem(http.StatusForbidden, CodeForbidden, "ask an administrator", "%q has role %q; this takes %q", p.Name,
		p.Role, least)
}
