// Package mirror keeps releases for the nodes of a cluster, which have no way out to anywhere else: a directory for each version, as a
// release server has it. What a node believes is the signature of a manifest, which it checks itself.
package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
)

// What a caller may want to tell apart.
var (
	ErrUnknown = errors.New("no such release")
	ErrInvalid = errors.New("not a release")
	ErrNoRoom  = errors.New("the disk has no room")
)

// Mirror is a directory of releases. Safe for concurrent use.
type Mirror struct {
	dir  string
	keys []release.Key

	one       sync.Mutex      // one change at a time
	changes   uint64          // how many there were
	receiving map[string]bool // names of directories that imports write to
	promised  int64           // bytes that these are about to write
}

// New keeps releases below dir, which is made when it is needed. With keys, only what one of them signed is taken in.
func New(dir string, keys []release.Key) *Mirror {
	return &Mirror{dir: dir, keys: keys, receiving: map[string]bool{}}
}

// List tells which releases are kept, the newest first.
func (m *Mirror) List() ([]api.Release, error) {
	list, err := os.ReadDir(m.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := []api.Release{}
	for _, e := range list {
		if _, err := release.ParseVersion(e.Name()); err != nil {
			continue
		}
		r, err := m.read(e.Name())
		if err != nil { // the others are good all the same
			r = api.Release{Version: e.Name(), Targets: []string{}, Damaged: err.Error()}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b api.Release) int {
		if release.Newer(a.Version, b.Version) == nil {
			return 1
		}
		return -1
	})
	return out, nil
}

// read describes a release.
func (m *Mirror) read(version string) (api.Release, error) {
	raw, err := os.ReadFile(filepath.Join(m.dir, version, release.ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return api.Release{}, fmt.Errorf("release %.80q: %w", version, ErrUnknown)
	}
	if err != nil {
		return api.Release{}, err
	}
	man, err := release.Decode(raw)
	if err != nil {
		return api.Release{}, fmt.Errorf("release %s: %w", version, err)
	}
	r := api.Release{Version: man.Version, Commit: man.Commit, Built: api.At(man.Built), Targets: []string{}}
	for _, f := range man.Files {
		info, err := os.Stat(filepath.Join(m.dir, version, f.Name))
		if err != nil {
			continue // was not imported
		}
		r.Files++
		r.Bytes += info.Size()
		if f.Kind == release.KindArchive && f.Program == "skerry-edge" {
			r.Targets = append(r.Targets, strings.Trim(f.Target+"/"+f.Variant, "/"))
		}
	}
	return r, nil
}

// Get describes a release that is kept.
func (m *Mirror) Get(version string) (api.Release, error) { return m.read(version) }

// Remove forgets a release. Nodes that have it keep it.
func (m *Mirror) Remove(version string) error {
	m.one.Lock()
	defer m.one.Unlock()
	if _, err := release.ParseVersion(version); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if _, err := os.Stat(filepath.Join(m.dir, version)); err != nil { // a damaged one can be removed
		return fmt.Errorf("release %.80q: %w", version, ErrUnknown)
	}
	m.changes++
	return os.RemoveAll(filepath.Join(m.dir, version))
}

// Serve answers GET and HEAD for one file of a release, ranges too. Who may ask is for the caller to decide.
func (m *Mirror) Serve(w http.ResponseWriter, r *http.Request, version, name string) {
	if _, err := release.ParseVersion(version); err != nil || release.ValidName(name) != nil {
		http.NotFound(w, r)
		return
	}
	f, err := os.Open(filepath.Join(m.dir, version, name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(&steady{w, http.NewResponseController(w)}, r, name, info.ModTime(), f)
}

// stalled is how long a reader may stand still.
const stalled = time.Minute

// steady gives each write its own deadline: the server's is for answers that take no time.
type steady struct {
	http.ResponseWriter
	rc *http.ResponseController
}

func (s *steady) Write(b []byte) (int, error) {
	_ = s.rc.SetWriteDeadline(time.Now().Add(stalled))
	return s.ResponseWriter.Write(b)
}
