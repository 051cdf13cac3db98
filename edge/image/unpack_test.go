package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/workload"
)

// entries writes an archive. A name that ends in / is a folder; what is behind -> a symbolic link, behind => a hard one; behind = content.
func entries(t testing.TB, list ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range list {
		var h *tar.Header
		var content string
		switch e := e.(type) {
		case *tar.Header:
			h = e
			content = strings.Repeat("x", int(h.Size))
		case string:
			h = &tar.Header{Name: e, Mode: 0o644, Typeflag: tar.TypeReg, ModTime: time.Unix(1e9, 0)}
			if name, target, ok := strings.Cut(e, "->"); ok {
				h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
			} else if name, target, ok := strings.Cut(e, "=>"); ok {
				h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeLink
			} else if name, text, ok := strings.Cut(e, "="); ok {
				h.Name, content, h.Size = name, text, int64(len(text))
			} else if strings.HasSuffix(e, "/") {
				h.Typeflag, h.Mode = tar.TypeDir, 0o755
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpacked applies layers and lists what is there then: folders with /, links with ->, files with = and their content.
func unpacked(t testing.TB, layers ...[]byte) (string, []string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u, err := newUnpacker(dir, 1<<20, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer u.root.Close()
	for _, l := range layers {
		if err := u.layer(bytes.NewReader(l)); err != nil {
			return dir, nil, err
		}
	}
	if err := u.finish(); err != nil {
		t.Fatal(err)
	}
	return dir, listing(t, dir), nil
}

func listing(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			rel += "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			rel += "->" + target
		case d.Type().IsRegular():
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel += "=" + string(raw)
		}
		out = append(out, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func TestLayersGoOneOverTheOther(t *testing.T) {
	for name, c := range map[string]struct {
		layers [][]byte
		want   string
	}{
		"parents that nobody names":   {[][]byte{entries(t, "a/b/c=1")}, "a/ a/b/ a/b/c=1"},
		"a later one wins":            {[][]byte{entries(t, "a=1", "b=1"), entries(t, "a=2")}, "a=2 b=1"},
		"a file for a folder":         {[][]byte{entries(t, "a/b=1"), entries(t, "a=2")}, "a=2"},
		"a folder for a file":         {[][]byte{entries(t, "a=1"), entries(t, "a/", "a/b=2")}, "a/ a/b=2"},
		"a folder keeps what is in":   {[][]byte{entries(t, "a/b=1"), entries(t, "a/")}, "a/ a/b=1"},
		"a file for a link":           {[][]byte{entries(t, "a=1", "l->a"), entries(t, "l=2")}, "a=1 l=2"},
		"a folder for a link":         {[][]byte{entries(t, "a/", "l->a"), entries(t, "l/", "l/x=1")}, "a/ l/ l/x=1"},
		"a whiteout":                  {[][]byte{entries(t, "a/b=1", "a/c=1"), entries(t, "a/.wh.b")}, "a/ a/c=1"},
		"a whiteout of a folder":      {[][]byte{entries(t, "a/b/c=1", "d=1"), entries(t, ".wh.a")}, "d=1"},
		"a whiteout of nothing there": {[][]byte{entries(t, "a=1"), entries(t, ".wh.b", "c/.wh.d")}, "a=1 c/"},
		"a whiteout of a link":        {[][]byte{entries(t, "a=1", "l->a"), entries(t, ".wh.l")}, "a=1"},
		"a whiteout after its heir":   {[][]byte{entries(t, "a/b=1", "a/c=1"), entries(t, "a/", "a/n=2", ".wh.a")}, "a/ a/n=2"},
		"opaque first":                {[][]byte{entries(t, "a/b=1", "a/c/d=1"), entries(t, "a/", "a/.wh..wh..opq", "a/n=2")}, "a/ a/n=2"},
		"opaque last":                 {[][]byte{entries(t, "a/b=1", "a/c/d=1"), entries(t, "a/", "a/n=2", "a/c/e=2", "a/.wh..wh..opq")}, "a/ a/c/ a/c/e=2 a/n=2"},
		"opaque root":                 {[][]byte{entries(t, "a=1", "b/c=1"), entries(t, "d=2", ".wh..wh..opq")}, "d=2"},
		"leavings of aufs":            {[][]byte{entries(t, ".wh..wh.aufs", ".wh..wh.plnk/", "a=1")}, "a=1"},
		"a hard link":                 {[][]byte{entries(t, "a/b=1", "c=>a/b", "d=>/a/b")}, "a/ a/b=1 c=1 d=1"},
		"a hard link over layers":     {[][]byte{entries(t, "a=1"), entries(t, "b=>a")}, "a=1 b=1"},
		"a hard link to itself":       {[][]byte{entries(t, "a=1", "a=>a")}, "a=1"},
		"a hard link to a link":       {[][]byte{entries(t, "a=1", "l->a", "m=>l")}, "a=1 l->a m->a"},
		"absolute links are inside":   {[][]byte{entries(t, "run/", "var/run->/run", "var/run/pid=1")}, "run/ run/pid=1 var/ var/run->/run"},
		"links upwards are inside":    {[][]byte{entries(t, "run/", "var/run->../../../../run", "var/run/pid=1")}, "run/ run/pid=1 var/ var/run->../../../../run"},
		"a link that leads nowhere":   {[][]byte{entries(t, "l->/new/dir", "l/f=1")}, "l->/new/dir new/ new/dir/ new/dir/f=1"},
		"names with dots":             {[][]byte{entries(t, "./a=1", "/b=1", "x/../c=1", "../../d=1")}, "a=1 b=1 c=1 d=1"},
		"the root itself":             {[][]byte{entries(t, "./", "a=1")}, "a=1"},
	} {
		_, got, err := unpacked(t, c.layers...)
		if text := strings.Join(got, " "); err != nil || text != c.want {
			t.Errorf("%s: %q, %v; wanted %q", name, text, err, c.want)
		}
	}
}

func TestNothingIsWrittenOutsideTheRoot(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	for name, layers := range map[string][][]byte{
		"dots":                    {entries(t, "../../../../../../../../../.."+outside+"=1")},
		"an absolute name":        {entries(t, outside+"=1")},
		"through a link":          {entries(t, "l->"+filepath.Dir(outside), "l/outside=1")},
		"through a link upwards":  {entries(t, "l->../../../../../../../.."+filepath.Dir(outside), "l/outside=1")},
		"through links on links":  {entries(t, "a->..", "b->a/..", "c->b/..", "c/outside=1")},
		"a file where a link was": {entries(t, "l->"+outside), entries(t, "l=1")},
		"hard links":              {entries(t, "etc->/etc"), entries(t, "h=>etc/passwd")},
		"hard links with dots":    {entries(t, "h=>../../../../../../../../etc/passwd")},
		"a whiteout":              {entries(t, "l->"+filepath.Dir(outside)), entries(t, "l/.wh.keep")},
		"an opaque folder":        {entries(t, "l->"+filepath.Dir(outside)), entries(t, "l/.wh..wh..opq")},
	} {
		keep := filepath.Join(filepath.Dir(outside), "keep")
		if err := os.WriteFile(keep, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir, _, err := unpacked(t, layers...)
		if err != nil && !errors.Is(err, workload.ErrBadImage) {
			t.Errorf("%s: %v; wanted it inside, or refused as a bad image", name, err)
		}
		if _, err := os.Lstat(outside); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: %s was written (%v)", name, outside, err)
		}
		if raw, err := os.ReadFile(keep); err != nil || string(raw) != "mine" {
			t.Errorf("%s: %q, %v; wanted what is outside untouched", name, raw, err)
		}
		if info, err := os.Stat(filepath.Join(dir, "h")); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Nlink > 1 && strings.HasPrefix(name, "hard") {
				t.Errorf("%s: a link to a file of the machine", name)
			}
		}
	}
}

func TestABadLayerIsRefusedByName(t *testing.T) {
	dev := func(kind byte) *tar.Header {
		return &tar.Header{Name: "dev/x", Typeflag: kind, Devmajor: 1, Devminor: 3, Mode: 0o666}
	}
	many := make([]any, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("f%d=", i)
	}
	for name, c := range map[string]struct {
		layer []byte
		says  string
	}{
		"a device":            {entries(t, dev(tar.TypeChar)), `"dev/x": a device`},
		"a disk":              {entries(t, dev(tar.TypeBlock)), "a device"},
		"a file in a file":    {entries(t, "a=1", "a/b=1"), `"a" is no folder`},
		"a link in a circle":  {entries(t, "a->b", "b->a", "a/c=1"), "too many symbolic links"},
		"a link to nothing":   {entries(t, "a=>b"), `a link to "b"`},
		"a link to a folder":  {entries(t, "b/", "a=>b"), `a link to "b"`},
		"too many files":      {entries(t, many...), "more than 1000 files"},
		"too many bytes":      {entries(t, &tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 2 << 20}), "more than 1048576 bytes"},
		"bytes in small ones": {entries(t, "a="+strings.Repeat("x", 600_000), "b="+strings.Repeat("x", 600_000)), "more than 1048576 bytes"},
		"the root as a file":  {entries(t, ".=1"), "root is no folder"},
		"a whiteout of dots":  {entries(t, "a/.wh..."), ""},
		"no archive":          {[]byte(strings.Repeat("no archive ", 100)), "cannot be read"},
		"half an archive":     {entries(t, "a="+strings.Repeat("x", 5000))[:2000], "cannot be read"},
	} {
		_, _, err := unpacked(t, c.layer)
		if !errors.Is(err, workload.ErrBadImage) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; wanted a bad image and %q", name, err, c.says)
		}
	}
}

func TestOwnersAndPermissionsAreKept(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: others can give nothing away")
	}
	caps := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	dir, _, err := unpacked(t, entries(t,
		&tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1770, Uid: 7, Gid: 8},
		&tar.Header{Name: "d/su", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 5, Gid: 6, Size: 3, ModTime: time.Unix(1e9, 0)},
		&tar.Header{Name: "d/sg", Typeflag: tar.TypeReg, Mode: 0o2711, Uid: 5, Gid: 6, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": caps}},
		&tar.Header{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "su", Uid: 9, Gid: 10},
		&tar.Header{Name: "d/p", Typeflag: tar.TypeFifo, Mode: 0o622, Uid: 11, Gid: 12}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"d": "dtrwxrwx--- 7 8", "d/su": "urwxr-xr-x 5 6", "d/sg": "grwx--x--x 5 6", "d/l": "Lrwxrwxrwx 9 10", "d/p": "prw--w--w- 11 12"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		st, _ := info.Sys().(*syscall.Stat_t)
		if got := fmt.Sprintf("%s %d %d", info.Mode(), st.Uid, st.Gid); got != want {
			t.Errorf("%s: %s; wanted %s", name, got, want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "d/su")); err != nil || !info.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("%v, %v; wanted the time of the archive", info.ModTime(), err)
	}
	buf := make([]byte, 64)
	if n, err := unix.Getxattr(filepath.Join(dir, "d/sg"), "security.capability", buf); err != nil && !errors.Is(err, unix.ENOTSUP) || err == nil && string(buf[:n]) != caps {
		t.Errorf("capabilities %x, %v", buf[:max(n, 0)], err)
	}
}

// FuzzLayer applies arbitrary bytes as a layer over one that has links out of the root: nothing outside changes, and what is wrong is
// the image's fault.
func FuzzLayer(f *testing.F) {
	f.Add(entries(f, "a/b=1", "l->/etc", "l/x=1", "h=>a/b", ".wh.a", "c/.wh..wh..opq"))
	f.Add(entries(f, "out/x=1", "up/y=1", ".wh.out"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		base := t.TempDir()
		outside := filepath.Join(base, "outside")
		if err := os.Mkdir(outside, 0o755); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(base, "root")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		u, err := newUnpacker(dir, 1<<20, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer u.root.Close()
		if err := u.layer(bytes.NewReader(entries(t, "d/f=1", "out->"+outside, "up->../outside"))); err != nil {
			t.Fatal(err)
		}
		_ = u.layer(bytes.NewReader(raw)) // whatever comes of it
		names, err := os.ReadDir(outside)
		if err != nil || len(names) > 0 {
			t.Fatalf("outside: %v, %v", names, err)
		}
		if names, err = os.ReadDir(base); err != nil || len(names) != 2 {
			t.Fatalf("beside: %v, %v", names, err)
		}
	})
}
