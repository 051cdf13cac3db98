package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// maxArchiveEntries bounds an archive's files: an image has at most a few hundred.
const maxArchiveEntries = 4096

// archive is one that is being read: its files lie in a folder of their own, by the digest of their content.
type archive struct {
	*Cache
	dir      string
	files    map[string]descriptor // by their names in the archive
	links    map[string]string
	reserved int64
}

// Import takes the images of an archive, as docker save and skopeo's docker-archive and oci-archive write it, plain or with gzip.
// name is that of the image when the archive has one only; empty: the names in the archive.
func (c *Cache) Import(ctx context.Context, in io.Reader, name string) ([]api.Image, error) {
	dir, err := os.MkdirTemp(filepath.Join(c.cfg.Dir, dirTmp), "import-")
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	a := &archive{Cache: c, dir: dir, files: map[string]descriptor{}, links: map[string]string{}}
	defer func() {
		c.mu.Lock()
		c.bytes -= a.reserved
		c.mu.Unlock()
		_ = os.RemoveAll(dir) // else at the next start
	}()
	if err := a.read(ctx, in); err != nil {
		return nil, importProblem(err)
	}
	roots, err := a.roots(name)
	if err != nil {
		return nil, importProblem(err)
	}
	for i := range roots {
		if err := a.take(&roots[i]); err != nil {
			return nil, importProblem(err)
		}
	}
	c.stats.imports.Add(1)
	return c.imported(ctx, roots)
}

// importProblem makes what is wrong with an archive the caller's affair.
func importProblem(err error) error {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return &api.Problem{Status: r.Status, Title: "no room", Code: "images_full", Detail: r.Message,
			Cure: "skerry image remove frees some; images.max_bytes of the cluster agent gives more"}
	}
	if full(err) {
		return &api.Problem{Status: http.StatusInsufficientStorage, Title: "disk full", Code: "disk_full", Detail: err.Error(),
			Cure: "free space on the disk of the cluster agent"}
	}
	if bad, ok := errors.AsType[*archiveError](err); ok {
		return &api.Problem{Status: http.StatusBadRequest, Title: "not an archive of images", Code: "bad_archive", Detail: bad.Error(),
			Cure: "make it with docker save, or skopeo copy … oci-archive:FILE"}
	}
	return err
}

// archiveError is what is wrong with an archive.
type archiveError struct{ text string }

func (e *archiveError) Error() string { return e.text }

func wrong(format string, args ...any) error { return &archiveError{fmt.Sprintf(format, args...)} }

// read writes an archive's files to the disk, within what the store has room for.
func (a *archive) read(ctx context.Context, in io.Reader) error {
	buffered := bufio.NewReaderSize(in, copyBuffer)
	in = buffered
	if head, err := buffered.Peek(2); err == nil && bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return wrong("gzip: %v", err)
		}
		in = z
	}
	tr := tar.NewReader(in)
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return wrong("tar: %v", err)
		case n >= maxArchiveEntries:
			return wrong("more than %d files", maxArchiveEntries)
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			if a.files[name], err = a.file(ctx, tr); err != nil {
				return fmt.Errorf("%.200s: %w", h.Name, err)
			}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean("/" + h.Linkname)[1:]
		}
	}
}

// file writes one file and finds its digest.
func (a *archive) file(ctx context.Context, in io.Reader) (d descriptor, err error) {
	f, err := os.CreateTemp(a.dir, "file-")
	if err != nil {
		return d, err
	}
	sum := sha256.New()
	w := &bounded{cache: a.Cache, ctx: ctx, w: f}
	n, err := io.CopyBuffer(io.MultiWriter(w, sum), struct{ io.Reader }{in}, make([]byte, copyBuffer))
	a.reserved += w.reserved
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		if ctx.Err() != nil {
			return d, context.Cause(ctx)
		}
		if _, refused := errors.AsType[*Refusal](err); !refused && !full(err) {
			err = wrong("ended early: %v", err)
		}
		return d, err
	}
	d = descriptor{Digest: api.DigestPrefix + hex.EncodeToString(sum.Sum(nil)), Size: n}
	return d, os.Rename(f.Name(), a.path(d.Digest))
}

func (a *archive) path(digest string) string {
	return filepath.Join(a.dir, strings.TrimPrefix(digest, api.DigestPrefix))
}

// find is a file by its name, through the links that older archives have.
func (a *archive) find(name string) (descriptor, error) {
	name = path.Clean("/" + name)[1:]
	for range 8 {
		if d, ok := a.files[name]; ok {
			return d, nil
		}
		next, ok := a.links[name]
		if !ok {
			break
		}
		name = next
	}
	return descriptor{}, wrong("%.200q is named, and not in the archive", name)
}

