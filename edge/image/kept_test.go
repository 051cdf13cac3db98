package image

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/kept"
)

func TestImagesAreKeptInTheFormatThatWasRecorded(t *testing.T) {
	var full Image
	kept.Fill(&full)
	full.Dir = "" // not written
	digest := api.DigestPrefix + strings.Repeat("ab", 32)
	store := func() *Store {
		s := &Store{cfg: Settings{Log: slog.New(slog.DiscardHandler)}, dir: t.TempDir(), refs: map[string]string{}}
		for _, d := range []string{dirTmp, filepath.Join(dirRoots, strings.Repeat("ab", 32))} {
			if err := os.MkdirAll(s.path(d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	kept.Document(t, fileMeta, full, func(img Image) ([]byte, error) { return json.Marshal(&img) }, func(raw []byte) (Image, error) {
		s := store()
		if err := os.WriteFile(s.path(dirRoots, strings.Repeat("ab", 32), fileMeta), raw, 0o600); err != nil {
			return Image{}, err
		}
		img, err := s.Root(digest)
		img.Dir = ""
		return img, err
	})
	s := store()
	s.refs["registry.test/a:1"] = digest
	if err := s.writeRefs(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(s.path(fileRefs))
	if err != nil {
		t.Fatal(err)
	}
	kept.Same(t, fileRefs, raw)
	kept.Each(t, fileRefs, func(raw []byte, _ bool) {
		back := store()
		err := os.WriteFile(back.path(dirRoots, strings.Repeat("ab", 32), fileMeta), nil, 0o600) // only images that are there are known by name
		if err = errors.Join(err, os.WriteFile(back.path(fileRefs), raw, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := back.loadRefs(); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(back.refs, s.refs) {
			t.Errorf("%v; wanted %v", back.refs, s.refs)
		}
	})
}
