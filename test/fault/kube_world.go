package fault

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// world is everything that has to agree when nothing happens any more.
type world struct {
	devices map[string]api.Node // by the cluster agent's word
	nodes   map[string]kubeNode
	objects map[string]kubeObject
	listed  []string // in the MLSysOpsCluster
	pods    map[string]kubePod
}

// kubeNode is a Node.
type kubeNode struct {
	object
	Spec struct {
		Taints []struct{ Key, Effect string }
	}
	Status struct{ Conditions []condition }
}

// kubeObject is an MLSysOpsNode.
type kubeObject struct {
	object
	Status struct {
		Presence   string
		Conditions []condition
	}
}

// kubeCluster is an MLSysOpsCluster.
type kubeCluster struct {
	object
	Nodes []string
}

type condition struct{ Type, Status, Reason string }

// kubePod is a pod of one container.
type kubePod struct {
	object
	Spec struct {
		NodeName    string
		Tolerations []struct {
			Key     string
			Seconds *int64 `json:"tolerationSeconds"`
		}
	}
	Status struct {
		Phase, Reason     string
		Conditions        []condition
		ContainerStatuses []struct {
			ContainerID  string
			RestartCount int
			Ready        bool
		}
	}
}

func is(list []condition, kind string) string {
	for _, c := range list {
		if c.Type == kind {
			return c.Status
		}
	}
	return "absent"
}

// podMark is what must not change of a pod while nothing happens to its node or its container.
type podMark struct {
	Name, UID, Container string
	Restarts             int
}

func markOf(p *kubePod) podMark {
	m := podMark{Name: p.Metadata.Name, UID: p.Metadata.UID}
	if list := p.Status.ContainerStatuses; len(list) == 1 {
		m.Container, m.Restarts = list[0].ContainerID, list[0].RestartCount
	}
	return m
}

func (k *kubeTier) look(ctx context.Context, devices []api.Node) (*world, error) {
	w := &world{devices: map[string]api.Node{}, nodes: map[string]kubeNode{}, objects: map[string]kubeObject{}, pods: map[string]kubePod{}}
	for _, n := range devices {
		w.devices[n.ID] = n
	}
	var nodes listOf[kubeNode]
	var objects listOf[kubeObject]
	var clusters listOf[kubeCluster]
	var pods listOf[kubePod]
	for path, into := range map[string]any{nodesPath: &nodes, objectsPath: &objects, clustersPath: &clusters, podsPath: &pods} {
		if err := k.do(ctx, http.MethodGet, path, nil, into); err != nil {
			return nil, err
		}
	}
	for _, n := range nodes.Items {
		w.nodes[n.Metadata.Name] = n
	}
	for _, o := range objects.Items {
		w.objects[o.Metadata.Name] = o
	}
	for _, c := range clusters.Items {
		w.listed = append(w.listed, c.Nodes...)
	}
	for _, p := range pods.Items {
		w.pods[p.Spec.NodeName] = p
	}
	return w, nil
}

// differences are what does not agree. marks are the pods as they were, by node.
func (w *world) differences(marks map[string]podMark) (bad []string) {
	say := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	known := slices.Sorted(maps.Keys(w.devices))
	if got := slices.Sorted(slices.Values(w.listed)); !slices.Equal(got, known) {
		say("the MLSysOpsCluster lists %v; wanted %v", got, known)
	}
	for id := range w.nodes {
		if _, there := w.devices[id]; !there {
			say("there is a Node %s, and no device", id)
		}
	}
	for id := range w.objects {
		if _, there := w.devices[id]; !there {
			say("there is an MLSysOpsNode %s, and no device", id)
		}
	}
	for _, id := range known {
		d := w.devices[id]
		w.device(&d, say)
		if m, ours := marks[id]; ours {
			w.pod(&d, m, say)
		}
	}
	slices.Sort(bad)
	return bad
}

// device compares a device that is online with its objects.
func (w *world) device(d *api.Node, say func(string, ...any)) {
	n, there := w.nodes[d.ID]
	switch {
	case !there:
		say("device %s is no Node", d.ID)
	case is(n.Status.Conditions, "Ready") != "True" || is(n.Status.Conditions, "mlsysops.eu/Connected") != "True":
		say("Node %s is not Ready: %v", d.ID, n.Status.Conditions)
	case n.Metadata.Labels[layerLabel] != "node":
		say("Node %s has %s=%s", d.ID, layerLabel, n.Metadata.Labels[layerLabel])
	}
	var taints []string
	for _, t := range n.Spec.Taints {
		taints = append(taints, t.Key)
	}
	if there && !slices.Equal(taints, []string{"mlsysops.eu/far-edge"}) {
		say("Node %s has the taints %v", d.ID, taints)
	}
	o, there := w.objects[d.ID]
	switch {
	case !there:
		say("device %s is no MLSysOpsNode", d.ID)
	case o.Status.Presence != string(d.Presence) || is(o.Status.Conditions, "Ready") != "True":
		say("MLSysOpsNode %s is %s, %v; the device is %s", d.ID, o.Status.Presence, o.Status.Conditions, d.Presence)
	}
}

// pod compares a device's pod with what it was, and with what the device says.
func (w *world) pod(d *api.Node, m podMark, say func(string, ...any)) {
	p, there := w.pods[d.ID]
	if !there {
		say("pod %s of %s is gone", m.Name, d.ID)
		return
	}
	now := markOf(&p)
	if now != m {
		say("pod of %s is %+v; it was %+v", d.ID, now, m)
	}
	if p.Status.Phase != "Running" || is(p.Status.Conditions, "Ready") != "True" || p.Metadata.DeletionTimestamp != nil {
		say("pod %s is %s, %v", m.Name, p.Status.Phase, p.Status.Conditions)
	}
	var said []string
	if d.Reported != nil {
		for _, s := range d.Reported.Workloads {
			for _, c := range s.Containers {
				said = append(said, fmt.Sprintf("%s %s %s://%s %d", s.Name, s.State, s.Runtime, c.ID, c.Restarts))
			}
		}
	}
	if want := fmt.Sprintf("%s running %s %d", m.UID, now.Container, now.Restarts); !slices.Equal(said, []string{want}) {
		say("device %s runs %v; wanted %s", d.ID, said, want)
	}
}

// agreeWithin bounds the time until everything agrees: a dead connection is noticed after 45 s. stillAfter is how long it has to go on
// agreeing: a Lease that is not renewed shows by then.
const (
	agreeWithin = 3 * time.Minute
	stillAfter  = nodeGrace + 3*time.Second
)

// agree waits until everything does, and returns what does not.
func (r *Rig) agree(ctx context.Context, within time.Duration, marks map[string]podMark) (bad []string, err error) {
	end := time.Now().Add(within)
	for {
		var list api.List[api.Node]
		err := r.site.Client.Get(ctx, "/v1/nodes", &list)
		var w *world
		if err == nil {
			w, err = r.kube.look(ctx, list.Items)
		}
		if err == nil {
			if bad = w.differences(marks); len(bad) == 0 {
				return nil, nil
			}
		}
		if time.Now().After(end) {
			return bad, err
		}
		if !agent.Wait(ctx, 500*time.Millisecond) {
			return bad, ctx.Err()
		}
	}
}
