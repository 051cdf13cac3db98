package api

// Verb is something a node can be commanded to do. Args describes the arguments object.
type Verb struct {
	Name   string `json:"name"`
	Help   string `json:"help"`
	Args   Schema `json:"args"`
	Role   Role   `json:"role"`   // least role that may ask for it; the cluster agent raises it where it asks for more
	Stream bool   `json:"stream"` // opens a stream when args.stream names one
	// Safe says that it changes nothing and cannot harm the agent (as in RFC 9110 §9.2.1), so that it may run again after
	// a crash and need not be on disk before it runs.
	Safe bool `json:"safe,omitempty"`
}

// Schema is the subset of JSON Schema (draft 2020-12) that describes a verb's arguments: enough for a form, a
// completion, and a check before anything is sent.
type Schema struct {
	Type                 string            `json:"type,omitempty"`
	Description          string            `json:"description,omitempty"`
	Properties           map[string]Schema `json:"properties,omitempty"`
	Required             []string          `json:"required,omitempty"`
	Items                *Schema           `json:"items,omitempty"`
	Enum                 []string          `json:"enum,omitempty"`
	Pattern              string            `json:"pattern,omitempty"`
	Minimum              *float64          `json:"minimum,omitempty"`
	Maximum              *float64          `json:"maximum,omitempty"`
	MaxLength            int               `json:"maxLength,omitempty"`
	AdditionalProperties *bool             `json:"additionalProperties,omitempty"`
}

// Role is what somebody may do. Each includes the one before.
type Role string

// The roles.
const (
	RoleViewer   Role = "viewer"   // reads
	RoleOperator Role = "operator" // and commands nodes
	RoleAdmin    Role = "admin"    // and admits, removes, issues tokens and certificates
)

// Includes reports whether somebody with role r may do what asks for least. An unknown role includes nothing.
func (r Role) Includes(least Role) bool {
	rank := map[Role]int{RoleViewer: 1, RoleOperator: 2, RoleAdmin: 3}
	return rank[r] != 0 && rank[least] != 0 && rank[r] >= rank[least]
}
