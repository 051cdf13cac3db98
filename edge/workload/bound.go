package workload

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// measureEvery is how often volumes that are bounded are measured; a kubelet does it as often.
const measureEvery = 10 * time.Second

// reasonEvicted is why a workload is ended whose volume has outgrown its bound; a kubelet's word.
const reasonEvicted = "Evicted"

// bounded is a volume with a bound of its own.
type bounded struct {
	workload, name, dir string
	limit               int64
	taken               api.Millis // when this life of the workload began
	hash                string
}

// bounded lists those of workloads that have not ended.
func (e *Engine) bounded() (out []bounded) {
	for name, en := range e.entries {
		if en.want == nil || en.mem.Hash != en.hash || en.mem.Failed != "" {
			continue
		}
		for i := range en.want.Volumes {
			if v := &en.want.Volumes[i]; v.Empty != nil && v.Empty.SizeBytes > 0 {
				out = append(out, bounded{name, v.Name, e.maker.places.volumeDir(name, v), v.Empty.SizeBytes, en.mem.Taken, en.hash})
			}
		}
	}
	return out
}

// measure has volumes measured when it is time, in a goroutine of its own, and returns how soon to look again. What a program writes
// in between is there already: only its end gives it back.
func (e *Engine) measure(ctx context.Context) time.Duration {
	volumes := e.bounded()
	if len(volumes) == 0 {
		return lookEvery
	}
	now := e.cfg.Now()
	if rest := left(now, e.measured, measureEvery); rest > 0 || e.measuring {
		return max(rest, time.Second)
	}
	e.measuring, e.measured = true, now
	e.wg.Go(func() {
		outgrown := map[string]bounded{}
		for _, b := range volumes {
			used, err := e.cfg.Usage(ctx, b.dir)
			if err != nil && ctx.Err() == nil {
				e.cfg.Log.Warn("a volume cannot be measured", keyWorkload, b.workload, agent.KeyPath, filepath.Base(b.dir), agent.KeyErr, err)
			} else if err == nil && used > uint64(b.limit) {
				outgrown[b.workload] = b
			}
		}
		e.post(ctx, func() {
			e.measuring = false
			for name, b := range outgrown {
				if en := e.entries[name]; en != nil && en.hash == b.hash && en.mem.Taken == b.taken {
					en.outgrown = fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit of %d bytes", b.name, b.limit)
				}
			}
		})
	})
	return measureEvery
}

// evict ends a workload whose volume has outgrown its bound.
func (d *decision) evict() {
	if d.Outgrown != "" && d.mem.Failed == "" && !d.done() {
		d.mem.Failed, d.mem.Message = reasonEvicted, d.Outgrown
	}
}
