package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/image"
	"github.com/skerry-edge/skerry/edge/workload"
)

// cutting is a connection that ends after so many bytes.
type cutting struct {
	net.Conn
	left atomic.Int64
}

func (c *cutting) Read(p []byte) (int, error) {
	if c.left.Load() <= 0 {
		return 0, errors.Join(io.ErrUnexpectedEOF, c.Close())
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left.Load())])
	c.left.Add(-int64(n))
	return n, err
}

func TestAPullGoesOnThroughConnectionsThatAreCutAnywhere(t *testing.T) {
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	n := s.node("n1")
	digest := u.push(t, "app:1", sample(t, 1_500_000, 2))
	r := rand.New(rand.NewPCG(1, 2))
	var dials, bytesIn atomic.Int64
	var mu sync.Mutex
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		dials.Add(1)
		mu.Lock()
		defer mu.Unlock()
		c := &cutting{Conn: conn}
		c.left.Store(r.Int64N(900_000))
		bytesIn.Add(c.left.Load())
		return c, nil
	}
	n.dial.Store(&dial)
	for tries := 0; ; tries++ {
		got, err := n.Pull(t.Context(), u.host+"/app:1", api.PullMissing, nil)
		if err == nil {
			if got != digest {
				t.Errorf("%s; wanted %s", got, digest)
			}
			break
		}
		if errors.Is(err, workload.ErrBadImage) || errors.Is(err, workload.ErrNoImage) || tries > 20 {
			t.Fatalf("after %d tries: %v; wanted a fault that passes", tries, err)
		}
	}
	if dials.Load() < 6 {
		t.Errorf("%d connections; nothing was cut", dials.Load())
	}
	img, err := n.Root(digest)
	if err != nil {
		t.Fatal(err)
	}
	if files, err := filepath.Glob(filepath.Join(img.Dir, "random_file_*")); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestFaultsThatPassAreToldFromThoseThatDoNot(t *testing.T) {
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	n := s.node("n1")
	if _, err := n.Pull(t.Context(), u.host+"/none:1", api.PullMissing, nil); !errors.Is(err, workload.ErrNoImage) {
		t.Errorf("absent: %v; wanted ErrNoImage", err)
	}
	if _, err := n.Pull(t.Context(), u.host+"/none:1", api.PullNever, nil); !errors.Is(err, workload.ErrNoImage) {
		t.Errorf("never: %v; wanted ErrNoImage", err)
	}
	if _, err := n.Pull(t.Context(), "Bad Name", api.PullMissing, nil); !errors.Is(err, workload.ErrBadImage) {
		t.Errorf("bad name: %v; wanted ErrBadImage", err)
	}
	other, err := mutate.ConfigFile(sample(t, 10, 1), &v1.ConfigFile{OS: "linux", Architecture: "s390x"})
	if err != nil {
		t.Fatal(err)
	}
	other, err = mutate.AppendLayers(other)
	if err != nil {
		t.Fatal(err)
	}
	u.push(t, "other:1", withDiffIDs(t, other))
	if _, err := n.Pull(t.Context(), u.host+"/other:1", api.PullMissing, nil); !errors.Is(err, workload.ErrBadImage) || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("another platform: %v; wanted ErrBadImage with both", err)
	}
	digest := u.push(t, "app:1", sample(t, 1000, 1))
	if _, err := n.Pull(t.Context(), u.host+"/app:1", api.PullMissing, nil); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if got, err := n.Pull(t.Context(), u.host+"/app:1", api.PullAlways, nil); err != nil || got != digest {
		t.Errorf("alone: %s, %v; wanted what is there", got, err)
	}
	if _, err := n.Pull(t.Context(), u.host+"/app:2", api.PullMissing, nil); err == nil || errors.Is(err, workload.ErrNoImage) || errors.Is(err, workload.ErrBadImage) {
		t.Errorf("alone, and not there: %v; wanted a fault that passes", err)
	}
}

