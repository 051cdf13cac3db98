package update

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/edge/exchange"
)

// pathReleases is where the cluster agent serves releases: below it, a directory for each version.
const pathReleases = "v1/releases"

// Site is where releases come from.
type Site struct {
	// Endpoints are the URLs of the cluster agent, asked in turn until one answers.
	Endpoints func() []string
	// TLS is the client configuration for a host of the cluster agent, with the node's certificate.
	TLS func(host string) *tls.Config
	// Mirror is the client configuration for any other release server; nil: what the system trusts.
	Mirror func() *tls.Config
	// Patience bounds a silence; 0: a minute.
	Patience time.Duration
	// Pause is between two tries, and grows with each that brought nothing; 0: 2 s.
	Pause time.Duration
}

// place is one directory of a release.
type place struct {
	url string
	tls func(host string) *tls.Config
}

// places are those of a version: of mirror, when that is given, in the cluster agent otherwise. A mirror is not trusted, and
// never shown the node's certificate: what counts is the signature.
func (s *Site) places(mirror, version string) []place {
	if mirror != "" {
		trust := func(string) *tls.Config { return nil }
		if s.Mirror != nil {
			trust = func(string) *tls.Config { return s.Mirror() }
		}
		return []place{{strings.TrimSuffix(mirror, "/") + "/" + version, trust}}
	}
	var out []place
	for _, e := range s.Endpoints() {
		out = append(out, place{strings.TrimSuffix(e, "/") + "/" + pathReleases + "/" + version, s.TLS})
	}
	return out
}

// refusedError is an answer that is no file.
type refusedError struct {
	url, status string
	code        int
}

func (e *refusedError) Error() string { return fmt.Sprintf("%s: %s", e.url, e.status) }

// get asks for a file of a release, from byte from on. Read gets what comes, and has to start anew when start is 0.
func (s *Site) get(ctx context.Context, p place, name string, from int64, read func(start int64, in io.Reader) error) error {
	u, err := url.Parse(p.url + "/" + name)
	if err != nil {
		return err
	}
	patience := s.Patience
	if patience == 0 {
		patience = time.Minute
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(patience, func() { cancel(fmt.Errorf("no byte came for %s", patience)) })
	defer watch.Stop()
	req := &exchange.Request{URL: u, Accept: "*/*", TLS: p.tls(u.Hostname())}
	if from > 0 {
		req.Header = []string{fmt.Sprintf("Range: bytes=%d-", from)}
	}
	resp, err := req.Do(ctx)
	if err != nil {
		return fmt.Errorf("ask %s: %w", u.Redacted(), errors.Join(err, context.Cause(ctx)))
	}
	defer resp.Body.Close() //nolint:errcheck // all that counts was read
	in := &patient{resp.Body, watch, patience}
	switch {
	case resp.Code == 206 && strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(from, 10)+"-"):
		return read(from, in)
	case resp.Code == 200:
		return read(0, in)
	}
	return &refusedError{u.Redacted(), resp.Status, resp.Code}
}

// patient reads as long as something comes.
type patient struct {
	io.Reader
	watch    *time.Timer
	patience time.Duration
}

func (p *patient) Read(b []byte) (int, error) {
	p.watch.Reset(p.patience)
	return p.Reader.Read(b)
}

// small reads a file that fits into memory.
func (s *Site) small(ctx context.Context, p place, name string, limit int64) (raw []byte, err error) {
	err = s.get(ctx, p, name, 0, func(_ int64, in io.Reader) error {
		raw, err = io.ReadAll(io.LimitReader(in, limit+1))
		if err == nil && int64(len(raw)) > limit {
			err = fmt.Errorf("%s has more than %d bytes", name, limit)
		}
		return err
	})
	return raw, err
}

