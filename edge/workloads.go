package edge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/workload"
)

// buildWorkloads builds what runs workloads.
func (a *Agent) buildWorkloads() error {
	cfg := a.cfg.Workloads
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(a.cfg.Dir, "workloads")
	}
	own, err := a.runtimes(cfg)
	if err != nil {
		return fmt.Errorf("runtimes: %w", err)
	}
	a.workloads, err = workload.New(workload.Config{Runtimes: own.list, Needed: own.needed, Dir: filepath.Join(cfg.Dir, "sets"), MemoryDir: filepath.Join(a.cfg.RuntimeDir, "workloads"),
		HostPaths: cfg.HostPaths, Privileged: cfg.Privileged, Off: !cfg.Enabled, LogBytes: int64(cfg.MaxLogBytes), Boot: a.boot, DB: a.store.DB(),
		Now: a.clock.Now, Log: a.log, Usage: bundle.DiskUsage, OnChange: a.oweReport, Unseal: func(w *api.Workload) (*api.Secrets, error) {
			return a.keeper.Current().Unseal(w.Name, w.Sealed)
		}})
	if len(own.list) > 0 {
		a.host.DiskBytes = a.diskBytes(cfg.Dir)
	}
	return err
}

// diskBytes is the size of the file system that dir is on, or will be; 0 when that cannot be told.
func (a *Agent) diskBytes(dir string) uint64 {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Blocks * uint64(st.Bsize)
		}
		if parent := filepath.Dir(dir); errors.Is(err, os.ErrNotExist) && parent != dir {
			dir = parent
			continue
		}
		a.log.Debug("size of the file system of workloads not known", agent.KeyPath, dir, agent.KeyErr, err)
		return 0
	}
}