// withDiffIDs gives an image whose configuration was replaced the digests of its layers' content.
func withDiffIDs(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	cfg.RootFS = v1.RootFS{Type: "layers"}
	for _, l := range layers {
		id, err := l.DiffID()
		if err != nil {
			t.Fatal(err)
		}
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, id)
	}
	out, err := mutate.ConfigFile(img, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestANodeThatWasRemovedAndAStrangerGetNothing(t *testing.T) {
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	n := s.node("n1")
	u.push(t, "app:1", sample(t, 1000, 1))
	u.push(t, "app:2", sample(t, 1000, 1))
	if _, err := n.Pull(t.Context(), u.host+"/app:1", api.PullMissing, nil); err != nil {
		t.Fatal(err)
	}
	if status, text := s.try("DELETE", "/v1/nodes/n1", nil); status != 204 {
		t.Fatalf("%d %s", status, text)
	}
	if _, err := n.Pull(t.Context(), u.host+"/app:2", api.PullMissing, nil); err == nil || !strings.Contains(err.Error(), "removed") {
		t.Errorf("removed: %v; wanted a refusal that says why", err)
	}
	resp, err := s.client(nil).Get(s.server + "/v2/" + u.host + "/app/manifests/1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic") {
		t.Errorf("a stranger: %s; wanted 401 with a challenge", resp.Status)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.server+"/v2/"+u.host+"/app/manifests/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("any", s.token)
	resp, err = s.client(nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("a token as a password: %s; wanted 200", resp.Status)
	}
}

// TestManyNodesThatPullOneImageCauseOneDownloadAndLittleMemory is 20 nodes and an image of 12 MiB: what is in use meanwhile has to be far
// below a copy for each of them.
func TestManyNodesThatPullOneImageCauseOneDownloadAndLittleMemory(t *testing.T) {
	const nodes, size = 20, 12 << 20
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	img := sample(t, size, 1)
	digest := u.push(t, "app:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	blob, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var all []*node
	for i := range nodes {
		all = append(all, s.node(fmt.Sprintf("n%d", i)))
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak uint64
	done := make(chan struct{})
	var watch, wg sync.WaitGroup
	watch.Go(func() {
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapInuse)
			}
		}
	})
	for _, n := range all {
		wg.Go(func() {
			if got, err := n.Pull(t.Context(), u.host+"/app:1", api.PullMissing, nil); err != nil || got != digest {
				t.Errorf("%s, %v; wanted %s", got, err, digest)
			}
		})
	}
	wg.Wait()
	close(done)
	watch.Wait()
	if n := u.got("/v2/app/blobs/" + blob.String()); n != 1 {
		t.Errorf("the layer was fetched %d times; wanted once", n)
	}
	grown := (int64(peak) - int64(before.HeapInuse)) >> 20
	t.Logf("%d nodes and the cluster agent: %d MiB more than before", nodes, grown)
	if grown > 5*(size>>20) { // the registry in this process takes one or two copies
		t.Errorf("%d MiB more; wanted far less than %d copies of %d MiB", grown, nodes, size>>20)
	}
}

// appOf is an image with one layer, packed as a test wants.
func appOf(t *testing.T, kind types.MediaType, packed []byte, plain []byte) v1.Image {
	t.Helper()
	id, _, err := v1.SHA256(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer(packed, kind), MediaType: kind})
	if err != nil {
		t.Fatal(err)
	}
	p := image.Here()
	out, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{id}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n, c := range files {
		if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o644, Size: int64(len(c))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestALayerOfZstdIsUnpackedAndCheckedByItsContent(t *testing.T) {
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	n := s.node("n1")
	plain := tarOf(t, map[string]string{"hello": strings.Repeat("hello ", 1000)})
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := z.EncodeAll(plain, nil)
	u.push(t, "app:1", appOf(t, types.OCILayerZStd, packed, plain))
	digest, err := n.Pull(t.Context(), u.host+"/app:1", api.PullMissing, nil)
	if err != nil {
		t.Fatal(err)
	}
	img, err := n.Root(digest)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(img.Dir, "hello")); err != nil || len(raw) != 6000 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	u.push(t, "app:2", appOf(t, types.OCILayerZStd, packed, append(plain, 0)))
	if _, err := n.Pull(t.Context(), u.host+"/app:2", api.PullMissing, nil); !errors.Is(err, workload.ErrBadImage) {
		t.Errorf("%v; wanted content that is not what the configuration says to be refused", err)
	}
}

func TestAWebAssemblyArtifactIsAModuleInAFolder(t *testing.T) {
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	n := s.node("n1")
	module := []byte("\x00asm\x01\x00\x00\x00")
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer(module, "application/wasm"), MediaType: "application/wasm"})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := n.Pull(t.Context(), u.host+"/mod@"+u.push(t, "mod:1", img), api.PullMissing, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.Root(digest)
	if err != nil || got.Module == "" {
		t.Fatalf("%+v, %v", got, err)
	}
	if raw, err := os.ReadFile(filepath.Join(got.Dir, got.Module)); err != nil || !bytes.Equal(raw, module) {
		t.Errorf("%q, %v", raw, err)
	}
}

