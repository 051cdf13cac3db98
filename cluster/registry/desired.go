package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// maxDesiredBytes bounds the document as JSON: signed and in base64 it still fits one message.
const maxDesiredBytes = api.MaxMessageBytes / 4 * 3 * 3 / 4

// What workloads leave of the document to all else, so that whoever may make pods does not keep a device from being configured or
// updated: roomKept at least, and roomMore beyond what is there.
const (
	roomKept = 8 << 10
	roomMore = 1 << 10
)

// Room is how many bytes the workloads of d may take as JSON, each with a comma.
func Room(d *api.Desired) (int, error) {
	rest := *d
	rest.Workloads = nil
	_, size, err := HashDesired(&rest)
	if err != nil {
		return 0, err
	}
	return maxDesiredBytes - max(size+roomMore, roomKept), nil
}

// SetDesired changes the desired document of a node and returns its revision: one generation more when workloads,
// policies, config or agent differ, the same otherwise. mutate may run more than once, each time on a fresh copy; its error is
// returned and nothing is changed. The new document is on disk before SetDesired returns: only then may it be published.
func (r *Registry) SetDesired(id string, mutate func(*api.Desired) error) (rev api.Revision, err error) {
	r.mu.RLock()
	n, err := r.find(id)
	told := n.told()
	if err == nil && !n.mayTell() {
		err = fmt.Errorf("set desired of node %s: %w", id, ErrUnheard)
	}
	r.mu.RUnlock()
	if err != nil {
		return api.Revision{}, err
	}
	var want *api.AgentWant
	err = r.group.Do(func(tx *bbolt.Tx) error {
		d, err := readDesired(tx, id)
		if err != nil {
			return err
		}
		if err := mutate(d); err != nil {
			return err
		}
		want = d.Agent
		rev, err = writeDesired(tx, id, d, told)
		return err
	}, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := r.nodes[id]; n != nil && n.desired != rev {
			n.desired, n.want = rev, want
			r.publish(n)
		}
	})
	if err != nil {
		return api.Revision{}, fmt.Errorf("set desired of node %s: %w", id, err)
	}
	return rev, nil
}

// told is the greatest generation that a node says it has: more than what is stored here when the store was put back from a
// copy, or another cluster agent told it. Caller holds mu.
func (n *node) told() (generation uint64) {
	if n != nil && n.birth != nil {
		generation = n.birth.Desired.Generation
	}
	if n != nil && n.reported != nil {
		generation = max(generation, n.reported.Generation)
	}
	return generation
}

// Renumber gives the desired document of a node the next generation if the node has another one under the same, as after two cluster
// agents took one for themselves: the node would not take what is stored here, and say that it has it.
func (r *Registry) Renumber(id string, has api.Revision) error {
	r.mu.RLock()
	told := r.nodes[id].told()
	r.mu.RUnlock()
	var rev api.Revision
	err := r.group.Do(func(tx *bbolt.Tx) error {
		rev = api.Revision{}
		d, err := readDesired(tx, id)
		if err != nil || has.Hash == "" || d.Generation != has.Generation || d.Hash == has.Hash || tx.Bucket([]byte(bucketNode)).Get([]byte(id)) == nil {
			return err
		}
		d.Generation = max(d.Generation, told) + 1
		rev = api.Revision{Generation: d.Generation, Hash: d.Hash}
		return writeJSON(tx, bucketDesired, id, d)
	}, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := r.nodes[id]; n != nil && rev.Generation > 0 {
			n.desired = rev
			r.publish(n)
		}
	})
	if err != nil {
		return fmt.Errorf("number desired of node %s: %w", id, err)
	}
	return nil
}

// readDesired returns the stored document, or an empty one of generation 0.
func readDesired(tx *bbolt.Tx, id string) (*api.Desired, error) {
	d := &api.Desired{Node: id}
	if err := readJSON(tx, bucketDesired, []byte(id), d); err != nil {
		return nil, fmt.Errorf("read desired: %w", err)
	}
	return d, nil
}

