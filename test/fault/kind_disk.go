package fault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// diskKinds are what happens to disks and to what is on them.
func diskKinds() []Kind {
	return []Kind{
		{Name: "disk-full", Help: "the disk of a tier is full but for a few KiB", Lane: "disk", Targets: agents(), Least: 5 * time.Second, Most: 40 * time.Second,
			Draw:   func(d *rand.Rand) map[string]float64 { return map[string]float64{"left_kib": float64(d.IntN(3) * 64)} },
			Inject: injectFull, Bites: bitesFull},
		{Name: "flip", Help: "kill -9, a bit of a database or log is flipped, a start; file 0: state.db, 1: outbox.db, 2: outbox.hot; cluster agent: the telemetry's log, 0: its end, 1: of late samples, 2: older, or chunks",
			Lane: "process", Targets: agents(), Least: time.Second, Most: 5 * time.Second, Draw: drawDamage, Inject: injectFlip, Bites: bitesGone},
		{Name: "torn", Help: "kill -9, the tail of a database or log is cut off, a start; files as for flip", Lane: "process", Targets: agents(),
			Least: time.Second, Most: 5 * time.Second, Draw: drawDamage, Inject: injectTorn, Bites: bitesGone},
		{Name: "registry", Help: "kill -9, cluster.db is cut off or a page of it scrambled: it has to be refused, and is then restored", Lane: "process",
			Targets: []string{tierCluster}, Least: time.Second, Most: 5 * time.Second, Draw: drawDamage, Inject: injectRegistry, Bites: bitesGone},
	}
}

// ballast is the name of what fills a disk.
const ballast = "ballast"

