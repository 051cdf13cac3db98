package workload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// layID is what Lay is busy under: no container's ID.
const layID = "/volumes"

// lay has the files of volumes be those of the form that is wanted, as a kubelet renews them while containers run. A container
// that begins does so by itself; none begins meanwhile, as its subPath may lead into what is being replaced.
func (e *Engine) lay(ctx context.Context, en *entry) {
	w := en.want
	if w == nil || w.Draining || en.mem.Hash != en.hash || en.laid == en.hash || len(en.busy) > 0 || left(e.cfg.Now(), en.layFailed, lookEvery) > 0 {
		return
	}
	if !slices.ContainsFunc(w.Volumes, func(v api.Volume) bool { return v.Files != nil }) {
		return
	}
	hash := en.hash
	en.busy[layID] = &work{deed: Lay, cancel: func() {}} // it is soon over
	e.wg.Go(func() {
		err := e.maker.lay(w)
		e.post(ctx, func() {
			delete(en.busy, layID)
			if err == nil {
				en.laid = hash
				return
			}
			en.layFailed = e.cfg.Now()
			e.cfg.Log.Warn("files of volumes are not renewed; trying again", keyWorkload, en.name, agent.KeyErr, err)
		})
	})
}

// lay renews the files of the volumes that are there.
func (m *maker) lay(w *api.Workload) error {
	secrets, err := m.open(w)
	if err != nil {
		return err
	}
	var errs []error
	for i := range w.Volumes {
		v := &w.Volumes[i]
		if v.Files == nil {
			continue
		}
		dir := m.places.volumeDir(w.Name, v)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // no container has it yet
		}
		if err := m.files(dir, v, secrets.Files[v.Name]); err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", v.Name, err))
		}
	}
	return errors.Join(errs...)
}

// files has a volume hold its files.
func (m *maker) files(dir string, v *api.Volume, sealed []api.File) error {
	m.laying.Lock()
	defer m.laying.Unlock()
	return layFiles(dir, slices.Concat(v.Files.Files, sealed))
}
