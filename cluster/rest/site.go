// Package rest is the northbound interface of the cluster agent: REST under /v1 with OpenAPI 3.1 generated from this
// code, the Prometheus query API, enrolment, health and metrics, on one TLS listener. It decides who may ask, and asks
// the site; the site decides everything else.
package rest

import (
	"context"
	"io"
	"net/http"

	"github.com/skerry-edge/skerry/api"
)

// Principal is who asks.
type Principal struct {
	Name string
	Role api.Role
	From string // remote address
}

// Gate knows principals and writes down what they did.
type Gate interface {
	// Authenticate finds out who asks, by bearer token or client certificate; an *api.Problem says why not.
	Authenticate(r *http.Request) (Principal, error)
	// Audit records a write; result is ok, or why not.
	Audit(who Principal, action, object, result string)
	AuditLog(p Page) (entries []api.AuditEntry, next string, err error)
}

// Page says which part of a list is wanted. Lists of what happened begin with the newest.
type Page struct {
	Node     string // only what concerns it
	Open     bool   // of commands: only those without a final state
	Limit    int    // as many at most
	Continue string // next of the page before; empty begins
}

// Fleet is the nodes and what happened to them. Errors that the caller caused are *api.Problem.
type Fleet interface {
	Nodes(selector string) ([]api.Node, error)
	Label(ctx context.Context, node string, labels map[string]string) (api.Node, error)
	// Remove decommissions a node: certificate revoked, session ended, retained topics cleared, telemetry deleted.
	Remove(ctx context.Context, node, by string) error
	Events(p Page) (events []api.EventRecord, next string, err error)
	// Watch hands changes of the kinds asked for (node, command, event) to take until ctx ends, take fails or the
	// reader is too slow. With initial it begins with what is there.
	Watch(ctx context.Context, q WatchQuery, take func(api.Change) error) error
}

// WatchQuery says what to watch.
type WatchQuery struct {
	Kinds    []string
	Node     string
	Selector string
	Initial  bool
	IDs      []string // of commands; none asks for all. Nodes and events are not told by it
}

// Orders is the one door for commands.
type Orders interface {
	Order(ctx context.Context, req api.CommandRequest, who Principal) ([]api.CommandRecord, error)
	Command(id string) (api.CommandRecord, error)
	// Commands lists the open ones first, then those that have ended, by when they did.
	Commands(p Page) (records []api.CommandRecord, next string, err error)
	Cancel(ctx context.Context, id string, who Principal) (api.CommandRecord, error)
}

// Admission is tokens, waiting devices, operators and access tokens.
type Admission interface {
	CreateToken(ctx context.Context, req api.TokenRequest, by string) (api.Token, error)
	Tokens() ([]api.Token, error)
	RevokeToken(ctx context.Context, id string) error
	Enrollments() ([]api.Enrollment, error)
	Approve(ctx context.Context, id, by string) (api.Enrollment, error)
	Deny(ctx context.Context, id, by string) error
	CreateOperator(ctx context.Context, req api.OperatorRequest, by string) (api.Operator, error)
	Operators() ([]api.Operator, error)
	RevokeOperator(ctx context.Context, name, by string) error
	CreateAccess(ctx context.Context, req api.AccessRequest) (api.AccessToken, error)
	AccessTokens() ([]api.AccessToken, error)
	RevokeAccess(ctx context.Context, id string) error
}

// Files moves bytes between a node and a caller, over streams of the node's link.
type Files interface {
	// Logs writes the log of source to w; with follow until ctx ends.
	Logs(ctx context.Context, q LogQuery, who Principal, w io.Writer) error
	// Get writes a file of a node to w and returns its SHA-256, lower-case hex.
	Get(ctx context.Context, node, path string, who Principal, w io.Writer) (sha256 string, err error)
	// Put sends a file to a node, which checks its digest before it takes effect.
	Put(ctx context.Context, f Upload, who Principal, r io.Reader) error
}

// Images are what nodes run, as the cluster agent keeps them.
type Images interface {
	List(ctx context.Context) ([]api.Image, error)
	// Import takes the images of an archive; name is that of its only one, or empty.
	Import(ctx context.Context, in io.Reader, name string) ([]api.Image, error)
	Remove(ctx context.Context, name string) error
}

// LogQuery says which log, and how much of it.
type LogQuery struct {
	Node, Source string
	Lines        int
	Follow       bool
}

// Upload describes a file on its way to a node.
type Upload struct {
	Node, Path, Mode, SHA256 string
	NewMode                  string // of a file that is not there yet
	Size                     int64
}

// Site is all that the interface shows.
type Site struct {
	Gate      Gate
	Fleet     Fleet
	Orders    Orders
	Admission Admission
	Files     Files
	Live      Live
	Images    Images
	Pulls     http.Handler // /v1/images/… and /v2/…, for nodes and programs that know registries; it authenticates them itself
	Releases  Releases
	Rollouts  Rollouts
	Release   http.Handler // GET /v1/releases/{version}/{file}, for nodes and people; it authenticates them itself
	Status    func() api.ClusterStatus
	PromQL    http.Handler // /api/v1/…
	Enroll    http.Handler // /v1/enroll, /v1/renew, /v1/leave, /v1/ca, /v1/time; for devices, which authenticate themselves
	Metrics   http.Handler
	Ready     func() error           // nil when the agent can do its work
	Log       func() []byte          // the end of the agent's own log; nil when it keeps none
	Config    func() (string, error) // what is in force, without secrets
	// Closing ends answers that would go on for ever, ahead of the server's own stop; nil never does.
	Closing context.Context
}
