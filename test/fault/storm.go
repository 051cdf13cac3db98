package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/test/kube"
)

// storm is somebody who writes to everything that the cluster agent writes to.
type storm struct {
	wrote atomic.Int64 // patches that the API server took
}

// stormMark is the annotation that a storm changes.
const stormMark = "fault.test/storm"

// The objects that the cluster agent writes to, as paths of lists.
const (
	nodesPath    = "/api/v1/nodes"
	podsPath     = "/api/v1/namespaces/default/pods"
	leasesPath   = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	objectsPath  = "/apis/mlsysops.eu/v1/namespaces/" + kube.AgentNamespace + "/mlsysopsnodes"
	clustersPath = "/apis/mlsysops.eu/v1/namespaces/" + kube.AgentNamespace + "/mlsysopsclusters"
	commandsPath = "/apis/edge.mlsysops.eu/v1alpha1/namespaces/" + kube.AgentNamespace + "/nodecommands"
)

// object is what every object has.
type object struct {
	Metadata struct {
		Name, UID         string
		ResourceVersion   string
		Labels            map[string]string
		DeletionTimestamp *time.Time
	}
}

type listOf[T any] struct {
	Metadata struct{ ResourceVersion string }
	Items    []T
}

// askWithin bounds one request of the harness: the API server may be away.
const askWithin = 5 * time.Second

func injectConflict(ctx context.Context, r *Rig, e Event) (Heal, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	dice := rand.New(rand.NewPCG(uint64(e.At), 0xc0f1))
	work.Go(func() { r.kube.blow(ctx, dice, e.Params["per_second"]) })
	return func(context.Context) error { cancel(); work.Wait(); return nil }, nil
}

// blow writes until ctx ends, and looks every second for what there is to write to.
func (k *kubeTier) blow(ctx context.Context, dice *rand.Rand, perSecond float64) {
	for ctx.Err() == nil {
		var paths []string
		for _, path := range []string{nodesPath, podsPath, leasesPath, objectsPath, commandsPath} {
			var list listOf[object]
			if err := k.do(ctx, http.MethodGet, path, nil, &list); err != nil {
				continue // the API server is away too
			}
			for _, o := range list.Items {
				paths = append(paths, path+"/"+o.Metadata.Name)
			}
		}
		if len(paths) == 0 {
			agent.Wait(ctx, 100*time.Millisecond)
			continue
		}
		for again := time.Now().Add(time.Second); time.Now().Before(again) && agent.Wait(ctx, time.Duration(float64(time.Second)/perSecond)); {
			path := paths[dice.IntN(len(paths))]
			if err := k.do(ctx, http.MethodPatch, path, gust(path, dice), nil); err == nil {
				k.storm.wrote.Add(1)
			}
		}
	}
}

// gust is a patch: of an annotation, and of a Node at times of what is the cluster agent's too, which it has to put right.
func gust(path string, dice *rand.Rand) map[string]any {
	meta := map[string]any{"annotations": map[string]string{stormMark: fmt.Sprint(dice.Int64())}}
	patch := map[string]any{"metadata": meta}
	if len(path) > len(nodesPath) && path[:len(nodesPath)+1] == nodesPath+"/" && dice.IntN(4) == 0 {
		meta["labels"] = map[string]any{layerLabel: "foreign"}
		patch["spec"] = map[string]any{"taints": nil}
	}
	return patch
}

// layerLabel is one that the cluster agent keeps on its Nodes.
const layerLabel = "mlsysops.eu/layer"

func bitesConflict(ctx context.Context, r *Rig, _ Event) error {
	return moves(ctx, r.kube.storm.wrote.Load)
}

// do asks the API server within a while.
func (k *kubeTier) do(ctx context.Context, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return k.plane.Do(ctx, method, path, body, out)
}

// commandLog is every phase that a NodeCommand was ever seen in. Safe for concurrent use.
type commandLog struct {
	mu     sync.Mutex
	phases map[string][]string // by UID, each phase once it differs from the one before
}

func (l *commandLog) saw(uid, phase string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phases == nil {
		l.phases = map[string][]string{}
	}
	if list := l.phases[uid]; phase != "" && (len(list) == 0 || list[len(list)-1] != phase) {
		l.phases[uid] = append(list, phase)
	}
}

func (l *commandLog) of(uid string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.phases[uid]...)
}

// follow notes what becomes of NodeCommands until ctx ends. While the API server is away nothing becomes of them.
func (k *kubeTier) follow(ctx context.Context) {
	note := func(c *nodeCommand) { k.seen.saw(c.Metadata.UID, c.Status.Phase) }
	for ctx.Err() == nil {
		var list listOf[nodeCommand]
		err := k.do(ctx, http.MethodGet, commandsPath, nil, &list)
		for i := range list.Items {
			note(&list.Items[i])
		}
		if err == nil {
			wctx, cancel := context.WithTimeout(ctx, time.Minute) // a watch may go dead too
			err = k.plane.Watch(wctx, commandsPath, list.Metadata.ResourceVersion, func(kind string, raw json.RawMessage) {
				c := &nodeCommand{}
				if json.Unmarshal(raw, c) == nil && kind != "ERROR" {
					note(c)
				}
			})
			cancel()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			agent.Wait(ctx, 200*time.Millisecond)
		}
	}
}
