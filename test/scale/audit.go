package scale

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
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

// take counts the requests since skip, or the last take: those of user, and everybody else's.
func (a *audit) take(user string) (own, others Requests, err error) {
	f, err := os.Open(a.path)
	if err != nil {
		return nil, nil, fmt.Errorf("read audit log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(a.at, io.SeekStart); err != nil {
		return nil, nil, fmt.Errorf("read audit log: %w", err)
	}
	own, others = Requests{}, Requests{}
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return own, others, nil // what is not a whole line is for the next time
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read audit log: %w", err)
		}
		a.at += int64(len(line))
		var e struct {
			Verb string
			User struct{ Username string }
			Ref  struct{ Resource, Subresource string } `json:"objectRef"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, nil, fmt.Errorf("read audit log: %w", err)
		}
		what := e.Verb + " " + strings.TrimSuffix(e.Ref.Resource+"/"+e.Ref.Subresource, "/")
		if e.User.Username == user {
			own[what]++
		} else {
			others[what]++
		}
	}
}
