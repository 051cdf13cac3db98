package image

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// The paths under which the distribution API is served: the second is the standard's own.
const (
	PathImages = "/v1/images/"
	PathV2     = "/v2/"
)

// waitForTurn is how long a blob may wait until others are handed out.
const waitForTurn = 20 * time.Second

// ServeHTTP answers GET and HEAD of the distribution API below PathImages and PathV2. Who may ask is for the caller to decide.
func (c *Cache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	rest, ok := strings.CutPrefix(r.URL.Path, PathImages)
	if !ok {
		rest = strings.TrimPrefix(r.URL.Path, PathV2)
	}
	if rest == "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}") // the caller has gone; there is nobody to tell
		return
	}
	repository, kind, what, err := split(rest, r.URL.Query().Get("ns"))
	if err == nil {
		switch kind {
		case "manifests":
			err = c.serveManifest(w, r, repository, what)
		case "blobs":
			err = c.serveBlob(w, r, repository, what)
		}
	}
	if err != nil && r.Context().Err() == nil {
		WriteRefusal(w, err)
	}
}

// split takes a path apart: repository/manifests/what or repository/blobs/what. ns is the registry when a path has none, as
// containerd asks a mirror.
func split(rest, ns string) (repository, kind, what string, err error) {
	i := strings.LastIndexByte(rest, '/')
	if i > 0 {
		rest, what = rest[:i], rest[i+1:]
		i = strings.LastIndexByte(rest, '/')
	}
	if i <= 0 {
		return "", "", "", refuse(http.StatusNotFound, "UNSUPPORTED", "wanted NAME/manifests/REFERENCE or NAME/blobs/DIGEST")
	}
	repository, kind = rest[:i], rest[i+1:]
	if ns != "" {
		repository = ns + "/" + repository
	}
	name, err := api.ParseImageName(repository)
	switch {
	case err != nil || name.Tag != "latest" || name.Digest != "" || strings.HasSuffix(repository, ":latest"):
		return "", "", "", refuse(http.StatusBadRequest, "NAME_INVALID", "%.200q: wanted a repository such as docker.io/library/busybox", repository)
	case kind == "manifests" && !api.ValidTag(what) && !api.ValidDigest(what):
		return "", "", "", refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "%.150q: wanted a tag or sha256: with 64 hexadecimal digits", what)
	case kind == "blobs" && !api.ValidDigest(what):
		return "", "", "", refuse(http.StatusBadRequest, "DIGEST_INVALID", "%.150q: wanted sha256: with 64 hexadecimal digits", what)
	case kind != "manifests" && kind != "blobs":
		return "", "", "", refuse(http.StatusNotFound, "UNSUPPORTED", "%.40q: wanted manifests or blobs", kind)
	}
	return name.Name(), kind, what, nil
}

// WriteRefusal answers with an error in the form of the distribution API.
func WriteRefusal(w http.ResponseWriter, err error) {
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		r = &Refusal{http.StatusBadGateway, "UNAVAILABLE", err.Error()}
	}
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	raw, err := json.Marshal(map[string][]item{"errors": {{r.Code, clip(r.Message)}}})
	if err != nil { // two texts
		raw = nil
	}
	for _, k := range []string{"Content-Length", "Etag", "Docker-Content-Digest", "Last-Modified"} {
		w.Header().Del(k)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "10")
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(raw) // the caller has gone; there is nobody to tell
}

