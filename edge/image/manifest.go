package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
)

// The bounds of what is read into memory, and of counts.
const (
	maxManifestBytes = 1 << 20
	maxConfigBytes   = 1 << 20
	maxLayers        = 256
	maxManifests     = 256
)

// The media types that are taken.
const (
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeWasm           = "application/wasm"
	typeWasmLayer      = "application/vnd.wasm.content.layer.v1+wasm"
)

const acceptManifests = typeOCIIndex + ", " + typeOCIManifest + ", " + typeDockerList + ", " + typeDockerManifest

// descriptor names content by its digest.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *Platform `json:"platform,omitempty"`
}

// hex is the digest without its algorithm; the digest has been checked.
func (d descriptor) hex() string { return strings.TrimPrefix(d.Digest, api.DigestPrefix) }

// compression is how a layer is packed, by its media type.
func (d descriptor) compression() string {
	switch {
	case strings.HasSuffix(d.MediaType, "zstd"):
		return "zstd"
	case strings.HasSuffix(d.MediaType, "gzip"):
		return "gzip"
	}
	return ""
}

// manifest is an index (Manifests) or the manifest of one image (Config, Layers).
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	ArtifactType  string       `json:"artifactType"`
	Config        *descriptor  `json:"config"`
	Layers        []descriptor `json:"layers"`
	Manifests     []descriptor `json:"manifests"`
}

// config is what an image says of itself.
type config struct {
	Platform
	Config Config `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// Config is how an image wants to be started.
type Config struct {
	User       string   `json:"User,omitempty"`
	Env        []string `json:"Env,omitempty"`
	Entrypoint []string `json:"Entrypoint,omitempty"`
	Cmd        []string `json:"Cmd,omitempty"`
	WorkingDir string   `json:"WorkingDir,omitempty"`
	StopSignal string   `json:"StopSignal,omitempty"`
}

func badImage(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, workload.ErrBadImage)...)
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return api.DigestPrefix + hex.EncodeToString(sum[:])
}

// parseManifest reads an index or a manifest and checks all that is used of it later.
func parseManifest(raw []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, badImage("manifest: %v", err)
	}
	switch {
	case m.SchemaVersion != 2:
		return nil, badImage("manifest of schema version %d; wanted 2: push the image again with a current tool", m.SchemaVersion)
	case len(m.Manifests) > maxManifests || len(m.Layers) > maxLayers:
		return nil, badImage("manifest names %d images and %d layers; wanted at most %d and %d", len(m.Manifests), len(m.Layers), maxManifests, maxLayers)
	case m.Config == nil && len(m.Manifests) == 0:
		return nil, badImage("manifest has neither a config nor manifests")
	case m.Config != nil && len(m.Manifests) > 0:
		return nil, badImage("manifest is an index and an image at once")
	}
	all := append(append([]descriptor(nil), m.Layers...), m.Manifests...)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	for _, d := range all {
		if !api.ValidDigest(d.Digest) {
			return nil, badImage("manifest names %.80q; wanted sha256: with 64 hexadecimal digits", d.Digest)
		}
		if d.Size < 0 {
			return nil, badImage("manifest says that %s has %d bytes", d.Digest, d.Size)
		}
	}
	return &m, nil
}

// module is the one layer of a WebAssembly artifact; ok is false for an image of file systems.
func (m *manifest) module() (layer descriptor, ok bool) {
	if len(m.Layers) != 1 || m.Layers[0].MediaType != typeWasm && m.Layers[0].MediaType != typeWasmLayer {
		return descriptor{}, false
	}
	return m.Layers[0], true
}

// parseConfig reads the configuration of an image with that many layers.
func parseConfig(raw []byte, layers int) (*config, error) {
	var c config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, badImage("config: %v", err)
	}
	if len(c.RootFS.DiffIDs) != layers {
		return nil, badImage("config tells the content of %d layers; the manifest has %d", len(c.RootFS.DiffIDs), layers)
	}
	for _, id := range c.RootFS.DiffIDs {
		if !api.ValidDigest(id) {
			return nil, badImage("config: diff id %.80q; wanted sha256: with 64 hexadecimal digits", id)
		}
	}
	return &c, nil
}
