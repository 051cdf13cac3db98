package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry-edge/skerry/agent/release"
)

// unreleased is the version of chart, base and image in the sources.
const unreleased = "0.0.0-dev"

// chartName is that of the chart, of the image, and of the program inside.
const chartName = "skerry-cluster"

// kube writes what brings the cluster agent into Kubernetes: chart, kustomize base, and the manifest with which k3s installs the chart by itself.
func (m *maker) kube() error {
	chart, err := m.versioned("install/helm/"+chartName, chartName, 2)
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	base, err := m.versioned("install/kube", "skerry-kube", 1)
	if err != nil {
		return fmt.Errorf("kustomize base: %w", err)
	}
	var packed, kustomize bytes.Buffer
	if err := gzipped.write(&packed, m.settings, chart); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	if err := gzipped.write(&kustomize, m.settings, base); err != nil {
		return fmt.Errorf("kustomize base: %w", err)
	}
	manifest, err := os.ReadFile(filepath.Join(m.source, "install", "helm", "k3s.yaml"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(manifest), "@CHART@", base64.StdEncoding.EncodeToString(packed.Bytes()), 1)
	if len(text) == len(manifest) {
		return fmt.Errorf("install/helm/k3s.yaml has no place for the chart (@CHART@)")
	}
	kind := release.File{Kind: release.KindKube, Program: chartName}
	// The first name is Helm's custom.
	if err := m.addBytes(chartName+"-"+m.version+".tgz", packed.Bytes(), kind); err != nil {
		return err
	}
	if err := m.addBytes(m.fileName("skerry-kube", "", "", ".tar.gz"), kustomize.Bytes(), kind); err != nil {
		return err
	}
	return m.addBytes(m.fileName(chartName, "", "", ".helmchart.yaml"), []byte(text), kind)
}

// versioned are the YAML files and templates below a directory, as entries below name, with the version put in so many times.
func (m *maker) versioned(dir, name string, times int) ([]entry, error) {
	var entries []entry
	root, found := filepath.Join(m.source, dir), 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".go" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		found += bytes.Count(raw, []byte(unreleased))
		entries = append(entries, entry{name + "/" + filepath.ToSlash(rel), 0o644, bytes.ReplaceAll(raw, []byte(unreleased), []byte(m.version))})
		return err
	})
	if err == nil && found != times {
		err = fmt.Errorf("%s has the version %s %d times; wanted %d", dir, unreleased, found, times)
	}
	return entries, err
}
