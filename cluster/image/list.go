package image

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// List tells of the images that are here, by name.
func (c *Cache) List(context.Context) ([]api.Image, error) {
	wanted, err := c.wanted()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []api.Image
	named := map[string]bool{}
	for key, rec := range c.refs {
		c.closure(rec.Digest, named)
		out = append(out, c.describe(key, rec.Digest, rec.Imported, wanted[key] || wanted[rec.Digest]))
	}
	inside := map[string]bool{} // of an index: not an image of its own
	for digest := range c.manifests {
		for _, part := range c.parts(digest) {
			inside[part] = true
		}
	}
	for digest, rec := range c.manifests {
		if !named[digest] && !inside[digest] {
			out = append(out, c.describe(rec.Name+"@"+digest, digest, false, wanted[digest]))
		}
	}
	slices.SortFunc(out, func(a, b api.Image) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// describe tells of one image. Caller holds mu.
func (c *Cache) describe(name, digest string, imported, wanted bool) api.Image {
	img := api.Image{Name: name, Digest: digest, Imported: imported, Wanted: wanted}
	all := map[string]bool{}
	c.closure(digest, all)
	for key := range all {
		img.Bytes += c.blobs[key]
		if rec := c.manifests[key]; rec != nil {
			if used := api.At(rec.Used); used > img.Used {
				img.Used = used
			}
			if p, whole := c.platform(key); p != "" {
				img.Platforms = append(img.Platforms, p)
				img.Complete = img.Complete || whole
			}
		}
	}
	slices.Sort(img.Platforms)
	img.Platforms = slices.Compact(img.Platforms)
	return img
}

// platform is what an image that is here runs on, and whether all of it is here; empty for an index. Caller holds mu.
func (c *Cache) platform(digest string) (string, bool) {
	raw, err := os.ReadFile(c.blobPath(digest))
	if err != nil {
		return "", false
	}
	m, err := parseManifest(raw)
	if err != nil || m.Config == nil {
		return "", false
	}
	whole := true
	for _, d := range m.parts() {
		_, here := c.blobs[d.Digest]
		whole = whole && here
	}
	if _, here := c.blobs[m.Config.Digest]; !here || m.Config.Size > maxManifestBytes {
		return "unknown", whole
	}
	var p platform
	if raw, err = os.ReadFile(c.blobPath(m.Config.Digest)); err != nil || json.Unmarshal(raw, &p) != nil || p.Architecture == "" {
		return "unknown", whole
	}
	return p.String(), whole
}

// Remove removes an image by its name, or by its digest with all its names. Nodes that have it keep it.
func (c *Cache) Remove(_ context.Context, name string) error {
	n, err := api.ParseImageName(name)
	digest := n.Digest
	if api.ValidDigest(name) {
		digest, err = name, nil
	}
	if err != nil {
		return &api.Problem{Status: http.StatusBadRequest, Title: "bad request", Code: "bad_request", Detail: err.Error()}
	}
	wanted, err := c.wanted()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	rec, known := c.refs[n.String()]
	if digest == "" && known {
		digest = rec.Digest
		for key, other := range c.refs { // only the name goes when there are more
			if key != n.String() && other.Digest == digest {
				return c.removeRef(n.String())
			}
		}
	}
	if digest == "" || c.manifests[digest] == nil {
		return &api.Problem{Status: http.StatusNotFound, Title: "no such image", Code: "image_unknown", Detail: "no image " + name + " is kept here",
			Cure: "skerry image list shows what is"}
	}
	parts := map[string]bool{}
	c.closure(digest, parts)
	if err := c.removeManifest(digest); err != nil {
		return err
	}
	for part := range parts { // the images of an index go with it, unless something else has them
		if c.manifests[part] != nil && !c.reachable(part) {
			if err := c.removeManifest(part); err != nil {
				return err
			}
		}
	}
	var all []string
	for part := range parts {
		all = append(all, part)
	}
	return c.removeOrphans(c.held(wanted), orphanAge, all...)
}

// reachable is whether a name or another manifest leads to a manifest. Caller holds mu.
func (c *Cache) reachable(digest string) bool {
	for _, rec := range c.refs {
		if rec.Digest == digest {
			return true
		}
	}
	for other := range c.manifests {
		if slices.Contains(c.parts(other), digest) {
			return true
		}
	}
	return false
}
