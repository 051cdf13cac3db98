package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
