// Package doctor finds out why a node is not online: it looks at what is on the device, walks the way from the clock to the broker, step
// by step, and asks whether an agent goes it. It names the first step that fails with the value seen, the value wanted and the cure.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/identity"
)

// Exit codes, one per class of fault. They are part of the interface: scripts and installers branch on them.
const (
	ExitOK          = 0
	ExitClock       = 10
	ExitDNS         = 11
	ExitTCP         = 12
	ExitTLS         = 13
	ExitPin         = 14
	ExitToken       = 15
	ExitBroker      = 16
	ExitCertificate = 17
	ExitJoin        = 18
	ExitApproval    = 19

	ExitConfiguration = 20
	ExitState         = 21
	ExitAgent         = 22
)

// Finding is the outcome of one step. Seen, Wanted and Cure are set when it failed.
type Finding struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Seen   string `json:"seen,omitempty"`
	Wanted string `json:"wanted,omitempty"`
	Cure   string `json:"cure,omitempty"`
	Exit   int    `json:"exit"`
}

// Patient is the node under examination. Either Join (before enrolment) or Identity (after it) is set, or the fault that
// keeps it from being read. Before enrolment, Identity may hold the key that the device asks with.
type Patient struct {
	Clock    *agent.Clock
	Join     *api.Join
	Identity *identity.Identity

	ConfigFault   error // what is wrong with the configuration
	ConfigNote    string
	JoinFault     error // the join string there is cannot be read
	IdentityFault error // the identity there is cannot be read

	Client  *identity.Client
	Node    string   // wanted id, before enrolment; empty: the cluster chooses
	PutJoin string   // how a new join string gets to the agent of this device
	Note    string   // what a running agent says of its identity, after a semicolon
	Brokers []string // in place of those in Identity
	Waiting string   // what a running agent waits for before it has a certificate; empty for nothing
	Running bool     // an agent uses the identity now: do not take its MQTT session over
	Dirs    []string // which the agent writes
	// Agent looks at the running agent, if there is one. It comes last: that none runs mostly follows from what the steps before find.
	Agent    func(context.Context) Finding
	approved bool // what Waiting told is over
	// LinkError is why the running agent has no session now; empty when it has one.
	LinkError string
}

// stepTimeout bounds each step.
const stepTimeout = 10 * time.Second

// Diagnose walks the steps and stops after the first that fails. Each finding is handed to tell as it is made.
func Diagnose(ctx context.Context, p *Patient, tell func(Finding)) Finding {
	last := Finding{OK: true}
	steps := p.steps()
	if p.Agent != nil {
		steps = append(steps, step{"agent", p.Agent})
	}
	for _, step := range steps {
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		last = step.examine(ctx)
		cancel()
		last.Step = step.name
		if last.Exit == ExitOK {
			last.OK = true
		} else if named, ok := stepOf[last.Exit]; ok {
			last.Step = named // a handshake may reveal that the clock or the pin is what is wrong
		}
		tell(last)
		if !last.OK {
			break
		}
	}
	return last
}

var stepOf = map[int]string{ExitClock: "clock", ExitPin: "ca-pin", ExitCertificate: "certificate"}

type step struct {
	name    string
	examine func(context.Context) Finding
}

func (p *Patient) steps() []step {
	steps := []step{{"configuration", p.configuration}, {"state", p.state}, {"clock", p.clock}}
	if p.IdentityFault != nil {
		return append(steps, step{"certificate", p.damaged})
	}
	if p.Identity == nil || !p.Identity.Enrolled() {
		steps = append(steps, step{"join", p.join})
		if p.Join == nil {
			return steps
		}
		site := &site{p: p, urls: p.Join.Endpoints, port: "443"} // as the agent dials a URL without one
		return append(steps, step{"dns", site.dns}, step{"tcp", site.tcp}, step{"tls", site.tlsPinned}, step{"token", p.token}, step{"approval", p.approval})
	}
	urls := p.Brokers
	if len(urls) == 0 {
		urls = p.Identity.MQTT
	}
	site := &site{p: p, urls: urls, port: "8883"}
	return append(steps, step{"certificate", p.certificate}, step{"dns", site.dns}, step{"tcp", site.tcp},
		step{"tls", site.tlsTrusted}, step{"broker", site.broker})
}

// join looks at the join string alone. Whether it has expired is for the cluster agent to say, whose clock is right.
func (p *Patient) join(context.Context) Finding {
	cure := "on the cluster: skerry token create; " + p.PutJoin
	switch {
	case p.JoinFault != nil:
		return Finding{Exit: ExitJoin, Detail: "the join string cannot be read", Seen: p.JoinFault.Error(),
			Wanted: "a join string, whole, as skerry token create prints it", Cure: "copy it again; or " + cure}
	case p.Join == nil:
		return Finding{Exit: ExitJoin, Detail: "not enrolled, and no join string", Seen: "no identity, join is empty",
			Wanted: "a join string", Cure: cure}
	}
	f := Finding{Detail: fmt.Sprintf("token %s for %s, until %s", p.Join.ID, strings.Join(p.Join.Endpoints, ", "),
		p.Join.Expires.Time().UTC().Format(time.RFC3339))}
	if late := p.Clock.Now().Sub(p.Join.Expires.Time()); late > 0 {
		f.Detail += fmt.Sprintf(": expired %s ago, if this device's clock is right", agent.Span(late))
	}
	return f
}

