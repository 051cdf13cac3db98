package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/image"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/process"
	"github.com/skerry-edge/skerry/edge/workload"
)

// ownRuntimes makes the runtimes of containers that a node's configuration names, in its order. One that is not built in, or
// cannot work on this machine, is left out; the log says why.
func (a *Agent) ownRuntimes(cfg configs.Workloads) ([]workload.Runtime, error) {
	if !cfg.Enabled {
		return nil, nil
	}
	if err := process.Missing(); err != nil { // all runtimes so far need the same
		a.log.Info("no workloads on this node", agent.KeyReason, err.Error())
		return nil, nil
	}
	kept, err := image.Open(image.Settings{Dir: cfg.Dir, Log: a.log, Site: image.Site{
		Endpoints: func() []string { return a.keeper.Current().Endpoints },
		TLS:       func(host string) *tls.Config { return a.keeper.Current().SiteTLS(host, a.clock) }}})
	if err != nil {
		return nil, err
	}
	var list []workload.Runtime
	shared := &images{Store: kept}
	for _, kind := range slices.Compact(slices.Clone(cfg.Runtimes)) {
		if kind != bundle.KindProcess {
			continue // not built in
		}
		rt, err := process.New(context.Background(), process.Config{Kind: kind, Dir: filepath.Join(cfg.Dir, kind), Images: shared, Cgroup: "/skerry", Log: a.log})
		if err != nil {
			return nil, fmt.Errorf("runtime %s: %w", kind, err)
		}
		list, shared.users = append(list, rt), append(shared.users, rt)
		a.closers = append(a.closers, rt)
	}
	return list, nil
}

// images shows the store to runtimes, which all share it.
type images struct {
	*image.Store
	users []workload.Containers
}

// Root gives an image in the form that a runtime wants it in.
func (i *images) Root(digest string) (process.Image, error) {
	img, err := i.Store.Root(digest)
	if err != nil {
		return process.Image{}, err
	}
	c := img.Config
	return process.Image{Lower: []string{img.Dir}, Config: process.ImageConfig{Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
		StopSignal: c.StopSignal}}, nil
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
