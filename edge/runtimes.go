package edge

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/image"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/runtime/process"
	"github.com/skerry-edge/skerry/edge/workload"
)

// ownRuntimes makes the runtimes of containers that a node's configuration names, in its order. One that is not built in, or
// cannot work on this machine, is left out; the log says why.
func (a *Agent) ownRuntimes(cfg configs.Workloads) (*runtimes, error) {
	if !cfg.Enabled {
		return &runtimes{}, nil
	}
	m := &runtimeMaker{cfg: cfg, cgroup: cgroupOf(cfg.Dir), log: a.log, site: image.Site{
		Endpoints: func() []string { return a.keeper.Current().Endpoints },
		TLS:       func(host string) *tls.Config { return a.keeper.Current().SiteTLS(host, a.clock) }}}
	r, err := m.make(context.Background())
	a.closers = append(a.closers, r)
	return r, err
}

// cgroupOf is where the control groups of containers are that have their files in dir. Agents on one machine (a demo, tests, a
// second site) have containers of the same names, and none may move into, bound or kill those of another.
func cgroupOf(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "/skerry/" + hex.EncodeToString(sum[:4])
}

// runtimes are those of a node, the preferred one first.
type runtimes struct {
	list   []workload.Runtime
	needed func(digest string) string // the name of the runtime that an image needs; "": any but those that some need
	closed []interface{ Close() error }
}

// Close stops watching. Containers go on.
func (r *runtimes) Close() error {
	var errs []error
	for _, c := range r.closed {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// runtimeMaker makes them.
type runtimeMaker struct {
	cfg    configs.Workloads
	cgroup string
	shim   []string // the command line of a supervisor; nil: this program's
	site   image.Site
	log    *slog.Logger
}

// ownRuntime is one that can be closed.
type ownRuntime interface {
	workload.Runtime
	Close() error
}

// keyRuntime is a runtime's name in logs.
const keyRuntime = "runtime"

// errAbsent says that a runtime is not to be had on this node, and why.
type errAbsent struct{ reason string }

func (e *errAbsent) Error() string { return e.reason }

func (m *runtimeMaker) make(ctx context.Context) (*runtimes, error) {
	r := &runtimes{}
	if err := process.Missing(); err != nil { // all runtimes need the same
		m.log.Info("no workloads on this node", agent.KeyReason, err.Error())
		return r, nil
	}
	kept, err := image.Open(image.Settings{Dir: m.cfg.Dir, Log: m.log, Site: m.site})
	if errors.Is(err, unix.EROFS) {
		m.log.Error("no workloads on this node", agent.KeyErr, err)
		return r, nil
	}
	if err != nil {
		return r, err
	}
	shared := &images{Store: kept}
	r.needed = shared.needed
	for _, kind := range m.cfg.Runtimes {
		rt, err := m.one(ctx, kind, shared)
		if absent, ok := errors.AsType[*errAbsent](err); ok {
			m.log.Debug("runtime left out", keyRuntime, kind, agent.KeyReason, absent.reason)
			continue
		}
		if err != nil { // one that cannot work here must not keep the node from its link, by which it can be mended
			m.log.Error("runtime left out", keyRuntime, kind, agent.KeyErr, err)
			continue
		}
		r.list, r.closed, shared.users = append(r.list, rt), append(r.closed, rt), append(shared.users, rt)
	}
	return r, nil
}

func (m *runtimeMaker) one(ctx context.Context, kind string, shared *images) (ownRuntime, error) {
	switch {
	case kind == "containerd":
		return m.withContainerd(ctx, shared)
	case kind == bundle.KindWasm && module == nil:
		return nil, &errAbsent{"it is not built in"}
	}
	return process.New(ctx, process.Config{Kind: kind, Dir: filepath.Join(m.cfg.Dir, kind), Images: shared, Cgroup: m.cgroup, Shim: m.shim, Log: m.log,
		Wall: m.cfg.ModuleTime})
}

// images shows the store to runtimes, which all share it.
type images struct {
	*image.Store
	users []workload.Containers
}

// Root gives an image in the form that a runtime wants it in.
func (i *images) Root(digest string) (launch.Image, error) {
	img, err := i.Store.Root(digest)
	if err != nil {
		return launch.Image{}, err
	}
	c := img.Config
	out := launch.Image{Lower: []string{img.Dir}, Wasm: img.Wasm || img.Module != "", Config: launch.ImageConfig{Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env,
		WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal}}
	if img.Module != "" && len(c.Entrypoint) == 0 {
		out.Config.Entrypoint = []string{"/" + img.Module}
	}
	return out, nil
}

// needed is the runtime that an image needs; "" when it holds programs, or is not there.
func (i *images) needed(digest string) string {
	if img, err := i.Store.Root(digest); err == nil && img.Wasm {
		return bundle.KindWasm
	}
	return ""
}

// Collect spares what containers of any runtime are made of.
func (i *images) Collect(ctx context.Context, keep []string) (int64, error) {
	var used []string
	for _, rt := range i.users {
		list, err := rt.List(ctx)
		if err != nil {
			return 0, err
		}
		for _, c := range list {
			used = append(used, c.Image)
		}
	}
	return i.Store.Collect(ctx, keep, used)
}