// writeDesired stores d as the next generation, if it differs from what is stored,
// above a generation that the node was told before. A version with try 0 is stated anew: its try is that generation.
func writeDesired(tx *bbolt.Tx, id string, d *api.Desired, told uint64) (api.Revision, error) {
	if tx.Bucket([]byte(bucketNode)).Get([]byte(id)) == nil {
		return api.Revision{}, ErrUnknown // removed meanwhile
	}
	was, err := readDesired(tx, id)
	if err != nil {
		return api.Revision{}, err
	}
	floor, err := generation(tx, id)
	if err != nil {
		return api.Revision{}, err
	}
	next := max(floor, told) + 1
	if d.Agent != nil && d.Agent.Try == 0 {
		d.Agent.Try = next
	}
	hash, size, err := HashDesired(d)
	if err != nil {
		return api.Revision{}, err
	}
	if hash == was.Hash {
		return api.Revision{Generation: was.Generation, Hash: hash}, nil
	}
	if err := checkDesired(d, size); err != nil {
		return api.Revision{}, &Refusal{err}
	}
	d.Node, d.Generation, d.Hash = id, next, hash
	d.Epoch, d.Issued, d.Expires = 0, 0, 0 // given at each issue
	return api.Revision{Generation: d.Generation, Hash: hash}, writeJSON(tx, bucketDesired, id, d)
}

func checkDesired(d *api.Desired, size int) error {
	if size > maxDesiredBytes {
		return fmt.Errorf("the document takes %d bytes as JSON; wanted at most %d", size, maxDesiredBytes)
	}
	var names []string
	for i := range d.Workloads {
		names = append(names, "workload "+d.Workloads[i].Name)
	}
	for i := range d.Policies {
		names = append(names, "policy "+d.Policies[i].Name)
	}
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			return fmt.Errorf("%s is there twice", names[i])
		}
	}
	issue := *d
	issue.Generation, issue.Issued, issue.Expires = 1, 1, 2
	return issue.Validate()
}

// HashDesired is the SHA-256, in lower-case hex, of workloads, policies, config and agent as JSON: no spaces, object keys
// sorted, in that order of fields, an absent list as [], no agent as none. size is the length of that JSON.
func HashDesired(d *api.Desired) (hash string, size int, err error) {
	content := struct {
		Workloads []api.Workload `json:"workloads"`
		Policies  []api.Policy   `json:"policies"`
		Config    map[string]any `json:"config,omitempty"`
		Agent     *api.AgentWant `json:"agent,omitempty"`
	}{d.Workloads, d.Policies, d.Config, d.Agent}
	if content.Workloads == nil {
		content.Workloads = []api.Workload{}
	}
	if content.Policies == nil {
		content.Policies = []api.Policy{}
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return "", 0, fmt.Errorf("hash desired: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), len(raw), nil
}

// DesiredFor returns the document of a node, issued now for the session epoch, to be signed and published: when the
// node's birth shows another revision, or to give a node its time. nil when the node was never told anything.
func (r *Registry) DesiredFor(id string, epoch uint64) (*api.Desired, error) {
	r.mu.RLock()
	n, err := r.find(id)
	known := err == nil && n.desired.Generation > 0
	r.mu.RUnlock()
	if err != nil || !known {
		return nil, err
	}
	var d *api.Desired
	err = r.cfg.DB.View(func(tx *bbolt.Tx) (err error) {
		d, err = readDesired(tx, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("desired of node %s: %w", id, err)
	}
	if d.Generation == 0 { // removed meanwhile
		return nil, nil
	}
	now := r.cfg.Now()
	d.Epoch, d.Issued, d.Expires = epoch, api.At(now), api.At(now.Add(r.cfg.DesiredValid))
	return d, nil
}
