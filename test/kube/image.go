package kube

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// AppImage is the image that the tests' pods run, by that name.
const AppImage = "registry.test/app:1"

// moduleImage is the same as a WebAssembly module.
const moduleImage = "registry.test/module:1"

// archive is an image of test/kube/app, built once.
type archive struct {
	name, os, arch string

	once sync.Once
	raw  []byte
	err  error
}

var (
	app    = archive{name: AppImage, os: "linux", arch: runtime.GOARCH}
	module = archive{name: moduleImage, os: "wasip1", arch: "wasm"}
)

// AppArchive builds AppImage, as an archive that `skerry image import` takes. It needs Go.
func AppArchive() ([]byte, error) { return app.get() }

func (a *archive) get() ([]byte, error) {
	a.once.Do(func() {
		dir, err := os.MkdirTemp("", "app")
		if err != nil {
			a.err = err
			return
		}
		a.raw, a.err = a.build(dir)
		a.err = errors.Join(a.err, os.RemoveAll(dir))
	})
	if a.err != nil {
		return nil, fmt.Errorf("make image %s: %w", a.name, a.err)
	}
	return a.raw, nil
}

func (a *archive) build(dir string) ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "app")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./test/kube/app")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+a.os, "GOARCH="+a.arch)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(raw)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	for _, folder := range []string{"tmp/", "proc/", "dev/", "etc/"} {
		if err := w.WriteHeader(&tar.Header{Name: folder, Mode: 0o1777, Typeflag: tar.TypeDir}); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = a.os, a.arch, v1.Config{Entrypoint: []string{"/app"}, Cmd: []string{"count"}, User: "1000:1000"}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		return nil, err
	}
	tag, err := name.NewTag(a.name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = tarball.Write(tag, img, &out)
	return out.Bytes(), err
}
