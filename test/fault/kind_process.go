package fault

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// The tiers, by the names of their hosts and addresses. The proxy is between edge-2, every third node of the crowd, and the broker.
const (
	tierCluster = "cluster"
	tierEdge1   = "edge-1"
	tierEdge2   = "edge-2"
	tierCrowd   = "crowd"
	tierProxy   = "proxy"
	tierControl = "control" // orders come from there
)

func agents() []string { return []string{tierCluster, tierEdge1, tierEdge2} }

// processKinds are what happens to processes.
func processKinds() []Kind {
	return []Kind{
		{Name: "kill", Help: "kill -9, and a start after a while; with the cluster agent, its broker loses all state", Lane: "process", Targets: agents(),
			Least: time.Second, Most: 10 * time.Second, Inject: injectKill, Bites: bitesGone},
		{Name: "freeze", Help: "SIGSTOP: connections stay, nobody answers", Lane: "process", Targets: agents(),
			Least: 2 * time.Second, Most: 25 * time.Second, Inject: injectFreeze, Bites: bitesFrozen},
		{Name: "restart", Help: "SIGTERM, and a start: the broker begins anew without state", Lane: "process", Targets: agents(),
			Least: time.Second, Most: 3 * time.Second, Inject: injectRestart, Bites: bitesGone},
	}
}

func injectKill(ctx context.Context, r *Rig, e Event) (Heal, error) {
	p := r.process(e.Target)
	return p.Start, p.Kill(ctx)
}

func injectRestart(ctx context.Context, r *Rig, e Event) (Heal, error) {
	p := r.process(e.Target)
	return p.Start, p.Stop(ctx)
}

func injectFreeze(_ context.Context, r *Rig, e Event) (Heal, error) {
	p := r.process(e.Target)
	return func(context.Context) error { return p.Signal(syscall.SIGCONT) }, p.Signal(syscall.SIGSTOP)
}

func bitesGone(_ context.Context, r *Rig, e Event) error {
	if r.process(e.Target).pid() != 0 {
		return errors.New("it runs")
	}
	return nil
}

// bitesFrozen looks whether a tier's process is stopped: proc(5), the third field of stat.
func bitesFrozen(_ context.Context, r *Rig, e Event) error {
	state, err := r.process(e.Target).state()
	if err == nil && state != "T" && state != "t" {
		err = fmt.Errorf("its state is %q", state)
	}
	return err
}
