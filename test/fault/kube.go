package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/kube"
)

// The tiers of Kubernetes. The front is between the cluster agent and the API server.
const (
	tierAPI   = "apiserver"
	tierStore = "kine"
	tierFront = "front"
)

// kubeTier is a control plane beside the site. It runs on the hub; the cluster agent, which has no wire to it, reaches it through a
// front on its own loopback address.
type kubeTier struct {
	plane *kube.ControlPlane
	front *front
	storm storm
	seen  commandLog
	kept  *http.Client       // of bitesWatch
	pods  map[string]podMark // of this round, by node, as they were before the faults
}

// nodeGrace is how long a Lease may be without renewal, 50 s by Kubernetes' own. evictAfter is how long a pod stays on a node that is
// not there, 5 min as a rule.
const (
	nodeGrace  = 15 * time.Second
	evictAfter = 5 * time.Second
)

const (
	frontPort   = "6443"
	kubeletPort = "10300"
)

// startKube starts the control plane, and what stands before it.
func (r *Rig) startKube(ctx context.Context) error {
	k := &kubeTier{}
	seconds := fmt.Sprint(int(evictAfter.Seconds()))
	var err error
	k.plane, err = kube.New(ctx, filepath.Join(r.cfg.Dir, "plane"), kube.Options{NodeGrace: nodeGrace,
		APIServer: []string{"--default-unreachable-toleration-seconds=" + seconds, "--default-not-ready-toleration-seconds=" + seconds}})
	r.closers = append(r.closers, k)
	if err != nil {
		return err
	}
	var ln net.Listener
	err = r.network.In(tierCluster, func() (err error) {
		ln, err = net.Listen("tcp", "127.0.0.1:"+frontPort)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen before the API server: %w", err)
	}
	k.front = newFront(k.plane.Dial)
	r.work.Go(func() { k.front.serve(r.life, ln) }) // closes it
	if err := k.plane.Admit(ctx, r.kubeconfig(), "https://"+ln.Addr().String()); err != nil {
		return err
	}
	r.work.Go(func() { k.follow(r.life) })
	r.kube = k
	return nil
}

// Close ends the control plane. Its state is large, and tells little.
func (k *kubeTier) Close() error {
	return errors.Join(k.plane.Close(), os.RemoveAll(filepath.Join(k.plane.Dir, "state.db")))
}

func (r *Rig) kubeconfig() string { return filepath.Join(r.cfg.Dir, "kubeconfig") }

// kubeSettings are those of a cluster agent with Kubernetes in the picture.
func (r *Rig) kubeSettings() []string {
	if r.kube == nil {
		return nil
	}
	_, addr := addrOf(tierCluster)
	return []string{"mode=kube", "kube.kubeconfig=" + r.kubeconfig(), "kube.kubelet_via=direct", "kube.address=" + addr.String(),
		"kube.kubelet_listen=" + addr.String() + ":" + kubeletPort}
}

// bringApp gives the site the image that pods run.
func (r *Rig) bringApp(ctx context.Context) error {
	raw, err := kube.AppArchive()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(r.cfg.Bin, "skerry"), "image", "import", "-")
	cmd.Env = append(os.Environ(), "SKERRY_CONFIG="+filepath.Join(r.clusterDir(), "admin.yaml"))
	cmd.Stdin = bytes.NewReader(raw)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import the image of the pods: %w: %s", err, out)
	}
	return nil
}

// leads waits until the cluster agent works in Kubernetes.
func (r *Rig) leads(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return until(ctx, "the cluster agent works in Kubernetes", func() error {
		var st api.ClusterStatus
		if err := r.site.Client.Get(ctx, "/v1/status", &st); err != nil {
			return err
		}
		if st.Kube == nil || st.Kube.State != "leading" {
			return fmt.Errorf("it is %+v", st.Kube)
		}
		return nil
	})
}

// kubeKinds are what happens to the API server, to the way there, and to what is kept there.
func kubeKinds() []Kind {
	way := func(ways int) func(*rand.Rand) map[string]float64 {
		return func(d *rand.Rand) map[string]float64 { return map[string]float64{"way": float64(d.IntN(ways))} }
	}
	return []Kind{
		{Name: "apiserver", Help: "the API server is away; way 0: kill -9 and a start, 1: SIGSTOP. Of kine, which holds its state, always SIGSTOP", Lane: "process",
			Targets: []string{tierAPI, tierStore}, Least: 5 * time.Second, Most: 120 * time.Second, Draw: way(2), Inject: injectAPIServer, Bites: bitesAPIServer},
		{Name: "watch", Help: "the way to the API server; way 0: connections end within a second, 1: those that are there go dead for good, 2: none is let in", Lane: "front",
			Targets: []string{tierFront}, Least: 5 * time.Second, Most: 90 * time.Second, Draw: way(3), Inject: injectWatch, Bites: bitesWatch},
		{Name: "conflict", Help: "somebody else writes to all Nodes, MLSysOpsNodes, NodeCommands, pods and Leases, so that versions conflict", Lane: "storm",
			Targets: []string{tierAPI}, Least: 5 * time.Second, Most: 90 * time.Second, Inject: injectConflict, Bites: bitesConflict,
			Draw: func(d *rand.Rand) map[string]float64 {
				return map[string]float64{"per_second": float64(20 + d.IntN(100))}
			}},
	}
}

func injectAPIServer(_ context.Context, r *Rig, e Event) (Heal, error) {
	p := r.kube.plane
	switch {
	case e.Target == tierStore:
		return func(context.Context) error { return p.Signal("kine", syscall.SIGCONT) }, p.Signal("kine", syscall.SIGSTOP)
	case e.Params["way"] == 1:
		return func(context.Context) error { return p.Signal("kube-apiserver", syscall.SIGCONT) }, p.Signal("kube-apiserver", syscall.SIGSTOP)
	}
	return p.StartAPIServer, p.KillAPIServer()
}

// bitesAPIServer asks for readiness, which reads from kine, in a connection of its own.
func bitesAPIServer(ctx context.Context, r *Rig, _ Event) error {
	if err := r.ask(ctx, r.kube.plane.Dial, "/readyz", pingWithin); err == nil {
		return errors.New("the API server says that it is ready")
	}
	return nil
}

// ask asks the API server in a connection of its own.
func (r *Rig) ask(ctx context.Context, dial func(context.Context) (net.Conn, error), path string, within time.Duration) error {
	client, err := r.kube.plane.Client(dial)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return get(ctx, client, path, within)
}

func get(ctx context.Context, client *http.Client, path string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://127.0.0.1"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}
