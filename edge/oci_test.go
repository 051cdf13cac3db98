package edge

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/edge/image"
)

// shelf stands in for the cluster agent's cache of images: it answers for those that tests made.
type shelf struct {
	t     *testing.T
	url   string
	mu    sync.Mutex
	blobs map[string][]byte // by digest
	tags  map[string]string // digests of manifests by name:tag
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{t: t, blobs: map[string][]byte{}, tags: map[string]string{}}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// site is the shelf as a store of images sees it.
func (s *shelf) site() image.Site {
	return image.Site{Endpoints: func() []string { return []string{s.url} },
		TLS: func(string) *tls.Config { return &tls.Config{InsecureSkipVerify: true} }}
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/images/")
	name, what, found := strings.Cut(path, "/manifests/")
	if !found {
		name, what, _ = strings.Cut(path, "/blobs/")
	}
	digest := what
	if tagged, ok := s.tags[name+":"+what]; ok {
		digest = tagged
	}
	raw, ok := s.blobs[digest]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no image %s"}]}`, path)
		return
	}
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
}

func (s *shelf) put(raw []byte) (digest string) {
	sum := sha256.Sum256(raw)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[digest] = raw
	return digest
}

// described is a descriptor of OCI.
func (s *shelf) described(kind string, raw []byte) map[string]any {
	return map[string]any{"mediaType": kind, "digest": s.put(raw), "size": len(raw)}
}

func (s *shelf) json(v any) []byte {
	s.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// tag makes an image out of a manifest.
func (s *shelf) tag(ref string, manifest map[string]any) {
	manifest["schemaVersion"], manifest["mediaType"] = 2, ociManifest
	digest := s.put(s.json(manifest))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tags[ref] = digest
}

// image offers one of a single layer of files, that runs on a platform such as linux/amd64.
func (s *shelf) image(ref, platform string, files map[string][]byte, config map[string]any) {
	s.t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for name, data := range files {
		h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			s.t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	system, arch, _ := strings.Cut(platform, "/")
	described := s.described(ociLayer, layer.Bytes())
	raw := s.json(map[string]any{"os": system, "architecture": arch, "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{described["digest"]}}})
	s.tag(ref, map[string]any{"config": s.described(ociConfig, raw), "layers": []any{described}})
}

// artifact offers a module without an image around it.
func (s *shelf) artifact(ref, kind string, module []byte) {
	s.tag(ref, map[string]any{"artifactType": kind, "config": s.described("application/vnd.oci.empty.v1+json", []byte("{}")),
		"layers": []any{s.described(kind, module)}})
}

// The references of images that every shelf of stocked has.
const (
	words       = "registry.test/words:1"
	wordsWasm   = "registry.test/words-wasm:1"
	wordsModule = "registry.test/words-module:1"
	noWords     = "registry.test/none:1"
)

// stocked is a shelf with the program of the conformance suite, as an image for this machine, as an image of a module, and as a
// module alone.
func stocked(t *testing.T) *shelf {
	t.Helper()
	s := newShelf(t)
	files := map[string][]byte{"words": wordsOf(t, "words"), "tmp/": nil, "etc/passwd": []byte("root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n"),
		"etc/group": []byte("root:x:0:\nann:x:1000:\ndialout:x:20:ann\n")}
	s.image(words, "linux/"+goruntime.GOARCH, files, map[string]any{"Entrypoint": []string{"/words"}, "Env": []string{"SHADE=pale"}})
	s.image(wordsWasm, "wasip1/wasm", map[string][]byte{"app/words.wasm": wordsOf(t, "words.wasm"), "data/file": []byte("of the image")},
		map[string]any{"Entrypoint": []string{"/app/words.wasm"}, "Env": []string{"SHADE=pale"}})
	s.artifact(wordsModule, "application/vnd.wasm.content.layer.v1+wasm", wordsOf(t, "words.wasm"))
	return s
}

var builds struct {
	mu  sync.Mutex
	dir string
	err error
	how map[string]bool
}

// wordsOf is the content of a program that tests run, which is built once: words, words.wasm; the latter's file alone, skerry-edge, is that of SKERRY_EDGE if it is set.
func wordsOf(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(programFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func programFile(t *testing.T, name string) string {
	t.Helper()
	if own := os.Getenv("SKERRY_EDGE"); own != "" && name == "skerry-edge" {
		return own
	}
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if builds.how == nil {
		builds.how = map[string]bool{}
		if builds.dir, builds.err = os.MkdirTemp("", "skerry-built"); builds.err != nil {
			t.Fatal(builds.err)
		}
	}
	file := filepath.Join(builds.dir, name)
	if builds.how[name] {
		return file
	}
	source, env := "./workload/conformance/testdata/words", []string{"CGO_ENABLED=0"}
	if name == "skerry-edge" {
		source = "../cmd/skerry-edge"
	}
	if strings.HasSuffix(name, ".wasm") {
		env = append(env, "GOOS=wasip1", "GOARCH=wasm")
	}
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", file, source)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	builds.how[name] = true
	return file
}
