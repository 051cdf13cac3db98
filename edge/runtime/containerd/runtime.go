//go:build !lite

package containerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/events/v1"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/workload"
)

// Kind is the name of the runtime.
const Kind = "containerd"

// Config says where containerd and containers are.
type Config struct {
	Socket    string
	Dir       string // of the bundles; on a file system that stays, and may hold the upper layer of an overlay
	Images    launch.Images
	Shim      []string // the command line of a supervisor, without its argument; nil: this program, shim
	Cgroup    string   // folder of all containers in each hierarchy, such as /skerry
	Processes int64    // how many processes a container may have at once; 0: 1024
	Log       *slog.Logger
}

// Runtime runs containers.
type Runtime struct {
	cfg     Config
	boot    string
	tree    cgroup.Tree
	client  *client
	changes chan struct{}
	stop    context.CancelFunc
	wg      sync.WaitGroup

	starting launch.Starts
}

var _ workload.Runtime = (*Runtime)(nil)

// New looks whether containerd answers, and begins to listen to its events. ctx is that of everything it watches.
func New(ctx context.Context, cfg Config) (*Runtime, error) {
	if cfg.Socket == "" || cfg.Dir == "" || cfg.Images == nil || cfg.Log == nil {
		return nil, errors.New("wanted Socket, Dir, Images and Log")
	}
	if strings.ContainsAny(cfg.Dir, ",:\\") {
		return nil, fmt.Errorf("directory %q: wanted one without commas, colons and backslashes, which mean something in the options of an overlay", cfg.Dir)
	}
	if cfg.Shim == nil {
		cfg.Shim = []string{"/proc/self/exe", "shim"}
	}
	if cfg.Processes == 0 {
		cfg.Processes = 1024
	}
	cfg.Cgroup = "/" + strings.TrimPrefix(strings.TrimPrefix(cfg.Cgroup, "."), "/")
	boot, err := bundle.BootID()
	if err != nil {
		return nil, err
	}
	tree, err := cgroup.Find()
	if err != nil {
		return nil, err
	}
	c, err := dial(cfg.Socket)
	if err != nil {
		return nil, err
	}
	r := &Runtime{cfg: cfg, boot: boot, tree: tree, client: c, changes: make(chan struct{}, 1)}
	ctx, r.stop = context.WithCancel(ctx)
	r.wg.Go(func() { r.listen(ctx) })
	return r, nil
}

// Close stops listening. Containers go on.
func (r *Runtime) Close() error {
	r.stop()
	r.wg.Wait()
	return r.client.conn.Close()
}

// Name is containerd.
func (r *Runtime) Name() string { return Kind }

// Can is everything.
func (r *Runtime) Can() workload.Ability { return workload.Ability{Exec: true, Signals: true} }

// Changes is signalled when a container has ended, or may have.
func (r *Runtime) Changes() <-chan struct{} { return r.changes }

func (r *Runtime) changed() {
	select {
	case r.changes <- struct{}{}:
	default: // it is known
	}
}

// listen has every end of a container signalled, and whatever may have been missed.
func (r *Runtime) listen(ctx context.Context) {
	for ctx.Err() == nil {
		stream, err := r.client.events.Subscribe(named(ctx), &events.SubscribeRequest{Filters: []string{`namespace==` + Namespace + `,topic=="/tasks/exit"`}})
		if err == nil {
			r.changed() // what ended while nobody listened
		}
		for err == nil {
			if _, err = stream.Recv(); err == nil {
				r.changed()
			}
		}
		if ctx.Err() == nil {
			r.cfg.Log.Debug("containerd tells no events; asked again", agent.KeyErr, err)
		}
		agent.Wait(ctx, time.Second)
	}
}

// Pull leaves it to the images.
func (r *Runtime) Pull(ctx context.Context, ref string, policy api.PullPolicy, progress func(done, total int64)) (string, error) {
	return r.cfg.Images.Pull(ctx, ref, policy, progress)
}

// Collect keeps what containers are made of, running or not.
func (r *Runtime) Collect(ctx context.Context, keep []string) (int64, error) {
	return launch.Collect(ctx, r.cfg.Images, r, keep)
}

// dir is the folder of a container, whose id may not lead elsewhere.
func (r *Runtime) dir(id string) (string, error) { return launch.Folder(r.cfg.Dir, id) }
