package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// upstream is a registry that counts, and that a test may come between.
type upstream struct {
	*httptest.Server
	host string
	next http.Handler

	mu   sync.Mutex
	seen map[string]int // by method and path
	wrap atomic.Pointer[http.HandlerFunc]
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{seen: map[string]int{}, next: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.seen[r.Method+" "+r.URL.Path]++
		u.mu.Unlock()
		if f := u.wrap.Load(); f != nil {
			(*f)(w, r)
			return
		}
		u.next.ServeHTTP(w, r)
	}))
	t.Cleanup(u.Close)
	u.host = strings.TrimPrefix(u.URL, "http://")
	return u
}

func (u *upstream) between(f http.HandlerFunc) { u.wrap.Store(&f) }

func (u *upstream) count(request string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[request]
}

func (u *upstream) push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	r, err := name.ParseReference(u.host+"/"+ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
}

func randomImage(t *testing.T, bytes, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(bytes, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// cache is a Cache behind a server.
type cache struct {
	*Cache
	http *httptest.Server
	stop func()
	now  atomic.Int64 // added to the clock
	dir  string
	db   *bbolt.DB
}

func newCache(t *testing.T, u *upstream, change func(*Config)) *cache {
	t.Helper()
	c := &cache{dir: t.TempDir()}
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	c.db = db
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	c.open(t, u, change)
	return c
}

func (c *cache) open(t *testing.T, u *upstream, change func(*Config)) {
	t.Helper()
	cfg := Config{DB: c.db, Dir: c.dir, MaxBytes: 64 << 20, Log: slog.New(slog.DiscardHandler), Stall: 2 * time.Minute,
		Now: func() time.Time { return time.Now().Add(time.Duration(c.now.Load())) }}
	if u != nil {
		cfg.Upstreams = []Upstream{{Registry: u.host, Insecure: true}}
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if c.Cache, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	c.http = httptest.NewServer(c.Cache)
	c.stop = sync.OnceFunc(func() {
		c.http.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { c.stop() })
}

func (c *cache) get(t *testing.T, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	resp, raw, err := c.try(t, path, header...)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return resp, raw
}

func (c *cache) try(t *testing.T, path string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.http.URL+path, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := c.http.Client().Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp, raw, err
}

// whole pulls all of an image as a client does, and returns the bytes that came.
func (c *cache) whole(t *testing.T, repository, tag string) int {
	t.Helper()
	resp, raw := c.get(t, "/v2/"+repository+"/manifests/"+tag)
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s %s", repository, resp.Status, raw)
	}
	m, err := parseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	n := len(raw)
	for _, d := range m.parts() {
		resp, raw := c.get(t, "/v2/"+repository+"/blobs/"+d.Digest)
		if resp.StatusCode != 200 || digestOf(raw) != d.Digest {
			t.Fatalf("%s: %s, %d bytes with %s", d.Digest, resp.Status, len(raw), digestOf(raw))
		}
		n += len(raw)
	}
	return n
}

// refusalOf reads an error as the distribution API has it.
func refusalOf(t *testing.T, resp *http.Response, raw []byte) string {
	t.Helper()
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(raw, &doc); err != nil || len(doc.Errors) != 1 || doc.Errors[0].Message == "" {
		t.Fatalf("%s %s: %v", resp.Status, raw, err)
	}
	return fmt.Sprintf("%d %s %s", resp.StatusCode, doc.Errors[0].Code, doc.Errors[0].Message)
}

func TestWhatWasFetchedIsServedWithoutTheRegistry(t *testing.T) {
	u := newUpstream(t)
	c := newCache(t, u, nil)
	u.push(t, "org/app:1", randomImage(t, 50_000, 2))
	first := c.whole(t, u.host+"/org/app", "1")
	u.CloseClientConnections()
	u.Close()
	c.now.Add(int64(time.Hour)) // so that the tag is asked for again
	if again := c.whole(t, u.host+"/org/app", "1"); again != first {
		t.Errorf("%d bytes; wanted %d", again, first)
	}
	c.stop()
	c.open(t, u, nil)
	if again := c.whole(t, u.host+"/org/app", "1"); again != first {
		t.Errorf("after a restart %d bytes; wanted %d", again, first)
	}
}

func TestATagThatMovesIsFollowedAndOneThatStaysIsNotFetchedAgain(t *testing.T) {
	u := newUpstream(t)
	c := newCache(t, u, nil)
	one, two := randomImage(t, 1000, 1), randomImage(t, 1000, 1)
	u.push(t, "app:x", one)
	digest := func() string {
		resp, _ := c.get(t, "/v1/images/"+u.host+"/app/manifests/x")
		return resp.Header.Get("Docker-Content-Digest")
	}
	want, err := one.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := digest(); got != want.String() {
			t.Errorf("%s; wanted %s", got, want)
		}
	}
	if n := u.count("GET /v2/app/manifests/x"); n != 1 {
		t.Errorf("asked %d times while the answer was fresh; wanted once", n)
	}
	c.now.Add(int64(time.Minute))
	digest()
	if n := u.count("GET /v2/app/manifests/x"); n != 1 {
		t.Errorf("fetched %d times though it had not moved; wanted once", n)
	}
	u.push(t, "app:x", two)
	c.now.Add(int64(time.Minute))
	if want, err = two.Digest(); err != nil || digest() != want.String() {
		t.Errorf("%s, %v; wanted %s", digest(), err, want)
	}
}

func TestManyWhoWantOneBlobCauseOneDownload(t *testing.T) {
	u := newUpstream(t)
	c := newCache(t, u, nil)
	img := randomImage(t, 3<<20, 1)
	u.push(t, "app:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	go_on := make(chan struct{})
	u.between(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			<-go_on
		}
		u.next.ServeHTTP(w, r)
	})
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			_, raw, err := c.try(t, "/v2/"+u.host+"/app/blobs/"+d.String())
			if err != nil || digestOf(raw) != d.String() {
				t.Errorf("%d bytes, %v", len(raw), err)
			}
		})
	}
	for limit := time.Now().Add(30 * time.Second); len(c.pulls) < 30 && time.Now().Before(limit); {
		time.Sleep(5 * time.Millisecond)
	}
	close(go_on)
	wg.Wait()
	if n := u.count("GET /v2/app/blobs/" + d.String()); n != 1 {
		t.Errorf("fetched %d times; wanted once", n)
	}
}

