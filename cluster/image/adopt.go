package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// take checks that an image is whole and takes it into the store: its blobs first, its names last.
func (a *archive) take(r *root) error {
	m, err := parseManifest(r.raw)
	if err != nil {
		return wrong("%s: %v", r.digest, err)
	}
	r.kind = m.kind(r.kind)
	repository := r.names[0].Name()
	whole := 0
	for _, d := range m.Manifests {
		body, child, err := a.content("blobs/sha256/" + strings.TrimPrefix(d.Digest, api.DigestPrefix))
		if bad, ok := errors.AsType[*archiveError](err); ok {
			if len(m.Manifests) == 1 {
				return bad
			}
			continue // an archive may hold one platform of many
		}
		if err != nil {
			return err
		}
		if child.Digest != d.Digest {
			return wrong("content of %s has %s", d.Digest, child.Digest)
		}
		cm, err := parseManifest(body)
		if err != nil {
			return wrong("%s: %v", d.Digest, err)
		}
		if err := a.blobs(cm); err != nil {
			return err
		}
		if err := a.putManifest(repository, cm.kind(d.MediaType), body); err != nil {
			return err
		}
		whole++
	}
	if len(m.Manifests) > 0 && whole == 0 {
		return wrong("%s: none of its %d images is in the archive", r.digest, len(m.Manifests))
	}
	if err := a.blobs(m); err != nil {
		return err
	}
	if err := a.putManifest(repository, r.kind, r.raw); err != nil {
		return err
	}
	for _, n := range r.names {
		if err := a.setRef(n.String(), refRecord{Digest: r.digest, Imported: true, Checked: a.cfg.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// blobs takes the configuration and the layers of an image.
func (a *archive) blobs(m *manifest) error {
	parts := slices.Clone(m.Layers)
	if m.Config != nil {
		parts = append(parts, *m.Config)
	}
	for _, d := range parts {
		if _, here := a.size(d.Digest); here {
			continue
		}
		info, err := os.Stat(a.path(d.Digest)) // files lie there by what they really hold
		if errors.Is(err, fs.ErrNotExist) {
			return wrong("%s is named, and not in the archive", d.Digest)
		}
		if err != nil {
			return err
		}
		if info.Size() != d.Size {
			return wrong("%s has %d bytes; its manifest says %d", d.Digest, info.Size(), d.Size)
		}
		if err := a.adopt(a.path(d.Digest), d.Digest, d.Size); err != nil {
			return err
		}
		a.mu.Lock()
		a.bytes -= d.Size // it is counted by itself now
		a.mu.Unlock()
		a.reserved -= d.Size
	}
	return nil
}

// imported tells what has been taken.
func (c *Cache) imported(ctx context.Context, roots []root) ([]api.Image, error) {
	all, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range roots {
		for _, n := range r.names {
			names = append(names, n.String())
		}
	}
	return slices.DeleteFunc(all, func(i api.Image) bool { return !slices.Contains(names, i.Name) }), nil
}
