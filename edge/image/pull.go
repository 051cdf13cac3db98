package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
)

func isBad(err error) bool { return errors.Is(err, workload.ErrBadImage) }

// Pull makes the image of ref present, unpacked, and returns the digest of its manifest for this machine, as
// workload.Images wants it. With PullAlways the cluster agent is asked; when it cannot be reached or cannot tell now, an image
// that is there is used, so that a node that boots alone runs what it has.
func (s *Store) Pull(ctx context.Context, ref string, policy api.PullPolicy, progress func(done, total int64)) (string, error) {
	r, err := api.ParseImageName(ref)
	if err != nil {
		return "", badImage("%v", err)
	}
	digest, there := s.local(r)
	if there && policy != api.PullAlways || there && r.Digest != "" {
		return digest, nil
	}
	if policy == api.PullNever {
		return "", fmt.Errorf("image %s is not on this node and is not to be fetched: %w", r, workload.ErrNoImage)
	}
	p := &pull{Store: s, ref: r, progress: progress}
	defer p.unpin()
	got, err := p.run(ctx)
	if full(err) { // what is only kept to save the next download goes first
		if freed, _ := s.dropSpare(); freed > 0 {
			got, err = p.run(ctx)
		}
	}
	switch {
	case err == nil:
		return got, nil
	case there && ctx.Err() == nil && !errors.Is(err, workload.ErrNoImage) && !isBad(err):
		s.cfg.Log.Warn("image not asked for; the one that is there is used", agent.KeyReason, r.String(), agent.KeyErr, err)
		return digest, nil
	}
	return "", fmt.Errorf("pull %s: %w", r, err)
}

// pull is one under way.
type pull struct {
	*Store
	ref      api.ImageName
	progress func(done, total int64)
	pinned   []string
}

func (p *pull) run(ctx context.Context) (string, error) {
	d, m, err := p.resolve(ctx)
	if err != nil {
		return "", err
	}
	unlock, err := p.lock(ctx, "root "+d.Digest)
	if err != nil {
		return "", err
	}
	defer unlock()
	p.pin(d.Digest)
	if !p.have(d.Digest) {
		if err := p.make(ctx, d, m); err != nil {
			return "", err
		}
	}
	return d.Digest, p.remember(p.ref.String(), d.Digest)
}

// resolve asks what the reference stands for and finds the manifest for this machine.
func (p *pull) resolve(ctx context.Context) (descriptor, *manifest, error) {
	raw, err := p.manifest(ctx, p.ref.Asked())
	if err != nil {
		return descriptor{}, nil, err
	}
	d := descriptor{Digest: digestOf(raw), Size: int64(len(raw))}
	m, err := parseManifest(raw)
	if err != nil || len(m.Manifests) == 0 {
		return d, m, errors.Join(err, p.keep(d, raw))
	}
	d, ok := choose(m.Manifests, p.cfg.Platform)
	if !ok {
		return d, nil, badImage("no image for %s; there is %s", p.cfg.Platform, platforms(m.Manifests))
	}
	if raw, err = p.manifest(ctx, d.Digest); err != nil {
		return d, nil, err
	}
	d.Size = int64(len(raw))
	if m, err = parseManifest(raw); err == nil && len(m.Manifests) > 0 {
		err = badImage("an index inside an index")
	}
	return d, m, errors.Join(err, p.keep(d, raw))
}

// keep puts a manifest into the store, so that nothing is asked for twice.
func (p *pull) keep(d descriptor, raw []byte) error {
	p.pin(d.Digest)
	if _, err := os.Stat(p.path(dirBlobs, d.hex())); err == nil {
		return nil
	}
	return p.writeFile(p.path(dirBlobs, d.hex()), raw)
}

func platforms(list []descriptor) string {
	var out []string
	for _, d := range list {
		if d.Platform != nil && d.Platform.OS != "unknown" { // unknown: what builders attest, not an image
			out = append(out, d.Platform.String())
		}
	}
	if len(out) == 0 {
		return "none that names its platform"
	}
	return strings.Join(out, ", ")
}

