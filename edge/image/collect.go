package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/skerry-edge/skerry/api"
)

// Collect removes images that are none of keep or inUse, digests as Pull returned them, and what only those were made of. What
// a pull under way needs stays. It returns what that gave back.
func (s *Store) Collect(ctx context.Context, keep, inUse []string) (freedBytes int64, err error) {
	wanted := map[string]bool{}
	for _, d := range slices.Concat(keep, inUse) {
		wanted[d] = true
	}
	roots, err := os.ReadDir(s.path(dirRoots))
	if err != nil {
		return 0, fmt.Errorf("collect images: %w", err)
	}
	blobs := map[string]bool{}
	var faults []error
	for _, e := range roots {
		digest := api.DigestPrefix + e.Name()
		if !wanted[digest] {
			n, gone, err := s.discard(digest)
			freedBytes += n
			faults = append(faults, err)
			if gone || ctx.Err() != nil {
				continue
			}
		}
		img, err := s.Root(digest)
		if err != nil {
			return freedBytes, errors.Join(append(faults, fmt.Errorf("collect images: %w", err))...) // what it needs is not known
		}
		for _, b := range img.Blobs {
			blobs[b] = true
		}
	}
	if ctx.Err() != nil {
		return freedBytes, context.Cause(ctx)
	}
	n, err := s.removeBlobs(func(digest string, _ fs.FileInfo) bool { return !blobs[digest] })
	return freedBytes + n, errors.Join(append(faults, err)...)
}

// discard removes an image unless a pull needs it. It is gone with the rename, for which even a full disk has room; its files
// follow.
func (s *Store) discard(digest string) (freed int64, gone bool, err error) {
	hex := strings.TrimPrefix(digest, api.DigestPrefix)
	to := s.path(dirTmp, "gone-"+hex)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins[digest] > 0 {
		return 0, false, nil
	}
	if err = removeAll(to); err == nil {
		err = os.Rename(s.path(dirRoots, hex), to)
	}
	if err != nil {
		return 0, false, fmt.Errorf("remove image %s: %w", digest, err)
	}
	freed = diskBytes(to)
	err = removeAll(to)
	before := len(s.refs)
	maps.DeleteFunc(s.refs, func(_, d string) bool { return d == digest })
	if len(s.refs) != before {
		err = errors.Join(err, s.writeRefs())
	}
	if err != nil {
		err = fmt.Errorf("remove image %s: %w", digest, err)
	}
	return freed, true, err
}

// removeBlobs removes the blobs, and parts of blobs, that are not wanted and that no pull needs.
func (s *Store) removeBlobs(spare func(digest string, info fs.FileInfo) bool) (freed int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var faults []error
	for _, dir := range []string{dirBlobs, dirTmp} {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			return freed, fmt.Errorf("remove blobs: %w", err)
		}
		for _, e := range entries {
			name := e.Name()
			if dir == dirTmp {
				var part bool
				if name, part = strings.CutSuffix(name, partSuffix); !part {
					continue
				}
			}
			digest := api.DigestPrefix + strings.TrimSuffix(name, ".gz")
			info, err := e.Info()
			if err != nil || s.pins[digest] > 0 || !spare(digest, info) {
				continue
			}
			if err := os.Remove(s.path(dir, e.Name())); err != nil {
				faults = append(faults, fmt.Errorf("remove blobs: %w", err))
				continue
			}
			freed += info.Size()
		}
	}
	return freed, errors.Join(faults...)
}

// dropSpare removes the layers of images that are unpacked: they only save a part of the next download.
func (s *Store) dropSpare() (freed int64, err error) {
	return s.removeBlobs(func(_ string, info fs.FileInfo) bool { return info.Size() > maxManifestBytes })
}

// diskBytes is what a tree takes on the disk.
func diskBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is an estimate for people
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
		return nil
	})
	return n
}