// TestABlobIsHandedOnWhileItIsFetched holds a download in the middle: the first half has to arrive by then.
func TestABlobIsHandedOnWhileItIsFetched(t *testing.T) {
	u := newUpstream(t)
	c := newCache(t, u, nil)
	content := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(content)
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	go_on := make(chan struct{})
	u.between(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			u.next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		_ = http.NewResponseController(w).Flush()
		<-go_on
		_, _ = w.Write(content[len(content)/2:])
	})
	resp, err := c.http.Client().Get(c.http.URL + "/v2/" + u.host + "/app/blobs/" + digest)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	half := make([]byte, len(content)/2-heldBack)
	if _, err := io.ReadFull(resp.Body, half); err != nil {
		t.Fatal(err)
	}
	close(go_on)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(append(half, rest...), content) {
		t.Errorf("%d bytes, %v", len(half)+len(rest), err)
	}
}

func TestRangesAreServedOfWhatIsHereAndOfWhatIsNot(t *testing.T) {
	u := newUpstream(t)
	c := newCache(t, u, nil)
	img := randomImage(t, 500_000, 1)
	u.push(t, "app:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	in, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	path := "/v2/" + u.host + "/app/blobs/" + d.String()
	for range 2 { // the first time it is being fetched
		resp, raw := c.get(t, path, "Range: bytes=123456-", `If-Range: "`+d.String()+`"`)
		if resp.StatusCode != 206 || !bytes.Equal(raw, content[123456:]) {
			t.Errorf("%s, %d bytes; wanted the last %d", resp.Status, len(raw), len(content)-123456)
		}
	}
	resp, raw := c.get(t, path, "Range: bytes=5-", `If-Range: "other"`)
	if resp.StatusCode != 200 || !bytes.Equal(raw, content) {
		t.Errorf("%s, %d bytes; wanted all, as it is not what was there before", resp.Status, len(raw))
	}
	if resp, _ := c.get(t, path, fmt.Sprintf("Range: bytes=%d-", len(content)+5)); resp.StatusCode != 416 {
		t.Errorf("%s; wanted 416", resp.Status)
	}
}

func TestADownloadThatBreaksOffGoesOnWhereItWas(t *testing.T) {
	u := newUpstream(t)
	c := newCache(t, u, nil)
	img := randomImage(t, 2<<20, 1)
	u.push(t, "app:1", img)
	var cuts atomic.Int32
	var fromStart atomic.Int32
	u.between(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet {
			if r.Header.Get("Range") == "" {
				fromStart.Add(1)
			}
			if cuts.Add(1) <= 3 {
				w = &cutter{w, 400_000}
			}
		}
		u.next.ServeHTTP(w, r)
	})
	c.whole(t, u.host+"/app", "1")
	if n := cuts.Load(); n < 4 || fromStart.Load() != 2 { // the layer and the config
		t.Errorf("%d requests, %d of them from the start; wanted the layer to go on", n, fromStart.Load())
	}
}

