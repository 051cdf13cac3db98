package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skerry-edge/skerry/agent/release"
)

// registryName is where the images would be pulled from; archives carry it so that an import names them.
const registryName = "ghcr.io/skerry-edge/"

// image writes one archive with the images of a program for all platforms, in OCI's layout. No daemon has a part in it.
func (m *maker) image(p program, v variant, built []binary) error {
	tag := m.version
	if v.name != "" && v != p.variants[0] {
		tag += "-" + v.name
	}
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range built {
		img, err := m.platformImage(b)
		if err != nil {
			return fmt.Errorf("image of %s for %s: %w", p.name, b.target.name, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: b.target.platform()}})
	}
	dir := filepath.Join(m.work, "image-"+p.name+v.name)
	to, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return fmt.Errorf("image of %s: %w", p.name, err)
	}
	name := registryName + p.name + ":" + tag
	notes := map[string]string{"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name}
	if err := to.AppendIndex(index, layout.WithAnnotations(notes)); err != nil {
		return fmt.Errorf("image of %s: %w", p.name, err)
	}
	file := m.fileName(p.name, "", v.name, ".oci.tar")
	path := filepath.Join(m.work, file)
	if err := writeFile(path, func(w io.Writer) error { return m.tarDir(w, dir) }); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	_, err = m.add(file, path, release.File{Kind: release.KindImage, Program: p.name, Variant: v.name})
	return err
}

func (t target) platform() *v1.Platform {
	return &v1.Platform{OS: "linux", Architecture: t.arch, Variant: t.variant}
}

// platformImage holds the program and nothing else: it is static. It runs as nobody in particular; who needs root says so.
func (m *maker) platformImage(b binary) (v1.Image, error) {
	raw, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	if err := writeTar(&layer, m.settings, []entry{{b.program.name, 0o755, raw}}); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: m.built}, CreatedBy: "skerry release " + m.version}})
	if err != nil {
		return nil, err
	}
	config := &v1.ConfigFile{OS: "linux", Architecture: b.target.arch, Variant: b.target.variant, Created: v1.Time{Time: m.built}, Config: v1.Config{
		Entrypoint: []string{"/" + b.program.name}, Cmd: []string{"run"}, User: "65532:65532",
		Labels: map[string]string{"org.opencontainers.image.version": m.version, "org.opencontainers.image.revision": m.commit,
			"org.opencontainers.image.title": b.program.name, "org.opencontainers.image.licenses": "Apache-2.0"}}}
	if old, err := img.ConfigFile(); err != nil {
		return nil, err
	} else {
		config.RootFS, config.History = old.RootFS, old.History
	}
	return mutate.ConfigFile(img, config)
}

// tarDir packs a directory, sorted, with one time.
func (m *maker) tarDir(w io.Writer, dir string) error {
	var paths []string
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		return err
	}
	slices.Sort(paths)
	t := tar.NewWriter(w)
	for _, path := range paths {
		if err := m.tarFile(t, dir, path); err != nil {
			return err
		}
	}
	return t.Close()
}

func (m *maker) tarFile(t *tar.Writer, dir, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return t.WriteHeader(m.header(filepath.ToSlash(name)+"/", 0o755, 0, tar.TypeDir))
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	mode := int64(0o644)
	if st.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if err := t.WriteHeader(m.header(filepath.ToSlash(name), mode, st.Size(), tar.TypeReg)); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