// manifest asks for the manifest of a version and checks its signature. It returns the place that had it. Where nobody answers it asks
// again: a cluster agent that is being restarted must not cost an update.
func (s *Site) manifest(ctx context.Context, w Want, keys []release.Key) (release.Manifest, place, error) {
	for idle := 1; ; idle++ {
		m, p, err := s.askManifest(ctx, w, keys)
		_, refused := errors.AsType[*refusedError](err)
		if err == nil || refused || !errors.Is(err, errFetch) || idle >= fruitless || !s.pause(ctx, idle) {
			return m, p, err
		}
	}
}

// errFetch marks a manifest that did not come, rather than one that is wrong.
var errFetch = errors.New("fetch manifest")

// pause waits before the next try; false: ctx ended.
func (s *Site) pause(ctx context.Context, idle int) bool {
	wait := s.Pause
	if wait == 0 {
		wait = pauseAfterCut
	}
	return agent.Wait(ctx, wait*time.Duration(idle))
}

func (s *Site) askManifest(ctx context.Context, w Want, keys []release.Key) (release.Manifest, place, error) {
	var failed []error
	for _, p := range s.places(w.URL, w.Version) {
		raw, err := s.small(ctx, p, release.ManifestName, release.MaxManifestBytes)
		var sig []byte
		if err == nil {
			sig, err = s.small(ctx, p, release.SignatureName, release.MaxSignatureBytes)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		m, err := release.Verify(raw, sig, keys)
		return m, p, err
	}
	if len(failed) == 0 {
		failed = append(failed, errors.New("no address of the cluster agent is known"))
	}
	return release.Manifest{}, place{}, fmt.Errorf("%w of %s: %w", errFetch, w.Version, errors.Join(failed...))
}

const (
	fruitless     = 6 // how often in a row nothing more may come
	pauseAfterCut = 2 * time.Second
)

// download makes path the file f, going on from what is there.
func (s *Site) download(ctx context.Context, p place, f release.File, path string, report func(string)) error {
	for idle := 0; ; {
		before := sizeOf(path)
		if before >= f.Size { // whole, or something else
			err := checkFile(f, path)
			if err == nil {
				return nil
			}
			if rerr := os.Remove(path); rerr != nil {
				return rerr
			}
			if idle++; idle >= 2 {
				return err
			}
			continue
		}
		err := s.more(ctx, p, f, path, report)
		refused, isRefused := errors.AsType[*refusedError](err)
		switch {
		case err == nil:
			continue
		case isRefused && refused.code == 416:
			err = os.Remove(path)
		case isRefused && refused.code != 429 && refused.code < 500, errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
			_ = os.Remove(path) // it would keep the disk full
			return err
		}
		if idle++; sizeOf(path) > before {
			idle = 0
		}
		if idle >= fruitless || !s.pause(ctx, idle) {
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// more appends what comes to path.
func (s *Site) more(ctx context.Context, p place, f release.File, path string, report func(string)) error {
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	have, err := out.Seek(0, io.SeekEnd)
	if err == nil {
		err = s.get(ctx, p, f.Name, have, func(start int64, in io.Reader) error {
			if err := out.Truncate(start); err != nil {
				return err
			}
			if _, err := out.Seek(start, io.SeekStart); err != nil {
				return err
			}
			done := start
			tell := func(n int) {
				done += int64(n)
				report(fmt.Sprintf("downloaded %s of %s", agent.Size(float64(done)), agent.Size(float64(f.Size))))
			}
			n, err := io.CopyBuffer(struct{ io.Writer }{out}, io.LimitReader(&counted{in, tell}, f.Size-start), make([]byte, copyBuffer))
			if err == nil && start+n < f.Size {
				err = fmt.Errorf("%s ended after %d of %d bytes", f.Name, start+n, f.Size)
			}
			return err
		})
	}
	return errors.Join(err, out.Sync(), out.Close())
}

// counted tells how much was read.
type counted struct {
	io.Reader
	tell func(n int)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.tell(n)
	return n, err
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func checkFile(f release.File, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	return f.Check(in)
}