// clip bounds what a registry's words may take of an answer.
func clip(s string) string {
	const most = 2000
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

func (c *Cache) serveManifest(w http.ResponseWriter, r *http.Request, repository, what string) error {
	f, err := c.resolve(r.Context(), repository, what)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", f.mediaType)
	h.Set("Docker-Content-Digest", f.digest)
	h.Set("Etag", `"`+f.digest+`"`)
	h.Set("Content-Length", strconv.Itoa(len(f.raw)))
	if r.Method != http.MethodHead {
		n, _ := w.Write(f.raw) // the caller has gone; there is nobody to tell
		c.stats.servedBytes.Add(uint64(n))
	}
	return nil
}

// serveBlob hands out a blob, or what a zstd layer is as gzip (?as=gzip) for who knows no zstd.
func (c *Cache) serveBlob(w http.ResponseWriter, r *http.Request, repository, digest string) error {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // the server's own is for answers that take no time; each write below has one
	etag := `"` + digest + `"`
	open := func(ctx context.Context) (io.ReadSeekCloser, error) { return c.blob(ctx, repository, digest) }
	switch as := r.URL.Query().Get("as"); as {
	case "":
	case "gzip":
		etag = `"gzip:` + digest + `"`
		open = func(ctx context.Context) (io.ReadSeekCloser, error) { return c.repacked(ctx, repository, digest) }
	default:
		return refuse(http.StatusBadRequest, "UNSUPPORTED", "as=%.40q: wanted gzip, or nothing", as)
	}
	turn := time.NewTimer(waitForTurn)
	defer turn.Stop()
	select {
	case c.pulls <- struct{}{}:
		defer func() { <-c.pulls }()
	case <-turn.C:
		c.stats.refused.Add(1)
		return refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS", "%d blobs are being handed out; ask again", cap(c.pulls))
	case <-r.Context().Done():
		return nil
	}
	in, err := open(r.Context())
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Etag", etag)
	http.ServeContent(&paced{ResponseWriter: w, rc: rc, cache: c}, r, "", time.Time{}, in)
	return nil
}

// paced gives up a client that takes nothing for too long. It has no ReadFrom on purpose: a copy takes 32 KiB of memory,
// whatever the size of the blob.
type paced struct {
	http.ResponseWriter
	rc    *http.ResponseController
	cache *Cache
}

func (p *paced) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(p.cache.cfg.Stall)) // not every writer has one; a real connection does
	n, err := p.ResponseWriter.Write(b)
	p.cache.stats.servedBytes.Add(uint64(n))
	return n, err
}

// blob opens a blob of a repository, and begins to fetch it when it is not here.
func (c *Cache) blob(ctx context.Context, repository, digest string) (io.ReadSeekCloser, error) {
	if f, err := c.file(digest); f != nil || err != nil {
		c.stats.hits.Add(1)
		return f, err
	}
	c.stats.misses.Add(1)
	return c.follow(ctx, digest, c.download(repository, digest))
}

// file opens a blob that is here; nil when it is not.
func (c *Cache) file(key string) (io.ReadSeekCloser, error) {
	if _, here := c.size(key); !here {
		return nil, nil //nolint:nilnil // none is an answer
	}
	f, err := os.Open(c.blobPath(key))
	if errors.Is(err, os.ErrNotExist) { // somebody else's hand
		c.cfg.Log.Warn("blob is gone from this disk; it is fetched anew", agent.KeyReason, key)
		return nil, c.forget(key)
	}
	return f, err
}

// follow opens what a flight brings, once its size is known.
func (c *Cache) follow(ctx context.Context, key string, produce func(context.Context, *flight) error) (io.ReadSeekCloser, error) {
	f, err := c.join(key, produce)
	if err != nil {
		return nil, err
	}
	for {
		_, size, changed, err := f.state()
		if err != nil {
			return nil, err
		}
		if size >= 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if file, err := c.file(key); file != nil || err != nil { // it is there already
		return file, err
	}
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) { // it has moved this moment, or failed
		if _, _, _, err := f.state(); err != nil {
			return nil, err
		}
		file, err = os.Open(c.blobPath(key))
	}
	if err != nil {
		return nil, err
	}
	return &follower{ctx: ctx, flight: f, file: file}, nil
}

// follower reads a blob while it is being fetched.
type follower struct {
	ctx    context.Context
	flight *flight
	file   *os.File
	at     int64
}

func (f *follower) Read(p []byte) (int, error) {
	for {
		visible, size, changed, err := f.flight.state()
		if f.at < visible {
			n, err := f.file.ReadAt(p[:min(int64(len(p)), visible-f.at)], f.at)
			f.at += int64(n)
			return n, err
		}
		if err != nil {
			return 0, err
		}
		if f.at == visible && visible == size {
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return 0, context.Cause(f.ctx)
		}
	}
}

func (f *follower) Seek(offset int64, whence int) (int64, error) {
	_, size, _, _ := f.flight.state()
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	f.at = offset
	return offset, nil
}

func (f *follower) Close() error { return f.file.Close() }