// cutter ends a connection after so many bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.ResponseWriter.Write(p)
	if c.left -= n; c.left <= 0 && err == nil {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		err = io.ErrClosedPipe
	}
	return n, err
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestWrongContentNeverArrivesWhole(t *testing.T) {
	u := newUpstream(t)
	c := newCache(t, u, nil)
	img := randomImage(t, 300_000, 1)
	u.push(t, "app:1", img)
	u.between(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			w = &spoiler{w}
		}
		u.next.ServeHTTP(w, r)
	})
	_, raw := c.get(t, "/v2/"+u.host+"/app/manifests/1")
	m, err := parseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.parts() {
		resp, raw, err := c.try(t, "/v2/"+u.host+"/app/blobs/"+d.Digest)
		if err == nil && resp.StatusCode == 200 {
			t.Errorf("%s: %d bytes arrived whole, with %s", d.Digest, len(raw), digestOf(raw))
		}
	}
	if left, err := filepath.Glob(filepath.Join(c.dir, "*", "*")); err != nil || len(left) != 1 {
		t.Errorf("%v, %v; wanted the manifest alone", left, err)
	}
	u.wrap.Store(nil)
	c.whole(t, u.host+"/app", "1")
	u.between(func(w http.ResponseWriter, r *http.Request) { u.next.ServeHTTP(&spoiler{w}, r) })
	d, err := randomImage(t, 10, 1).Digest()
	if err != nil {
		t.Fatal(err)
	}
	u.push(t, "other:1", randomImage(t, 10, 1))
	if resp, raw := c.get(t, "/v2/"+u.host+"/other/manifests/"+d.String()); resp.StatusCode == 200 {
		t.Errorf("%s: %s", resp.Status, raw)
	}
}

// spoiler turns a bit of everything.
type spoiler struct{ http.ResponseWriter }

func (s *spoiler) Write(p []byte) (int, error) {
	p = bytes.Clone(p)
	if len(p) > 0 {
		p[len(p)/2] ^= 1
	}
	return s.ResponseWriter.Write(p)
}

func TestWhatCannotBeHadIsToldApart(t *testing.T) {
	u := newUpstream(t)
	c := newCache(t, u, nil)
	u.push(t, "app:1", randomImage(t, 10, 1))
	for path, want := range map[string]string{
		"/v2/" + u.host + "/app/manifests/none":              "404 MANIFEST_UNKNOWN",
		"/v2/" + u.host + "/none/manifests/1":                "404 MANIFEST_UNKNOWN",
		"/v2/" + u.host + "/app/blobs/" + missing:            "404 MANIFEST_UNKNOWN",
		"/v2/" + u.host + "/app/manifests/" + missing:        "404 MANIFEST_UNKNOWN",
		"/v2/" + u.host + "/app/manifests/..":                "404 ",
		"/v2/" + u.host + "/app/blobs/sha256:12":             "400 DIGEST_INVALID",
		"/v2/" + u.host + "/App/manifests/1":                 "400 NAME_INVALID",
		"/v2/" + u.host + "/app/tags/list":                   "404 UNSUPPORTED",
		"/v2/app":                                            "404 UNSUPPORTED",
		"/v2/" + u.host + "/app/blobs/" + missing + "?as=xz": "400 UNSUPPORTED",
		"/v1/images/127.0.0.1:1/app/manifests/1":             "502 UNAVAILABLE",
	} {
		resp, raw := c.get(t, path)
		if resp.StatusCode == 404 && !bytes.HasPrefix(raw, []byte("{")) {
			continue // the path was cleaned: there is nothing
		}
		if got := refusalOf(t, resp, raw); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s; wanted %s", path, got, want)
		}
	}
	if resp, _ := c.get(t, "/v2/"); resp.StatusCode != 200 {
		t.Errorf("%s; wanted the sign that this API is here", resp.Status)
	}
	if resp, raw := c.get(t, "/v2/app/manifests/1?ns="+u.host); resp.StatusCode != 200 {
		t.Errorf("%s %s; wanted a mirror's request to work", resp.Status, raw)
	}
}

const missing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestARegistryWithoutTLSIsAskedOnlyWhenListed(t *testing.T) {
	u := newUpstream(t)
	u.push(t, "app:1", randomImage(t, 10, 1))
	before := u.count("GET /v2/")
	c := newCache(t, nil, nil)
	resp, raw := c.get(t, "/v2/"+u.host+"/app/manifests/1")
	if got := refusalOf(t, resp, raw); !strings.HasPrefix(got, "502") {
		t.Errorf("%s; wanted no image", got)
	}
	if n := u.count("GET /v2/"); n != before {
		t.Errorf("it was asked without TLS %d times", n-before)
	}
	only := newCache(t, nil, func(cfg *Config) { cfg.OnlyListed = true })
	resp, raw = only.get(t, "/v2/"+u.host+"/app/manifests/1")
	if got := refusalOf(t, resp, raw); !strings.HasPrefix(got, "403 DENIED registry "+u.host+" is not listed") {
		t.Errorf("%s", got)
	}
}

