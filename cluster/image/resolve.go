package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// found is a manifest that can be handed out.
type found struct {
	digest, mediaType string
	raw               []byte
}

// lookup is one under way at a registry, which all who ask the same wait for.
type lookup struct {
	done chan struct{}
	err  error
}

// resolve finds the manifest of a repository by tag or digest.
func (c *Cache) resolve(ctx context.Context, repository, what string) (*found, error) {
	if api.ValidDigest(what) {
		if f, err := c.kept(what); f != nil || err != nil {
			c.stats.hits.Add(1)
			return f, err
		}
		if err := c.once(ctx, repository+"@"+what, func(ctx context.Context) error {
			_, err := c.fetchManifest(ctx, repository, what)
			return err
		}); err != nil {
			return nil, err
		}
		return c.must(what)
	}
	key := repository + ":" + what
	c.mu.Lock()
	rec, known := c.refs[key]
	c.mu.Unlock()
	if known && (rec.Imported || c.cfg.Now().Sub(rec.Checked).Abs() < c.cfg.Fresh) {
		if f, err := c.kept(rec.Digest); f != nil || err != nil {
			c.stats.hits.Add(1)
			return f, err
		}
	}
	if err := c.once(ctx, key, func(ctx context.Context) error { return c.check(ctx, repository, what) }); err != nil {
		return nil, err
	}
	c.mu.Lock()
	rec, known = c.refs[key]
	c.mu.Unlock()
	if !known {
		return nil, unknownManifest(key)
	}
	return c.must(rec.Digest)
}

// kept is a manifest that is here; nil when it is not.
func (c *Cache) kept(digest string) (*found, error) {
	c.mu.Lock()
	rec := c.manifests[digest]
	var kind string
	if rec != nil {
		kind = rec.MediaType
	}
	c.mu.Unlock()
	if rec == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	raw, err := os.ReadFile(c.blobPath(digest))
	if err != nil || digestOf(raw) != digest { // the disk has lost it
		c.cfg.Log.Warn("manifest is damaged on this disk; it is fetched anew", agent.KeyReason, digest, agent.KeyErr, err)
		return nil, c.forget(digest)
	}
	c.touch(digest)
	return &found{digest, kind, raw}, nil
}

func (c *Cache) must(digest string) (*found, error) {
	f, err := c.kept(digest)
	if f == nil && err == nil {
		err = refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "manifest %s was evicted meanwhile; ask again", digest)
	}
	return f, err
}

// once has one of those who ask for the same do it, in a life of its own, and the others wait.
func (c *Cache) once(ctx context.Context, key string, do func(ctx context.Context) error) error {
	c.mu.Lock()
	l := c.asking[key]
	if l == nil {
		if c.life.Err() != nil {
			c.mu.Unlock()
			return errStopping
		}
		l = &lookup{done: make(chan struct{})}
		c.asking[key] = l
		c.work.Add(1)
		go func() { // joined by Run
			defer c.work.Done()
			ctx, cancel := context.WithTimeout(c.life, c.cfg.Stall)
			defer cancel()
			l.err = do(ctx)
			c.mu.Lock()
			delete(c.asking, key)
			c.mu.Unlock()
			close(l.done)
		}()
	}
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// check asks a registry what a tag stands for, and has the manifest here. When it cannot be asked, what the tag stood for last
// goes on: that is what makes a site independent of its uplink.
func (c *Cache) check(ctx context.Context, repository, tag string) error {
	key := repository + ":" + tag
	c.mu.Lock()
	rec, known := c.refs[key]
	known = known && c.manifests[rec.Digest] != nil
	c.mu.Unlock()
	digest, err := "", error(nil)
	if known { // a question without an answer's body does not count against anybody's quota
		if digest, err = c.remoteDigest(ctx, repository, tag); err == nil && digest == rec.Digest {
			return c.setRef(key, refRecord{Digest: digest, Checked: c.cfg.Now()})
		}
	}
	if err == nil {
		digest, err = c.fetchManifest(ctx, repository, tag)
	}
	if err == nil {
		return c.setRef(key, refRecord{Digest: digest, Checked: c.cfg.Now()})
	}
	if r, ok := errors.AsType[*Refusal](err); known && (!ok || r.Status != http.StatusNotFound) {
		c.cfg.Log.Warn("registry not asked; what the tag stood for last is served", agent.KeyReason, key, agent.KeyErr, err)
		return c.setRef(key, refRecord{Digest: rec.Digest, Checked: c.cfg.Now()})
	}
	return err
}

// remoteDigest asks for what a tag stands for; empty when the registry does not say.
func (c *Cache) remoteDigest(ctx context.Context, repository, tag string) (string, error) {
	resp, err := c.remote.get(ctx, http.MethodHead, repository, "manifests/"+tag, acceptManifests())
	if err != nil {
		return "", err
	}
	return resp.Header.Get("Docker-Content-Digest"), resp.Body.Close()
}

func acceptManifests() http.Header {
	return http.Header{"Accept": {strings.Join(manifestTypes, ", ")}}
}

// fetchManifest brings a manifest from its registry into the store.
func (c *Cache) fetchManifest(ctx context.Context, repository, what string) (digest string, err error) {
	c.stats.misses.Add(1)
	resp, err := c.remote.get(ctx, http.MethodGet, repository, "manifests/"+what, acceptManifests())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifestBytes+1))
	if err != nil {
		return "", fmt.Errorf("read manifest: %w", err)
	}
	if len(raw) > maxManifestBytes {
		return "", refuse(http.StatusBadGateway, "MANIFEST_INVALID", "manifest of %s has more than %d bytes", repository, maxManifestBytes)
	}
	digest = digestOf(raw)
	if api.ValidDigest(what) && digest != what {
		return "", refuse(http.StatusBadGateway, "DIGEST_INVALID", "the registry's content of %s has %s", what, digest)
	}
	m, err := parseManifest(raw)
	if err != nil {
		return "", refuse(http.StatusBadGateway, "MANIFEST_INVALID", "%s: %v", repository, err)
	}
	return digest, c.putManifest(repository, m.kind(resp.Header.Get("Content-Type")), raw)
}

// putManifest stores a manifest with its record.
func (c *Cache) putManifest(repository, mediaType string, raw []byte) error {
	digest := digestOf(raw)
	if err := c.reserve(int64(len(raw))); err != nil {
		return err
	}
	err := c.writeBlob(digest, raw)
	c.mu.Lock()
	c.bytes -= int64(len(raw)) // as reserved; what was written counts by itself
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	return c.setManifest(digest, manifestRecord{MediaType: mediaType, Name: repository, Used: c.cfg.Now()})
}