// content is a file that fits into memory.
func (a *archive) content(name string) ([]byte, descriptor, error) {
	d, err := a.find(name)
	if err != nil {
		return nil, d, err
	}
	if d.Size > maxManifestBytes {
		return nil, d, wrong("%.200q has %d bytes; wanted at most %d", name, d.Size, maxManifestBytes)
	}
	raw, err := os.ReadFile(a.path(d.Digest))
	return raw, d, err
}

// root is an image of an archive.
type root struct {
	names  []api.ImageName
	raw    []byte // of its manifest or index
	kind   string
	digest string
}

// roots finds the images of an archive, and what they are called.
func (a *archive) roots(name string) ([]root, error) {
	var out []root
	var err error
	if _, oci := a.files["index.json"]; oci {
		out, err = a.layout()
	} else if _, docker := a.files["manifest.json"]; docker {
		out, err = a.saved()
	} else {
		err = wrong("neither index.json nor manifest.json is in it")
	}
	if err != nil {
		return nil, err
	}
	if name != "" {
		n, err := api.ParseImageName(name)
		if err != nil || n.Digest != "" {
			return nil, wrong("name %.200q: wanted one such as docker.io/library/busybox:1.36, without a digest", name)
		}
		if len(out) != 1 {
			return nil, wrong("%d images are in it, and one name was given", len(out))
		}
		out[0].names = []api.ImageName{n}
	}
	for _, r := range out {
		if len(r.names) == 0 {
			return nil, wrong("image %s has no name in the archive: give one", r.digest)
		}
	}
	return out, nil
}

func nameOf(text string) (api.ImageName, bool) {
	n, err := api.ParseImageName(text)
	return n, err == nil && n.Digest == ""
}

// layout reads an OCI layout.
func (a *archive) layout() ([]root, error) {
	raw, _, err := a.content("index.json")
	if err != nil {
		return nil, err
	}
	var index struct {
		Manifests []struct {
			descriptor
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, wrong("index.json: %v", err)
	}
	at := map[string]int{}
	var out []root
	for _, m := range index.Manifests {
		if !api.ValidDigest(m.Digest) {
			return nil, wrong("index.json names %.80q; wanted sha256: with 64 hexadecimal digits", m.Digest)
		}
		i, seen := at[m.Digest]
		if !seen {
			body, d, err := a.content("blobs/sha256/" + strings.TrimPrefix(m.Digest, api.DigestPrefix))
			if err != nil {
				return nil, err
			}
			if d.Digest != m.Digest {
				return nil, wrong("content of %s has %s", m.Digest, d.Digest)
			}
			i = len(out)
			at[m.Digest] = i
			out = append(out, root{raw: body, kind: m.MediaType, digest: m.Digest})
		}
		for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
			if n, ok := nameOf(m.Annotations[key]); ok && (strings.Contains(m.Annotations[key], ":") || strings.Contains(m.Annotations[key], "/")) {
				out[i].names = append(out[i].names, n)
				break
			}
		}
	}
	if len(out) == 0 {
		return nil, wrong("index.json names no image")
	}
	return out, nil
}

// saved reads what docker save wrote before it wrote OCI layouts: layers are plain, and there is no manifest of a registry's kind,
// so one is made.
func (a *archive) saved() ([]root, error) {
	raw, _, err := a.content("manifest.json")
	if err != nil {
		return nil, err
	}
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return nil, wrong("manifest.json: wanted a list of images (%v)", err)
	}
	var out []root
	for _, item := range list {
		m := manifest{SchemaVersion: 2, MediaType: typeOCIManifest}
		config, err := a.find(item.Config)
		if err != nil {
			return nil, err
		}
		config.MediaType = "application/vnd.oci.image.config.v1+json"
		m.Config = &config
		for _, l := range item.Layers {
			d, err := a.find(l)
			if err != nil {
				return nil, err
			}
			d.MediaType, err = a.layerType(d.Digest)
			if err != nil {
				return nil, err
			}
			m.Layers = append(m.Layers, d)
		}
		body, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		r := root{raw: body, kind: typeOCIManifest, digest: digestOf(body)}
		for _, tag := range item.RepoTags {
			if n, ok := nameOf(tag); ok {
				r.names = append(r.names, n)
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// layerType looks at how a layer is packed.
func (a *archive) layerType(digest string) (string, error) {
	f, err := os.Open(a.path(digest))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	head := make([]byte, 2)
	if _, err := io.ReadFull(f, head); err == nil && bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return "application/vnd.oci.image.layer.v1.tar+gzip", nil
	}
	return "application/vnd.oci.image.layer.v1.tar", nil
}