func (p *Patient) damaged(context.Context) Finding {
	if errors.Is(p.IdentityFault, fs.ErrPermission) { // it is whole
		return Finding{Exit: ExitCertificate, Detail: "this user may not read the node's identity", Seen: p.IdentityFault.Error(),
			Wanted: "a user that may", Cure: asRoot}
	}
	return Finding{Exit: ExitCertificate, Detail: "the node's identity cannot be read", Seen: p.IdentityFault.Error(),
		Wanted: "the identity.json that enrolment wrote", Cure: "restore the file; or remove it, and on the cluster: " +
			"skerry token create --approval; " + p.PutJoin + "; then skerry approve"}
}

// clock only fails when nothing can be done about it: a clock before the floor is mended by the agent itself.
func (p *Patient) clock(context.Context) Finding {
	now, quality := p.Clock.Read()
	if !p.Clock.Plausible() {
		return Finding{Detail: fmt.Sprintf("system clock is behind what is surely past; working with %s until the cluster tells the time",
			now.UTC().Format(time.RFC3339))}
	}
	return Finding{Detail: fmt.Sprintf("%s (%s)", now.UTC().Format(time.RFC3339), quality)}
}

func (p *Patient) certificate(context.Context) Finding {
	leaf := p.Identity.Leaf()
	now := p.Clock.Now()
	left := leaf.NotAfter.Sub(now)
	if left > 0 {
		return Finding{Detail: fmt.Sprintf("%s of cluster %s, valid for %s more", p.Identity.Node, p.Identity.Cluster, agent.Span(left)) + p.Note}
	}
	return Finding{Exit: ExitCertificate, Detail: "the node's certificate has expired",
		Seen:   "expired " + leaf.NotAfter.UTC().Format(time.RFC3339) + ", now " + now.UTC().Format(time.RFC3339),
		Wanted: "a valid certificate",
		Cure: "if the time is wrong, set the clock (date -s, or start an NTP client); otherwise start skerry-edge: it renews by itself " +
			"within the grace window; after it, remove identity.json and join again"}
}

// approval tells of a device that a person has to let in.
func (p *Patient) approval(context.Context) Finding {
	if p.approved {
		return Finding{Detail: "approved; the running agent asks again within a minute"}
	}
	if p.Waiting == "" {
		return Finding{Detail: "nobody has to approve this device, or it has not asked yet"}
	}
	return Finding{Exit: ExitApproval, Detail: "a person has to let this device in", Seen: p.Waiting, Wanted: "approval by an administrator",
		Cure: "on the cluster: skerry get enrollments, then skerry approve " + p.Node + "; here, skerry-edge run has to be running"}
}

// token asks whether the join string would be accepted, without using it.
func (p *Patient) token(ctx context.Context) Finding {
	id, err := p.Identity, error(nil)
	if id == nil {
		id, err = identity.New(p.Node)
	}
	var csr string
	if err == nil {
		csr, err = id.CSR()
	}
	if err != nil {
		return Finding{Exit: ExitToken, Detail: "cannot make a request", Seen: err.Error(), Wanted: "a key, and a request", Cure: "see the message"}
	}
	reply, err := p.Client.Enroll(ctx, p.Join, &api.EnrollRequest{Node: p.Node, CSR: csr, CheckOnly: true})
	if err != nil {
		return refused(err, p.Join)
	}
	switch pending := reply.Status == api.EnrollPending; {
	case pending:
		p.Waiting = identity.Waiting + reply.Message
	case p.Identity != nil && p.Waiting != "": // of this very key the cluster agent says otherwise by now
		p.Waiting, p.approved = "", true
	}
	if p.Identity != nil && reply.Node != "" { // an id that is made of a key is only right for the device's own
		p.Node = reply.Node
	}
	if p.Node == "" {
		return Finding{Detail: "accepted; the cluster chooses the id"}
	}
	return Finding{Detail: "accepted for " + p.Node}
}

// Write prints f as people read it: one line, and three more when it failed.
func (f Finding) Write(w io.Writer) error {
	if f.OK {
		_, err := fmt.Fprintf(w, "ok    %-13s %s\n", f.Step, f.Detail)
		return err
	}
	_, err := fmt.Fprintf(w, "FAIL  %-13s %s\n      seen    %s\n      wanted  %s\n      cure    %s\n", f.Step, f.Detail, f.Seen, f.Wanted, f.Cure)
	return err
}

// hostPort returns where u points, with port in place of a missing one.
func hostPort(raw, port string) (host, p string, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return "", "", fmt.Errorf("%q: wanted scheme://host:port", raw)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return u.Hostname(), port, nil
}
