package access

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/skerry-edge/skerry/api"
)

const (
	// oidcPrefix keeps the names that an issuer gives apart from those of access tokens and operators: there, too, may
	// be an "admin".
	oidcPrefix  = "oidc:"
	maxUsername = 128 // bytes
	maxShown    = 20  // groups in a refusal
)

// principal is who a verified token speaks of: of all roles that their groups give, the highest.
func (o *OIDC) principal(token *oidc.IDToken) (Principal, error) {
	var claims map[string]json.RawMessage
	if err := token.Claims(&claims); err != nil {
		return Principal{}, problem(http.StatusUnauthorized, CodeInvalid, "", "token has claims that cannot be read: %v", err)
	}
	name, err := o.username(claims)
	if err != nil {
		return Principal{}, problem(http.StatusForbidden, CodeClaims, "have the identity provider send the claim, or name another in http.oidc",
			"token does not say who bears it: %v", err)
	}
	p := Principal{Name: oidcPrefix + name, Via: ViaREST}
	groups, err := texts(claims[o.cfg.GroupsClaim])
	if err != nil {
		return p, problem(http.StatusForbidden, CodeClaims, "have the identity provider send the claim, or name another in http.oidc",
			"claim %s of %s: %v", o.cfg.GroupsClaim, p.Name, err)
	}
	for role, mapped := range o.cfg.Roles {
		if slices.ContainsFunc(mapped, func(g string) bool { return slices.Contains(groups, g) }) && !p.Role.Includes(role) {
			p.Role = role
		}
	}
	if p.Role == "" {
		return p, problem(http.StatusForbidden, CodeGroups, "ask an administrator to give one of them a role in http.oidc.roles",
			"%s has no role here: none of the groups in the token has one: %s", p.Name, shown(groups))
	}
	return p, nil
}

func (o *OIDC) username(claims map[string]json.RawMessage) (string, error) {
	var name string
	if raw, ok := claims[o.cfg.UsernameClaim]; !ok || json.Unmarshal(raw, &name) != nil {
		return "", fmt.Errorf("claim %s: wanted a text", o.cfg.UsernameClaim)
	}
	if name == "" || len(name) > maxUsername || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return "", fmt.Errorf("claim %s %.40q: wanted 1 to %d printable bytes", o.cfg.UsernameClaim, name, maxUsername)
	}
	// Whoever may choose an address that nobody has checked may choose another's.
	if o.cfg.UsernameClaim == "email" && string(claims["email_verified"]) != "true" {
		return "", fmt.Errorf("claim email %q: wanted it verified, with email_verified true beside it", name)
	}
	return name, nil
}

// texts reads a claim that is a text, or a list of texts.
func texts(raw json.RawMessage) ([]string, error) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var many []string
	if len(raw) == 0 {
		return nil, fmt.Errorf("it is not in the token")
	}
	if err := json.Unmarshal(raw, &many); err != nil {
		return nil, fmt.Errorf("wanted a text or a list of texts")
	}
	return many, nil
}

// shown writes groups for a person to read.
func shown(groups []string) string {
	if len(groups) == 0 {
		return "there are none"
	}
	out := make([]string, 0, maxShown)
	for _, g := range groups[:min(len(groups), maxShown)] {
		out = append(out, fmt.Sprintf("%.64q", g))
	}
	text := strings.Join(out, ", ")
	if more := len(groups) - len(out); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// RolesOf is the mapping of OIDCConfig.Roles.
func RolesOf(viewer, operator, admin []string) map[api.Role][]string {
	return map[api.Role][]string{api.RoleViewer: viewer, api.RoleOperator: operator, api.RoleAdmin: admin}
}
