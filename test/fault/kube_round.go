package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/test/kube"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// names are all devices of the round.
func (r *Round) names() []string {
	out := []string{tierEdge1, tierEdge2}
	for i := range r.Nodes {
		out = append(out, fmt.Sprintf("%s-%05d", r.prefix(), i))
	}
	return out
}

// runs is what runs on each device, as nobody but the device knows: of a real one the supervisors of its containers, of a simulated one
// how many it ever began.
func (r *Round) runs() map[string][]int {
	out := map[string][]int{}
	for _, edge := range []string{tierEdge1, tierEdge2} {
		out[edge] = shims(r.rig.process(edge).Disk)
	}
	for i, name := range r.names()[2:] {
		begun, _ := r.crowd.Begun(i)
		out[name] = []int{begun}
	}
	return out
}

// differentRuns compares what runs with what ran before.
func differentRuns(before, now map[string][]int) (bad []string) {
	for _, node := range slices.Sorted(maps.Keys(before)) {
		if !slices.Equal(before[node], now[node]) {
			bad = append(bad, fmt.Sprintf("the containers on %s were %v, and are %v", node, before[node], now[node]))
		}
	}
	return bad
}

// shims are the supervisors of the containers that a node agent keeps on a disk.
func shims(disk string) (pids []int) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if args := bytes.Split(raw, []byte{0}); err != nil || len(args) < 3 || string(args[1]) != "shim" || !strings.HasPrefix(string(args[2]), disk+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// endContainers kills what node agents leave running.
func (r *Rig) endContainers() error {
	var errs []error
	for _, p := range r.tiers {
		for _, pid := range shims(p.Disk) { // with their process namespace
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// beginKube has a pod run on every device, and remembers how each is.
func (r *Round) beginKube(ctx context.Context) error {
	k := r.rig.kube
	if k == nil {
		return nil
	}
	if err := r.rig.leads(ctx, startWithin); err != nil {
		return err
	}
	if err := r.rig.bringApp(ctx); err != nil {
		return err
	}
	if bad, err := r.rig.agree(ctx, startWithin, nil); err != nil || len(bad) > 0 {
		return fmt.Errorf("before the faults: %w, %v", err, bad)
	}
	for _, node := range r.names() {
		if err := k.place(ctx, node); err != nil {
			return err
		}
	}
	wctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	err := until(wctx, "a pod runs on each device", func() (err error) {
		k.pods, err = k.running(wctx)
		if err == nil && len(k.pods) != len(r.names()) {
			err = fmt.Errorf("%d of %d do", len(k.pods), len(r.names()))
		}
		return err
	})
	r.ran = r.runs()
	return err
}

// place makes a pod on a device.
func (k *kubeTier) place(ctx context.Context, node string) error {
	pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "on-" + node}, "spec": map[string]any{
		"nodeName": node, "hostNetwork": true, "terminationGracePeriodSeconds": 1, "tolerations": []any{map[string]any{"key": "mlsysops.eu/far-edge", "operator": "Exists"}},
		"containers": []any{map[string]any{"name": "main", "image": kube.AppImage, "args": []string{"count"}, "imagePullPolicy": "IfNotPresent"}}}}
	if err := k.do(ctx, http.MethodPost, podsPath, pod, nil); err != nil && !kube.Refused(err, http.StatusConflict) {
		return fmt.Errorf("place a pod on %s: %w", node, err)
	}
	return nil
}

// running are the pods that run and will not be evicted, by node.
func (k *kubeTier) running(ctx context.Context) (map[string]podMark, error) {
	var pods listOf[kubePod]
	if err := k.do(ctx, http.MethodGet, podsPath, nil, &pods); err != nil {
		return nil, err
	}
	out := map[string]podMark{}
	for i := range pods.Items {
		p := &pods.Items[i]
		if is(p.Status.Conditions, "Ready") != "True" || !patient(p) {
			return nil, fmt.Errorf("%s is %+v, %+v", p.Metadata.Name, p.Status, p.Spec)
		}
		out[p.Spec.NodeName] = markOf(p)
	}
	return out, nil
}

// patient tells whether a pod stays on a device that is away for longer than any fault.
func patient(p *kubePod) bool {
	for _, t := range p.Spec.Tolerations {
		if strings.HasPrefix(t.Key, "node.kubernetes.io/") && t.Seconds != nil && *t.Seconds <= int64(evictAfter.Seconds()) {
			return false
		}
	}
	return true
}

// views are all places where the outcome can be seen.
func (r *Round) views() []account.View {
	views := slices.Clone(r.player.Views)
	if r.rig.kube != nil {
		views = append(views, r.objectView())
	}
	return views
}

func (r *Round) objectView() *kubeView { return &kubeView{tier: r.rig.kube, within: agreeWithin} }

// awaitObjects waits until every NodeCommand has said its end, and gives the orders the ids that their commands have.
func (r *Round) awaitObjects(ctx context.Context, orders []account.Order) error {
	k := r.rig.kube
	if k == nil {
		return nil
	}
	if err := r.rig.leads(ctx, startWithin); err != nil {
		r.blame("after the faults: %v", err)
	}
	names, err := k.uids(ctx, orders)
	if err != nil {
		return err
	}
	r.rig.alias = map[string]string{}
	for id, name := range names {
		r.rig.alias[name] = id
	}
	_, _, err = r.objectView().Commands(ctx, orders)
	return err
}

// accountKube wants everything to agree, and to go on agreeing, and nothing to have been begun anew. Then the pods go.
func (r *Round) accountKube(ctx context.Context) error {
	k := r.rig.kube
	if k == nil {
		return nil
	}
	bad, err := r.rig.agree(ctx, agreeWithin, k.pods)
	if err == nil && len(bad) == 0 {
		if !agent.Wait(ctx, stillAfter) {
			return ctx.Err()
		}
		bad, err = r.rig.agree(ctx, 0, k.pods)
	}
	if err != nil {
		return err
	}
	for _, b := range append(bad, differentRuns(r.ran, r.runs())...) {
		r.blame("kubernetes: %s", b)
	}
	if err := k.do(ctx, http.MethodDelete, podsPath, nil, nil); err != nil {
		return fmt.Errorf("delete the pods: %w", err)
	}
	left := func() error {
		var pods listOf[object]
		err := k.do(ctx, http.MethodGet, podsPath, nil, &pods)
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d are there, such as %s", len(pods.Items), pods.Items[0].Metadata.Name)
		}
		for _, edge := range []string{tierEdge1, tierEdge2} {
			if pids := shims(r.rig.process(edge).Disk); err == nil && len(pids) > 0 {
				err = fmt.Errorf("%s still runs %v", edge, pids)
			}
		}
		return err
	}
	wctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := until(wctx, "the pods are gone", left); err != nil {
		r.blame("kubernetes: %v", err)
	}
	return k.clearCommands(ctx)
}

// endKube wants the objects of devices that were removed to be gone.
func (r *Round) endKube(ctx context.Context) error {
	if r.rig.kube == nil {
		return nil
	}
	bad, err := r.rig.agree(ctx, time.Minute, nil)
	for _, b := range bad {
		r.blame("kubernetes, without the crowd: %s", b)
	}
	return err
}