func TestMirrorsAreAskedFirstAndTheRegistryWhenTheyFail(t *testing.T) {
	u, mirror := newUpstream(t), newUpstream(t)
	u.push(t, "a:1", randomImage(t, 10, 1))
	u.push(t, "b:1", randomImage(t, 10, 1))
	mirror.push(t, "sub/a:1", randomImage(t, 10, 1))
	c := newCache(t, u, func(cfg *Config) { cfg.Upstreams[0].Mirrors = []string{mirror.URL + "/sub/"} })
	c.whole(t, u.host+"/a", "1")
	c.whole(t, u.host+"/b", "1")
	if n, m := u.count("GET /v2/a/manifests/1"), mirror.count("GET /v2/sub/a/manifests/1"); n != 0 || m != 1 {
		t.Errorf("a: registry %d, mirror %d; wanted the mirror alone", n, m)
	}
	if n := u.count("GET /v2/b/manifests/1"); n != 1 {
		t.Errorf("b: registry %d; wanted it, as the mirror has none", n)
	}
}

func TestCredentialsAreThoseOfTheRegistry(t *testing.T) {
	u := newUpstream(t)
	u.push(t, "app:1", randomImage(t, 10, 1))
	u.between(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "s:t" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		u.next.ServeHTTP(w, r)
	})
	file := filepath.Join(t.TempDir(), "config.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"auths":{"other":{"auth":"eA=="}}}`)
	c := newCache(t, u, func(cfg *Config) { cfg.CredentialsFile = file })
	resp, raw := c.get(t, "/v2/"+u.host+"/app/manifests/1")
	if got := refusalOf(t, resp, raw); !strings.HasPrefix(got, "403 DENIED") || !strings.Contains(got, "images.credentials_file") {
		t.Errorf("%s; wanted the cure", got)
	}
	write(`{"auths":{"https://` + u.host + `/v1/":{"auth":"bWU6czp0"}}}`)
	c.whole(t, u.host+"/app", "1")
	write(`{"auths":{"` + u.host + `":{"auth":"?"}}}`)
	if _, err := credentials(file, u.host); err == nil || !strings.Contains(err.Error(), "wanted base64") {
		t.Errorf("%v", err)
	}
	write(`nonsense with a secret`)
	if _, err := credentials(file, u.host); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v; wanted a fault that quotes nothing", err)
	}
}

func listed(t *testing.T, c *cache) map[string]api.Image {
	t.Helper()
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]api.Image{}
	for _, i := range list {
		out[i.Name] = i
	}
	return out
}

func TestTheStoreStaysWithinItsBoundAndKeepsWhatIsWanted(t *testing.T) {
	u := newUpstream(t)
	var wanted []string
	c := newCache(t, u, func(cfg *Config) {
		cfg.MaxBytes = 1_000_000
		cfg.Wanted = func() ([]string, error) { return wanted, nil }
	})
	for i := range 6 {
		u.push(t, fmt.Sprintf("app%d:1", i), randomImage(t, 250_000, 1))
	}
	wanted = []string{u.host + "/app0:1"}
	for i := range 6 {
		c.whole(t, fmt.Sprintf("%s/app%d", u.host, i), "1")
		c.now.Add(int64(time.Hour))
		if s := c.Stats(); s.Bytes > s.MaxBytes {
			t.Fatalf("%d bytes; wanted at most %d", s.Bytes, s.MaxBytes)
		}
	}
	there := listed(t, c)
	for i, want := range []bool{true, false, false, false, true, true} {
		if img, got := there[fmt.Sprintf("%s/app%d:1", u.host, i)]; got != want || got && (!img.Complete || img.Bytes < 250_000 || img.Wanted != (i == 0)) {
			t.Errorf("app%d: %v %+v; wanted it there: %v", i, got, img, want)
		}
	}
	var sum int64
	files, err := os.ReadDir(filepath.Join(c.dir, dirBlobs))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if s := c.Stats(); s.Bytes != sum {
		t.Errorf("it counts %d bytes; the disk has %d", s.Bytes, sum)
	}
	wanted = nil
	for _, i := range []int{0, 4, 5} {
		wanted = append(wanted, fmt.Sprintf("%s/app%d:1", u.host, i))
	}
	resp, raw := c.get(t, "/v2/"+u.host+"/app1/manifests/1")
	m, err := parseManifest(raw)
	if err != nil {
		t.Fatalf("%s %s: %v", resp.Status, raw, err)
	}
	resp, raw = c.get(t, "/v2/"+u.host+"/app1/blobs/"+m.Layers[0].Digest)
	if got := refusalOf(t, resp, raw); !strings.HasPrefix(got, "507") || !strings.Contains(got, "images.max_bytes") {
		t.Errorf("%s; wanted to be told that it is full", got)
	}
}
