package vnode

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

const (
	roomFresh  = 30 * time.Second // how long a count of nodes holds, with those that were made since
	roomWithin = 30 * time.Second
	roomEvery  = 10 * time.Minute // without a device that wants to be a node, for the doctor
	roomAgain  = time.Minute      // for a device that there was no room for
)

// room keeps devices from taking the last parts of the pod network. Safe for concurrent use.
type room struct {
	reader  client.Reader // past the cache, which has devices alone
	limit   int
	ours    func(*corev1.Node) bool
	changed func(id string) // a device waits, or waits no more; nil: nobody wants to know
	now     func() time.Time

	asking sync.Mutex // held while nodes are counted, which takes long where the API server hangs; taken before mu

	mu      sync.Mutex
	net     bridge.Network
	asked   time.Time // by the runtime's clock; zero: never
	made    int       // Nodes since
	waiting map[string]string
}

// admit says why a device is not to be a node now; empty: it may.
func (r *room) admit(ctx context.Context, id string) (why string, err error) {
	r.asking.Lock()
	defer r.asking.Unlock()
	if r.stale() {
		if err := r.look(ctx); err != nil {
			return "", err
		}
	}
	r.mu.Lock()
	if why = r.net.Refuses(r.limit, r.made); why == "" {
		r.made++
	}
	r.mu.Unlock()
	r.note(id, why)
	return why, nil
}

func (r *room) stale() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked.IsZero() || time.Since(r.asked) > roomFresh
}

// look counts. Caller holds asking, so that many who ask at once have one answer.
func (r *room) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roomWithin)
	defer cancel()
	var list corev1.NodeList
	err := r.reader.List(ctx, &list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}) // from the API server's own cache
	if err != nil {
		return fmt.Errorf("count nodes: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.net, r.asked, r.made = bridge.NetworkOf(list.Items, r.ours, r.now()), time.Now(), 0
	return nil
}

// note keeps why a device waits; empty: it does not.
func (r *room) note(id, why string) {
	r.mu.Lock()
	was := r.waiting[id]
	switch {
	case why == "":
		delete(r.waiting, id)
	case r.waiting == nil:
		r.waiting = map[string]string{id: why}
	default:
		r.waiting[id] = why
	}
	r.mu.Unlock()
	if (was == "") != (why == "") && r.changed != nil {
		r.changed(id)
	}
}

// watch counts again and again, so that the doctor knows also where no device becomes a node.
func (r *room) watch(ctx context.Context) error {
	for {
		r.asking.Lock()
		err := r.look(ctx) // when it fails, what was known stays; that the API server is away others tell
		r.asking.Unlock()
		every := roomEvery
		if err != nil {
			every = roomAgain
		}
		if !agent.Wait(ctx, agent.Jitter(every, 0.1)) {
			return nil
		}
	}
}

// why a device has no Node; empty: it has, or for another reason.
func (r *room) why(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[id]
}

// cureRoom is what helps: neither flag can be changed later.
const cureRoom = "see The pod network in docs/k3s.md"

// trouble is a line for the pod network and one for the devices that wait, as far as there are.
func (r *room) trouble() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if line := r.net.Trouble(); line != "" {
		out = append(out, line+"; "+cureRoom)
	}
	if len(r.waiting) > 0 {
		ids := slices.Sorted(maps.Keys(r.waiting))
		out = append(out, fmt.Sprintf("%d devices have no node, such as %s: %s; %s", len(ids), strings.Join(ids[:min(len(ids), troubleNames)], ", "), r.waiting[ids[0]], cureRoom))
	}
	return out
}