func injectFull(_ context.Context, r *Rig, e Event) (Heal, error) {
	p := r.process(e.Target)
	ballast := filepath.Join(p.Disk, ballast)
	left := int64(e.Params["left_kib"]) << 10
	p.troubled(+1)
	heal := func(context.Context) error {
		p.troubled(-1)
		if err := os.Remove(ballast); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(p.Disk, &st); err != nil {
		return heal, err
	}
	f, err := os.Create(ballast)
	if err != nil {
		return heal, nil // it is full as it is
	}
	size := max(0, int64(st.Bavail)*st.Bsize-left)
	err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return heal, errors.Join(err, f.Close())
}

func bitesFull(_ context.Context, r *Rig, e Event) error {
	path := filepath.Join(r.process(e.Target).Disk, "probe")
	err := os.WriteFile(path, make([]byte, 1<<20), 0o600)
	if errors.Is(err, syscall.ENOSPC) {
		return os.Remove(path)
	}
	return errors.Join(err, os.Remove(path), errors.New("a MiB could be written"))
}

func drawDamage(d *rand.Rand) map[string]float64 {
	return map[string]float64{"file": float64(d.IntN(3)), "at": float64(d.IntN(1000)) / 1000, "bit": float64(d.IntN(8))}
}

// victim is the file that a fault damages, empty when there is none.
func (r *Rig) victim(e Event) string {
	disk := r.process(e.Target).Disk
	if e.Target == tierCluster {
		return logVictim(filepath.Join(disk, "state", "tsdb"), int(e.Params["file"]), e.Params["at"])
	}
	path := filepath.Join(disk, []string{"state/state.db", "state/outbox.db", "run/outbox.hot"}[int(e.Params["file"])])
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// logVictim is a file of the telemetry's log: 0: what was written last; 1: any of the late samples'; 2: any of what was written before,
// or of the chunks in the head, which the log has too. Where there is none such it is the first.
func logVictim(dir string, kind int, which float64) string {
	glob := func(part string) []string {
		list, _ := filepath.Glob(filepath.Join(dir, part, "0*")) // the pattern is good
		return list
	}
	wal := glob("wal")
	if len(wal) == 0 {
		return ""
	}
	var list []string
	switch kind {
	case 1:
		list = glob("wbl")
	case 2:
		list = append(glob("chunks_head"), wal[:len(wal)-1]...)
	}
	if len(list) == 0 {
		return wal[len(wal)-1]
	}
	return list[int(which*float64(len(list)))]
}

// injectFlip flips a bit of what a file holds: not of the zeros that nobody wrote to yet.
func injectFlip(ctx context.Context, r *Rig, e Event) (Heal, error) {
	return r.damage(ctx, e, func(raw []byte) []byte {
		if at := written(raw); at > 0 {
			raw[int(e.Params["at"]*float64(at))] ^= 1 << int(e.Params["bit"])
		}
		return raw
	})
}

func written(raw []byte) int {
	n := len(raw)
	for n > 0 && raw[n-1] == 0 {
		n--
	}
	return n
}

// injectTorn cuts off at most a tenth of what a file holds.
func injectTorn(ctx context.Context, r *Rig, e Event) (Heal, error) {
	return r.damage(ctx, e, func(raw []byte) []byte {
		n := written(raw)
		return raw[:n-int(e.Params["at"]*float64(n)/10)]
	})
}

func (r *Rig) damage(ctx context.Context, e Event, harm func([]byte) []byte) (Heal, error) {
	p := r.process(e.Target)
	if err := p.Kill(ctx); err != nil {
		return nil, err
	}
	path := r.victim(e)
	if path == "" {
		r.cfg.Say("nothing to damage in %s", e.Target)
		return p.Start, nil
	}
	before, err := look(e.Target, path, false)
	if err == nil {
		err = edit(path, harm)
	}
	if err != nil {
		return p.Start, err
	}
	after, err := look(e.Target, path, true)
	r.hurt(e.Target, filepath.Base(path), &before, &after)
	return p.Start, err
}

func edit(path string, harm func([]byte) []byte) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	harmed := harm(raw)
	if err := os.Truncate(path, int64(len(harmed))); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(harmed, 0)
	if errors.Is(err, syscall.ENOSPC) { // the disk is full, and this page was a hole
		err = nil
	}
	return errors.Join(err, f.Close())
}

// injectRegistry damages what nothing can mend. The cluster agent has to refuse it, and to say which file it is; its
// operator then puts the copy back.
func injectRegistry(ctx context.Context, r *Rig, e Event) (Heal, error) {
	p := r.process(tierCluster)
	if err := p.Kill(ctx); err != nil {
		return nil, err
	}
	path := filepath.Join(r.clusterDir(), "cluster.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		return p.Start, err
	}
	if err := edit(path, func(raw []byte) []byte { return scramble(append([]byte(nil), raw...), e.Params) }); err != nil {
		return p.Start, err
	}
	return func(ctx context.Context) error {
		p.troubled(+1)
		defer p.troubled(-1)
		before := len(p.refusals())
		if err := p.Start(ctx); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		err := until(wait, "cluster.db is refused", func() error {
			if len(p.refusals()) == before {
				return errors.New("the cluster agent runs on it")
			}
			return nil
		})
		if err != nil { // what it did on that file is not undone
			r.blamed(fmt.Sprintf("registry: %v", err))
			return nil
		}
		if err := p.Kill(ctx); err != nil {
			return err
		}
		if err := os.WriteFile(path, whole, 0o600); errors.Is(err, syscall.ENOSPC) { // then the operator makes room first
			if err := errors.Join(os.Remove(filepath.Join(p.Disk, ballast)), os.WriteFile(path, whole, 0o600)); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		return p.Start(ctx)
	}, nil
}

// scramble cuts a bbolt file off at three quarters of what it holds, or writes over the headers of a good part of its pages.
func scramble(raw []byte, params map[string]float64) []byte {
	const page, header = 4096, 16
	if params["file"] == 0 {
		return raw[:held(raw)*3/4/page*page]
	}
	for at := 2 * page; at+header < len(raw); at += 3 * page {
		for i := range header {
			raw[at+i] ^= byte(0x55 << (int(params["bit"]) % 2))
		}
	}
	return raw
}

// held is how much of a bbolt file holds anything: its high-water mark, by the newer of its two headers.
func held(raw []byte) int {
	const page, header = 4096, 16
	var mark, newest uint64
	for _, at := range []int{header, page + header} {
		if txid := binary.NativeEndian.Uint64(raw[at+48:]); txid >= newest {
			newest, mark = txid, binary.NativeEndian.Uint64(raw[at+40:])
		}
	}
	return min(len(raw), int(mark)*page)
}
