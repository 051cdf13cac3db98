package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// The bounds of what is read into memory.
const (
	maxManifestBytes = 4 << 20 // as registries have it
	maxLayers        = 512
)

// The media types of manifests.
const (
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

var manifestTypes = []string{typeOCIIndex, typeOCIManifest, typeDockerList, typeDockerManifest}

// Refusal is an answer as the distribution API gives it.
type Refusal struct {
	Status  int
	Code    string
	Message string
}

// Error tells people.
func (r *Refusal) Error() string { return r.Message }

// descriptor names content.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

func (p platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// manifest is an index or the manifest of an image.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return api.DigestPrefix + hex.EncodeToString(sum[:])
}

// parseManifest reads an index or a manifest.
func parseManifest(raw []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	switch {
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("manifest of schema version %d; wanted 2", m.SchemaVersion)
	case len(m.Layers)+len(m.Manifests) > maxLayers:
		return nil, fmt.Errorf("manifest names %d parts; wanted at most %d", len(m.Layers)+len(m.Manifests), maxLayers)
	}
	for _, d := range m.parts() {
		if !api.ValidDigest(d.Digest) || d.Size < 0 {
			return nil, fmt.Errorf("manifest names %.80q with %d bytes; wanted sha256: with 64 hexadecimal digits", d.Digest, d.Size)
		}
	}
	return &m, nil
}

// parts are all that a manifest names.
func (m *manifest) parts() []descriptor {
	out := slices.Concat(m.Manifests, m.Layers)
	if m.Config != nil {
		out = append(out, *m.Config)
	}
	return out
}

// kind is the media type of a manifest: what it says of itself, else what came with it, else by its form.
func (m *manifest) kind(said string) string {
	said, _, _ = strings.Cut(said, ";")
	for _, t := range []string{m.MediaType, strings.TrimSpace(said)} {
		if slices.Contains(manifestTypes, t) {
			return t
		}
	}
	if len(m.Manifests) > 0 {
		return typeOCIIndex
	}
	return typeOCIManifest
}

func refuse(status int, code, format string, args ...any) *Refusal {
	return &Refusal{status, code, fmt.Sprintf(format, args...)}
}

func unknownManifest(name string) *Refusal {
	return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "there is no image %s", name)
}
