package image

import (
	"io"
	"log"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/image"
)

func slogDiscard() *log.Logger { return log.New(io.Discard, "", 0) }

// sample is an image for this machine with random content.
func sample(t *testing.T, bytes, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(bytes, layers)
	if err != nil {
		t.Fatal(err)
	}
	return here(t, img)
}

func here(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	p := image.Here()
	cfg.OS, cfg.Architecture, cfg.Variant = p.OS, p.Architecture, p.Variant
	cfg.Config = v1.Config{Entrypoint: []string{"/bin/app"}, Cmd: []string{"-v"}, Env: []string{"A=b"}, WorkingDir: "/w", User: "1000"}
	out, err := mutate.ConfigFile(img, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (u *upstream) push(t *testing.T, ref string, img v1.Image) string {
	t.Helper()
	r, err := name.ParseReference(u.host+"/"+ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func insecure(u *upstream) string {
	return "  registries: [{name: \"" + u.host + "\", insecure: true}]\n"
}

func TestANodePullsThroughTheClusterAgentWithItsCertificate(t *testing.T) {
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	n := s.node("n1")
	digest := u.push(t, "org/app:1", sample(t, 300_000, 3))
	var last, total int64
	got, err := n.Pull(t.Context(), u.host+"/org/app:1", api.PullMissing, func(d, all int64) { last, total = d, all })
	if err != nil || got != digest {
		t.Fatalf("%s, %v; wanted %s", got, err, digest)
	}
	if last != total || total < 900_000 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	img, err := n.Root(got)
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Config.Entrypoint) != 1 || img.Config.Cmd[0] != "-v" || img.Config.WorkingDir != "/w" || img.Config.User != "1000" {
		t.Errorf("config %+v", img.Config)
	}
	files, err := filepath.Glob(filepath.Join(img.Dir, "random_file_*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%v in %s, %v; wanted a file of each layer", files, img.Dir, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Size() != 300_000 {
		t.Errorf("%v, %v", info, err)
	}
}
