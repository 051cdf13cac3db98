package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/confine"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/workload"
)

// Config says where containers are and how they are started.
type Config struct {
	Kind      string // bundle.KindProcess, or bundle.KindWasm for a runtime that runs modules
	Dir       string // of the bundles; on a file system that stays, and may hold the upper layer of an overlay
	Images    launch.Images
	Shim      []string      // the command line of a supervisor, without the bundle; nil: this program, shim
	Cgroup    string        // folder of all containers in each hierarchy, such as /skerry; ./ is below the agent's own
	Processes int64         // how many processes a container may have at once; 0: 1024
	Wall      time.Duration // how long a module may run; 0: for ever
	Log       *slog.Logger
}

// Runtime runs containers.
type Runtime struct {
	cfg     Config
	boot    string
	changes chan struct{}

	starting launch.Starts
	mu       sync.Mutex
	watched  map[string]bool
	ctx      context.Context // of those that watch: ends with Close
	stop     context.CancelFunc
	watchers sync.WaitGroup
}

var _ workload.Runtime = (*Runtime)(nil)

// New checks that this process may run containers at all. An error says everything that is missing: there is no container
// that is only half apart from the node. ctx is that of everything it watches.
func New(ctx context.Context, cfg Config) (*Runtime, error) {
	if cfg.Kind != bundle.KindProcess && cfg.Kind != bundle.KindWasm {
		return nil, fmt.Errorf("kind %q; wanted %s or %s", cfg.Kind, bundle.KindProcess, bundle.KindWasm)
	}
	if err := Missing(); err != nil {
		return nil, fmt.Errorf("runtime %s: %w", cfg.Kind, err)
	}
	boot, err := bundle.BootID()
	if err != nil {
		return nil, fmt.Errorf("runtime %s: %w", cfg.Kind, err)
	}
	if cfg.Shim == nil {
		cfg.Shim = []string{"/proc/self/exe", "shim"}
	}
	if cfg.Processes == 0 {
		cfg.Processes = 1024
	}
	r := &Runtime{cfg: cfg, boot: boot, changes: make(chan struct{}, 1), watched: map[string]bool{}}
	r.ctx, r.stop = context.WithCancel(ctx)
	return r, nil
}

// Close stops watching. Containers go on.
func (r *Runtime) Close() error {
	r.stop()
	r.watchers.Wait()
	return nil
}

// needed are the capabilities without which no container can be kept apart.
var needed = []string{"SYS_ADMIN", "SYS_CHROOT", "SETUID", "SETGID", "SETPCAP", "CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL"}

// Missing tells what this process or its kernel lacks for containers; nil: nothing.
func Missing() error {
	var errs []error
	own, err := confine.Own()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		errs = append(errs, fmt.Errorf("the agent runs as user %d; wanted root, as containers need file systems and namespaces of their own", os.Geteuid()))
	}
	var lacking []string
	for _, name := range needed {
		if !own.Has(name) {
			lacking = append(lacking, "CAP_"+name)
		}
	}
	if len(lacking) > 0 {
		errs = append(errs, fmt.Errorf("the agent has no %s", strings.Join(lacking, ", ")))
	}
	for _, ns := range []string{"mnt", "pid", "ipc", "uts"} {
		if _, err := os.Lstat("/proc/self/ns/" + ns); err != nil {
			errs = append(errs, fmt.Errorf("this kernel has no %s namespaces", ns))
		}
	}
	return errors.Join(errs...)
}

// Name tells the kind.
func (r *Runtime) Name() string { return r.cfg.Kind }

// Can is everything for programs. In a module nothing can be run, and it takes no signals: a stop ends it at once.
func (r *Runtime) Can() workload.Ability {
	program := r.cfg.Kind == bundle.KindProcess
	return workload.Ability{Exec: program, Signals: program}
}

// Changes is signalled when a container has ended.
func (r *Runtime) Changes() <-chan struct{} { return r.changes }

func (r *Runtime) changed() {
	select {
	case r.changes <- struct{}{}:
	default:
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
