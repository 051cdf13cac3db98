package scale

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// auditPolicy has the API server note every request, and nothing of its content.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
`

// audit reads the API server's audit log from where it was left.
type audit struct {
	path string
	at   int64
}

// skip leaves out what is there.
func (a *audit) skip() error {
	info, err := os.Stat(a.path)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	a.at = info.Size()
	return nil
}

// Requests are counts of requests of somebody, by verb and resource, as "patch nodes/status".
type Requests map[string]int

// isWrite tells verbs that change something.
func isWrite(what string) bool {
	verb, _, _ := strings.Cut(what, " ")
	return slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, verb)
}

// Writes are those that change something, of Leases and of all else.
func (r Requests) Writes() (leases, others int) {
	for what, n := range r {
		switch {
		case !isWrite(what):
		case strings.HasSuffix(what, " leases"):
			leases += n
		default:
			others += n
		}
	}
	return leases, others
}

// Sorted are the kinds of request, the most frequent first.
func (r Requests) Sorted() []string {
	return slices.SortedFunc(maps.Keys(r), func(a, b string) int {
		if r[a] != r[b] {
			return r[b] - r[a]
		}
		return strings.Compare(a, b)
	})
}

// Asked is what a while of an audit log tells.
type Asked struct {
	Own     Requests `json:"requests"`         // of the cluster agent
	Refused Requests `json:"requestsRefused"`  // those of the cluster agent that were answered with 400 or more
	Others  Requests `json:"requestsOfOthers"` // of the control plane's own parts
	// LeaseSeconds is for how long the API server had a renewal of the cluster agent's, on average; 0: there was none.
	LeaseSeconds float64 `json:"leaseSeconds"`
}

// event is a line of an audit log.
type event struct {
	Verb string
	User struct{ Username string }
	Ref  struct{ Namespace, Resource, Subresource string } `json:"objectRef"`
	Came time.Time                                         `json:"requestReceivedTimestamp"`
	Done time.Time                                         `json:"stageTimestamp"`
	Said struct{ Code int }                                `json:"responseStatus"`
}

// take counts the requests since skip, or the last take, user's apart.
func (a *audit) take(user string) (*Asked, error) {
	f, err := os.Open(a.path)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(a.at, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	asked := &Asked{Own: Requests{}, Refused: Requests{}, Others: Requests{}}
	renewals, spent := 0, time.Duration(0)
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF { // what is not a whole line is for the next time
			if renewals > 0 {
				asked.LeaseSeconds = spent.Seconds() / float64(renewals)
			}
			return asked, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		a.at += int64(len(line))
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		asked.add(&e, user)
		if e.User.Username == user && e.renewal() {
			renewals, spent = renewals+1, spent+e.Done.Sub(e.Came)
		}
	}
}

// renewal tells one of a node's Lease that was taken; that of who leads is another.
func (e *event) renewal() bool {
	return e.Verb == "update" && e.Ref.Resource == "leases" && e.Ref.Namespace == "kube-node-lease" && e.Said.Code < http.StatusBadRequest
}

func (a *Asked) add(e *event, user string) {
	what := e.Verb + " " + strings.TrimSuffix(e.Ref.Resource+"/"+e.Ref.Subresource, "/")
	if e.User.Username != user {
		a.Others[what]++
		return
	}
	a.Own[what]++
	if e.Said.Code >= http.StatusBadRequest {
		a.Refused[what]++
	}
}
