package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
)

// Store keeps images below one directory, which is its own. Safe for concurrent use, by one process at a time.
type Store struct {
	cfg Settings
	dir string

	mu   sync.Mutex
	refs map[string]string        // reference → digest of the manifest for this machine
	busy map[string]chan struct{} // what somebody is making, closed when that ends
	// pins are the digests of blobs and roots that a pull under way needs. Whoever pins looks afterwards whether it is there;
	// whoever removes looks at the pins and moves away what it removes without letting mu go.
	pins map[string]int
}

// Image is an unpacked image. It is whole for as long as Collect is told to keep it.
type Image struct {
	Digest string `json:"digest"` // of its manifest
	Dir    string `json:"-"`      // its root; of a WebAssembly artifact the folder of its module
	Module string `json:"module,omitempty"`
	Wasm   bool   `json:"wasm,omitempty"` // a WebAssembly artifact, or an image for a platform such as wasip1/wasm
	Config Config `json:"config"`
	// Bytes is what Dir takes, Blobs what it was made of, by digest.
	Bytes int64    `json:"bytes"`
	Blobs []string `json:"blobs"`
}

const (
	dirBlobs = "blobs"
	dirRoots = "roots"
	dirTmp   = "tmp"
	fileRefs = "refs.json"
	fileMeta = "image.json"
	rootName = "fs"
	// moduleName is the file of a WebAssembly artifact in its Dir.
	moduleName = "module.wasm"
	// keepParts is how long a part of a blob that nobody asks for is kept.
	keepParts = 7 * 24 * time.Hour
)

// Open makes or opens the store, and clears away what a crash left behind.
func Open(cfg Settings) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, dir: filepath.Join(cfg.Dir, "images"), refs: map[string]string{}, busy: map[string]chan struct{}{}, pins: map[string]int{}}
	for _, d := range []string{dirBlobs, dirRoots, dirTmp} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return s, s.loadRefs()
}

// loadRefs reads what references stand for. A damaged file only means that they are resolved again.
func (s *Store) loadRefs() error {
	raw, err := os.ReadFile(s.path(fileRefs))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	if err := json.Unmarshal(raw, &s.refs); err != nil {
		s.cfg.Log.Warn("names of images are lost; they are asked for again", agent.KeyErr, err)
		s.refs = map[string]string{}
	}
	for ref, digest := range s.refs {
		if !api.ValidDigest(digest) || !s.have(digest) {
			delete(s.refs, ref)
		}
	}
	return nil
}

// sweep removes what was being made when the last process ended, and old parts.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path(dirTmp))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !e.IsDir() && strings.HasSuffix(e.Name(), partSuffix) && time.Since(info.ModTime()) < keepParts {
			continue
		}
		if err := removeAll(s.path(dirTmp, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeAll removes a tree in which an image may have folders without any permission, which keep nobody but those who are not
// root.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700) // what that does not help shows in the second removal
		}
		return nil
	})
	return os.RemoveAll(path)
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// have reports whether an image is unpacked.
func (s *Store) have(digest string) bool {
	_, err := os.Stat(s.path(dirRoots, strings.TrimPrefix(digest, api.DigestPrefix), fileMeta))
	return err == nil
}

// local is the digest of a reference that is there.
func (s *Store) local(r api.ImageName) (string, bool) {
	s.mu.Lock()
	digest, ok := s.refs[r.String()]
	s.mu.Unlock()
	if !ok && r.Digest != "" {
		digest = r.Digest
	}
	return digest, digest != "" && s.have(digest)
}

// Root tells of an image that Pull made present. The error wraps ErrNoImage when it is not.
func (s *Store) Root(digest string) (Image, error) {
	if !api.ValidDigest(digest) {
		return Image{}, fmt.Errorf("image %.80q: %w", digest, workload.ErrNoImage)
	}
	base := s.path(dirRoots, strings.TrimPrefix(digest, api.DigestPrefix))
	raw, err := os.ReadFile(filepath.Join(base, fileMeta))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("image %s is not on this node: %w", digest, workload.ErrNoImage)
	}
	if err != nil {
		return Image{}, fmt.Errorf("look at image: %w", err)
	}
	img := Image{Dir: filepath.Join(base, rootName)}
	if err := json.Unmarshal(raw, &img); err != nil {
		return Image{}, fmt.Errorf("look at image %s: %w", digest, err)
	}
	return img, nil
}

// remember notes what a reference stands for. It is on disk when remember returns: a node that boots alone needs it.
func (s *Store) remember(ref, digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs[ref] == digest {
		return nil
	}
	old, had := s.refs[ref]
	s.refs[ref] = digest
	err := s.writeRefs()
	if err != nil {
		s.refs[ref] = old
		if !had {
			delete(s.refs, ref)
		}
	}
	return err
}

// writeRefs writes refs.json. Caller holds mu.
func (s *Store) writeRefs() error {
	raw, err := json.Marshal(s.refs)
	if err == nil {
		err = s.writeFile(s.path(fileRefs), raw)
	}
	if err != nil {
		return fmt.Errorf("note names of images: %w", err)
	}
	return nil
}

// writeFile replaces path, whole or not at all.
func (s *Store) writeFile(path string, raw []byte) error {
	f, err := os.CreateTemp(s.path(dirTmp), "file-")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
