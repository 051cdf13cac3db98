package main

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/skerry-edge/skerry/agent/release"
)

// publish lays out what a release server serves: the scripts at the root, the channel, and beside the release its bundle.
func (m *maker) publish() error {
	for name, content := range m.stamped {
		if err := os.WriteFile(filepath.Join(m.out, name), content, 0o644); err != nil {
			return fmt.Errorf("publish %s: %w", name, err)
		}
	}
	channels := filepath.Join(m.out, release.ChannelDir)
	if err := os.MkdirAll(channels, 0o755); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := os.WriteFile(filepath.Join(channels, m.channel), []byte(m.version+"\n"), 0o644); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if m.bundle {
		if err := m.writeBundle(); err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
	}
	m.say("release %s is in %s; install.sh of it trusts the key %s", m.version, m.out, m.key.public)
	return nil
}

// bundled are the kinds that a site without a network needs; packages are for who has a repository of his own.
var bundled = []string{release.KindArchive, release.KindImage, release.KindVerify, release.KindSBOM, release.KindKube, release.KindOther}

// writeBundle packs what a release server would serve of this release. It is in no manifest, since it holds the manifest: what is inside is
// checked by that one.
func (m *maker) writeBundle() error {
	name := "skerry-bundle_" + m.version + ".tar.zst"
	err := writeFile(filepath.Join(m.dir, name), func(w io.Writer) error {
		// One worker and a window of 8 MiB, which every zstd unpacks without being asked to.
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(8<<20))
		if err != nil {
			return err
		}
		if err := m.bundleTar(z); err != nil {
			return err
		}
		return z.Close()
	})
	if err != nil {
		return err
	}
	sum, _, err := hashOf(filepath.Join(m.dir, name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir, name+".sha256"), []byte(sum+"  "+name+"\n"), 0o644)
}

func (m *maker) bundleTar(w io.Writer) error {
	paths := []string{"install.sh", "uninstall.sh", filepath.Join(release.ChannelDir, m.channel)}
	for _, f := range m.manifest.Files {
		if slices.Contains(bundled, f.Kind) {
			paths = append(paths, filepath.Join(m.version, f.Name))
		}
	}
	paths = append(paths, filepath.Join(m.version, release.ManifestName), filepath.Join(m.version, release.SignatureName))
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(a, b) })
	t := tar.NewWriter(w)
	for _, dir := range []string{m.version, release.ChannelDir} {
		if err := t.WriteHeader(m.header(dir+"/", 0o755, 0, tar.TypeDir)); err != nil {
			return err
		}
	}
	for _, p := range paths {
		if err := m.tarFile(t, m.out, filepath.Join(m.out, p)); err != nil {
			return err
		}
	}
	return t.Close()
}
