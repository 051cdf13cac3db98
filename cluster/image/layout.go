package image

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

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