func TestASiteWithoutARegistryRunsWhatIsImported(t *testing.T) {
	s := newSite(t, "  only_listed: true\n")
	n := s.node("n1")
	img := sample(t, 50_000, 2)
	file := filepath.Join(t.TempDir(), "app.tar")
	tag, err := name.NewTag("app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	status, text := s.try("POST", "/v1/images?name=ghcr.io/org/app:1", f)
	if status != 200 || !strings.Contains(text, `"ghcr.io/org/app:1"`) || !strings.Contains(text, `"imported":true`) {
		t.Fatalf("%d %s", status, text)
	}
	digest, err := n.Pull(t.Context(), "ghcr.io/org/app:1", api.PullAlways, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := n.Root(digest); err != nil || got.Config.User != "1000" {
		t.Errorf("%+v, %v", got, err)
	}
	list := must[api.List[api.Image]](s, "GET", "/v1/images", nil)
	if len(list.Items) != 1 || !list.Items[0].Imported || !list.Items[0].Complete || list.Items[0].Digest != digest {
		t.Errorf("%+v", list.Items)
	}
	if status, text := s.try("POST", "/v1/images", strings.NewReader("no archive")); status != 400 || !strings.Contains(text, "bad_archive") {
		t.Errorf("no archive: %d %s", status, text)
	}
	if status, text := s.try("DELETE", "/v1/images/ghcr.io%2Forg%2Fapp:1", nil); status != 204 {
		t.Errorf("remove: %d %s", status, text)
	}
	if _, err := n.Pull(t.Context(), "ghcr.io/org/app:2", api.PullMissing, nil); err == nil || !strings.Contains(err.Error(), "not listed") {
		t.Errorf("%v; wanted to be told that the registry is not listed", err)
	}
	audit := must[api.List[api.AuditEntry]](s, "GET", "/v1/audit", nil)
	var actions []string
	for _, e := range audit.Items {
		actions = append(actions, e.Action+" "+e.Result)
	}
	if text := strings.Join(actions, "\n"); !strings.Contains(text, "image.import ok") || !strings.Contains(text, "image.remove ok") {
		t.Errorf("audit:\n%s", text)
	}
}

func TestADiskThatIsFullKeepsNothingOfWhatDidNotFit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: a file system of its own")
	}
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	n := s.node("n1")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	n.open(t, image.Settings{Dir: dir, ReserveBytes: 1})
	small := u.push(t, "small:1", sample(t, 500_000, 1))
	if _, err := n.Pull(t.Context(), u.host+"/small:1", api.PullMissing, nil); err != nil {
		t.Fatal(err)
	}
	// Zeros: little to fetch, more than there is room for when it is unpacked.
	plain := tarOf(t, map[string]string{"zeros": strings.Repeat("\x00", 10<<20)})
	u.push(t, "zeros:1", appOf(t, types.OCIUncompressedLayer, plain, plain))
	u.push(t, "tight:1", packedWithGzip(t, plain))
	for _, ref := range []string{"/zeros:1", "/tight:1"} {
		_, err := n.Pull(t.Context(), u.host+ref, api.PullMissing, nil)
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, workload.ErrBadImage) {
			t.Errorf("%s: %v; wanted the full disk, as a fault that passes", ref, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "images", "tmp", "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %v, %v left", ref, left, err)
		}
	}
	if img, err := n.Root(small); err != nil || img.Digest != small {
		t.Errorf("%+v, %v; wanted the image that was there", img, err)
	}
	if freed, err := n.Collect(t.Context(), []string{small}, nil); err != nil {
		t.Errorf("%d, %v", freed, err)
	}
	if freed, err := n.Collect(t.Context(), nil, nil); err != nil || freed < 500_000 {
		t.Errorf("%d, %v; wanted the room of the image", freed, err)
	}
	if _, err := n.Root(small); !errors.Is(err, workload.ErrNoImage) {
		t.Errorf("%v; wanted it gone", err)
	}
}

func packedWithGzip(t *testing.T, plain []byte) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(plain)), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	return here(t, img)
}

// TestAStoreHealsWhenItsProcessIsKilledAnywhere pulls in a process of its own, which is killed after ever longer times, until one pull ends.
func TestAStoreHealsWhenItsProcessIsKilledAnywhere(t *testing.T) {
	if dir := os.Getenv("SKERRY_TEST_PULL_DIR"); dir != "" {
		pullAsChild(t, dir)
		return
	}
	u := newUpstream(t)
	s := newSite(t, insecure(u))
	files := map[string]string{}
	for i := range 4000 {
		files[fmt.Sprintf("d%d/f%d", i%50, i)] = strings.Repeat("x", 500)
	}
	digest := u.push(t, "app:1", packedWithGzip(t, tarOf(t, files)))
	id := s.enrol("n1")
	dir := t.TempDir()
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for wait := 100 * time.Millisecond; ; wait = wait * 3 / 2 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAStoreHealsWhenItsProcessIsKilledAnywhere$", "-test.count=1")
		cmd.Env = append(os.Environ(), "SKERRY_TEST_PULL_DIR="+dir, "SKERRY_TEST_PULL_REF="+u.host+"/app:1")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() }) // it may have ended
		err := cmd.Wait()
		killed := !timer.Stop()
		if err == nil {
			break
		}
		if !killed {
			t.Fatalf("%v\n%s", err, out.String())
		}
		kills++
		check(t, s, id, dir, digest, len(files))
	}
	t.Logf("killed %d times", kills)
	if kills < 2 {
		t.Errorf("killed %d times; nothing was proven", kills)
	}
	if !check(t, s, id, dir, digest, len(files)) {
		t.Error("the pull ended well, and there is no image")
	}
}