// manifest asks for one by tag or digest, and checks it.
func (p *pull) manifest(ctx context.Context, what string) ([]byte, error) {
	if api.ValidDigest(what) {
		if raw, err := os.ReadFile(p.path(dirBlobs, strings.TrimPrefix(what, api.DigestPrefix))); err == nil && digestOf(raw) == what {
			return raw, nil
		}
	}
	a, err := p.cfg.Site.get(ctx, "/v1/images/"+p.ref.Name()+"/manifests/"+what, acceptManifests)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Close() }() // all that counts was read
	raw, err := io.ReadAll(io.LimitReader(a, maxManifestBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if len(raw) > maxManifestBytes {
		return nil, badImage("manifest has more than %d bytes", maxManifestBytes)
	}
	want := what
	if !api.ValidDigest(what) {
		want = a.Header.Get("Docker-Content-Digest")
	}
	if got := digestOf(raw); got != want {
		return nil, badImage("manifest has %s; wanted %s", got, want)
	}
	return raw, nil
}

// make fetches what an image consists of, and unpacks it.
func (p *pull) make(ctx context.Context, d descriptor, m *manifest) error {
	img := Image{Digest: d.Digest, Blobs: []string{d.Digest}}
	var ids []string
	if layer, ok := m.module(); ok {
		img.Module, img.Wasm, ids = moduleName, true, []string{layer.Digest}
	} else {
		p.pin(m.Config.Digest)
		img.Blobs = append(img.Blobs, m.Config.Digest)
		raw, err := p.small(ctx, p.ref.Name(), *m.Config, maxConfigBytes)
		if err != nil {
			return err
		}
		c, err := parseConfig(raw, len(m.Layers))
		if err != nil {
			return err
		}
		if c.Architecture != "" && c.fit(p.cfg.Platform) == 0 {
			return badImage("image is for %s; this node is %s", c.Platform, p.cfg.Platform)
		}
		img.Config, img.Wasm, ids = c.Config, c.wasm(), c.RootFS.DiffIDs
	}
	layers, err := p.layers(ctx, m)
	if err != nil {
		return err
	}
	for _, l := range layers {
		img.Blobs = append(img.Blobs, l.Digest)
	}
	return p.assemble(ctx, &img, layers, ids)
}

// layer is one that was fetched.
type layer struct {
	descriptor
	path string
}

func (p *pull) layers(ctx context.Context, m *manifest) ([]layer, error) {
	var total, before int64
	for _, d := range m.Layers {
		p.pin(d.Digest)
		if total += d.Size; d.Size > p.cfg.MaxBytes || total > p.cfg.MaxBytes {
			return nil, badImage("layers have %d bytes and more; wanted at most %d", total, p.cfg.MaxBytes)
		}
	}
	if err := p.room(m.Layers); err != nil {
		return nil, err
	}
	out := make([]layer, 0, len(m.Layers))
	for _, d := range m.Layers {
		b := &blob{name: p.ref.Name(), descriptor: d, gzip: d.compression() == "zstd", done: func(n int64) {
			if p.progress != nil {
				p.progress(before+min(n, d.Size), total)
			}
		}}
		path, err := p.fetch(ctx, b)
		if err != nil {
			return nil, err
		}
		before += d.Size
		out = append(out, layer{d, path})
	}
	return out, nil
}

// room refuses what cannot fit on the disk, before it is full: the layers that are missing, and once more as much, as they
// are larger when unpacked.
func (p *pull) room(layers []descriptor) error {
	var need int64
	for _, d := range layers {
		need += d.Size
		if _, err := os.Stat(p.path(dirBlobs, d.hex())); err != nil {
			need += d.Size
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p.dir, &st); err != nil {
		return fmt.Errorf("look at disk: %w", err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < need+p.cfg.ReserveBytes { //nolint:unconvert // the types differ by architecture
		return fmt.Errorf("image takes %s or more and %s stay free; the disk has %s: %w", agent.Size(float64(need)),
			agent.Size(float64(p.cfg.ReserveBytes)), agent.Size(float64(free)), unix.ENOSPC)
	}
	return nil
}

// pin keeps a digest from Collect.
func (p *pull) pin(digest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pins[digest]++
	p.pinned = append(p.pinned, digest)
}

func (p *pull) unpin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.pinned {
		if p.pins[d]--; p.pins[d] <= 0 {
			delete(p.pins, d)
		}
	}
}

// lock makes one of those who do the same thing at a time go on.
func (s *Store) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		s.mu.Lock()
		wait, taken := s.busy[key]
		if !taken {
			done := make(chan struct{})
			s.busy[key] = done
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.busy, key)
				s.mu.Unlock()
				close(done)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
