package verb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

// tree makes an allowed directory beside one that is not, with traps.
func tree(t *testing.T) (in, out string, dirs *Dirs) {
	t.Helper()
	base := t.TempDir()
	in, out = filepath.Join(base, "in"), filepath.Join(base, "out")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(in, "sub"), 0o755), os.MkdirAll(out, 0o755),
		os.WriteFile(filepath.Join(in, "sub", "a.txt"), []byte("content"), 0o640),
		os.WriteFile(filepath.Join(out, "secret"), []byte("secret"), 0o644),
		os.Symlink(filepath.Join(out, "secret"), filepath.Join(in, "link")),
		os.Symlink("../out/secret", filepath.Join(in, "relative")),
		os.Symlink(out, filepath.Join(in, "dir")),
		os.Symlink("sub/a.txt", filepath.Join(in, "inside")),
		syscall.Mkfifo(filepath.Join(in, "pipe"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return in, out, must(NewDirs([]string{in}))(t)
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestFileGetReadsInline(t *testing.T) {
	in, _, dirs := tree(t)
	f := must(NewFileGet(dirs, nil, 0))(t)
	for _, path := range []string{"sub/a.txt", "inside"} {
		out, err := do(t.Context(), f, map[string]any{"path": filepath.Join(in, path)})
		if err != nil {
			t.Fatal(err)
		}
		r := out.Result
		if r["data"] != base64.StdEncoding.EncodeToString([]byte("content")) || r["sha256"] != digestOf([]byte("content")) ||
			r["size"] != int64(7) || r["mode"] != "0640" {
			t.Errorf("%s: %v", path, r)
		}
	}
}

func TestFileVerbsStayInTheirDirectories(t *testing.T) {
	in, out, dirs := tree(t)
	get, put := must(NewFileGet(dirs, nil, 0))(t), must(NewFilePut(dirs, nil, 0))(t)
	for _, c := range []struct {
		path     string
		rejected bool // already by its name
	}{
		{filepath.Join(out, "secret"), true}, {in + "/../out/secret", true}, {in + "/./sub/a.txt", true}, {in + "//sub/a.txt", true},
		{"sub/a.txt", true}, {"", true}, {in, true}, {in + "/", true}, {in + "2/x", true}, {"/etc/shadow", true}, {in + "/a\x00b", true},
		{in + "/link", false}, {in + "/relative", false}, {in + "/dir/secret", false}, {in + "/pipe", false}, {in + "/sub", false},
	} {
		res, err := do(t.Context(), get, map[string]any{"path": c.path})
		if err == nil || errors.Is(err, command.ErrRejected) != c.rejected {
			t.Errorf("get %q: %v, error %v", c.path, res.Result, err)
		}
		_, err = do(t.Context(), put, map[string]any{"path": c.path, "data": "", "size": 0.0, "sha256": digestOf(nil)})
		if err == nil || errors.Is(err, command.ErrRejected) != c.rejected {
			t.Errorf("put %q: error %v", c.path, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(out, "secret")); err != nil || string(got) != "secret" {
		t.Errorf("the secret is %q, error %v", got, err)
	}
}

// While a get opens a file, somebody swaps its directory for a link to the outside, again and again.
func TestFileGetIsNotRacedOutOfItsDirectory(t *testing.T) {
	in, out, dirs := tree(t)
	if err := os.WriteFile(filepath.Join(out, "a.txt"), []byte("secret!"), 0o644); err != nil {
		t.Fatal(err)
	}
	get := must(NewFileGet(dirs, nil, 0))(t)
	ctx, cancel := context.WithCancel(t.Context())
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for ctx.Err() == nil {
			_ = os.Rename(filepath.Join(in, "sub"), filepath.Join(in, "aside"))
			_ = os.Symlink(out, filepath.Join(in, "sub"))
			_ = os.Remove(filepath.Join(in, "sub"))
			_ = os.Rename(filepath.Join(in, "aside"), filepath.Join(in, "sub"))
		}
	})
	ok, failed := 0, 0
	for i := 0; i < 3000 || ok == 0 || failed == 0; i++ { // until both have been met
		res, err := do(t.Context(), get, map[string]any{"path": filepath.Join(in, "sub", "a.txt")})
		switch {
		case err != nil:
			failed++
		case res.Result["sha256"] != digestOf([]byte("content")):
			t.Errorf("read %v", res.Result)
		default:
			ok++
		}
	}
	cancel()
	swapping.Wait()
}

func TestFileGetStreamsALargeFile(t *testing.T) {
	in, _, dirs := tree(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	path := filepath.Join(in, "large")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPipe()
	get := must(NewFileGet(dirs, p, int64(len(data))))(t)
	if _, err := do(t.Context(), get, map[string]any{"path": path}); err == nil || !strings.Contains(err.Error(), "without a stream") {
		t.Errorf("inline: %v", err)
	}
	out, err := do(t.Context(), get, map[string]any{"path": path, "stream": "s1"})
	if err != nil || out.Result["sha256"] != digestOf(data) || p.got(api.ChannelStdout) != string(data) || !p.ended[api.ChannelStdout] {
		t.Errorf("streamed %d bytes, result %v, error %v", len(p.got(api.ChannelStdout)), out.Result, err)
	}
	if err := os.WriteFile(path, append(data, 'x'), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), get, map[string]any{"path": path, "stream": "s1"}); err == nil || !strings.Contains(err.Error(), "wanted at most") {
		t.Errorf("beyond the limit: %v", err)
	}
}

func TestFilePutWritesWholeFiles(t *testing.T) {
	in, _, dirs := tree(t)
	path := filepath.Join(in, "sub", "a.txt")
	put := must(NewFilePut(dirs, nil, 0))(t)
	args := map[string]any{"path": path, "data": base64.StdEncoding.EncodeToString([]byte("new")), "size": 3.0, "sha256": digestOf([]byte("new")), "mode": "0755"}
	if _, err := do(t.Context(), put, args); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err != nil || statErr != nil || string(got) != "new" || info.Mode().Perm() != 0o755 {
		t.Errorf("wrote %q, mode %v, error %v", got, info.Mode(), err)
	}

	p := newPipe()
	data := bytes.Repeat([]byte("x"), 100_000)
	for chunk := range chunks(data, 15_000) {
		p.in <- chunk
	}
	put = must(NewFilePut(dirs, p, 0))(t)
	path = filepath.Join(in, "streamed")
	if _, err := do(t.Context(), put, map[string]any{"path": path, "stream": "s1", "size": 100_000.0, "sha256": digestOf(data)}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("streamed %d bytes, error %v", len(got), err)
	}
	if closed, why := p.end(); !closed || why != nil {
		t.Errorf("stream closed %v (%v)", closed, why)
	}
}

// A secret stays one, and its service its owner.
func TestFilePutKeepsModeAndOwnerOfWhatIsThere(t *testing.T) {
	in, _, dirs := tree(t)
	put := must(NewFilePut(dirs, nil, 0))(t)
	const nobody = 65534
	there := filepath.Join(in, "secret")
	if err := errors.Join(os.WriteFile(there, nil, 0o600), os.Chown(there, nobody, nobody)); err != nil {
		t.Skipf("needs root: %v", err)
	}
	for i, c := range []struct {
		path, mode, newMode string
		want                fs.FileMode
		owner               uint32
	}{
		{there, "", "0755", 0o600, nobody},
		{there, "", "", 0o600, nobody},
		{there, "0640", "", 0o640, nobody},
		{filepath.Join(in, "new"), "", "", 0o644, 0},
		{filepath.Join(in, "private"), "", "0600", 0o600, 0},
		{filepath.Join(in, "open"), "", "0777", 0o755, 0},
		{filepath.Join(in, "asked"), "0666", "0600", 0o666, 0},
	} {
		args := map[string]any{"path": c.path, "data": base64.StdEncoding.EncodeToString([]byte("new")), "size": 3.0, "sha256": digestOf([]byte("new"))}
		for name, mode := range map[string]string{"mode": c.mode, "newMode": c.newMode} {
			if mode != "" {
				args[name] = mode
			}
		}
		if _, err := do(t.Context(), put, args); err != nil {
			t.Fatal(err)
		}
		info := must(os.Stat(c.path))(t)
		if owner := info.Sys().(*syscall.Stat_t); info.Mode() != c.want || owner.Uid != c.owner || owner.Gid != c.owner {
			t.Errorf("%d: %s has mode %v, owner %d:%d; wanted %v, %d", i, c.path, info.Mode(), owner.Uid, owner.Gid, c.want, c.owner)
		}
	}
}

func TestFileVerbsTellWhatIsNoFileInWords(t *testing.T) {
	in, _, dirs := tree(t)
	for _, v := range []command.Verb{must(NewFileGet(dirs, nil, 0))(t), must(NewFilePut(dirs, nil, 0))(t)} {
		for _, name := range []string{"/sub", "/pipe"} {
			args := map[string]any{"path": in + name}
			if v.Spec().Name == "file.put" {
				args["data"], args["size"], args["sha256"] = "", 0.0, digestOf(nil)
			}
			if _, err := do(t.Context(), v, args); err == nil || !strings.Contains(err.Error(), name+": it is no regular file, but a directory, ") {
				t.Errorf("%s of %s: %v", v.Spec().Name, name, err)
			}
		}
	}
}

// names lists what is beneath dir.
func names(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		out = append(out, strings.TrimPrefix(path, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func TestFilePutLeavesNothingWhenItFails(t *testing.T) {
	in, _, dirs := tree(t)
	before := names(t, in)
	path := filepath.Join(in, "sub", "a.txt")
	for name, c := range map[string]struct {
		chunks []string
		args   map[string]any
		cancel bool
		wanted string
	}{
		"wrong digest":     {nil, map[string]any{"data": "bmV3", "size": 3.0, "sha256": digestOf([]byte("old"))}, false, "SHA-256"},
		"wrong size":       {nil, map[string]any{"data": "bmV3", "size": 4.0, "sha256": digestOf([]byte("new"))}, false, "has 3 bytes"},
		"not base64":       {nil, map[string]any{"data": "?", "size": 1.0, "sha256": digestOf(nil)}, false, "base64"},
		"short stream":     {[]string{"ab"}, map[string]any{"stream": "s1", "size": 3.0, "sha256": digestOf(nil)}, false, "ended after 2"},
		"cancelled":        {nil, map[string]any{"stream": "s1", "size": 3.0, "sha256": digestOf(nil)}, true, "canceled"},
		"both sources":     {nil, map[string]any{"stream": "s1", "data": "", "size": 0.0, "sha256": digestOf(nil)}, false, "one of them"},
		"no source":        {nil, map[string]any{"size": 0.0, "sha256": digestOf(nil)}, false, "one of them"},
		"larger than free": {nil, map[string]any{"stream": "s1", "size": float64(1 << 50), "sha256": digestOf(nil)}, false, "do not fit"},
		"odd mode":         {nil, map[string]any{"data": "", "size": 0.0, "sha256": digestOf(nil), "mode": "4755"}, false, "args.mode"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipe()
			for _, chunk := range c.chunks {
				p.in <- []byte(chunk)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.cancel {
				cancel()
			} else {
				close(p.in)
			}
			put := must(NewFilePut(dirs, p, 1<<52))(t)
			c.args["path"] = path
			if _, err := do(ctx, put, c.args); err == nil || !strings.Contains(err.Error(), c.wanted) {
				t.Errorf("error %v; wanted %q in it", err, c.wanted)
			}
			if after := names(t, in); after != before {
				t.Errorf("left %s", after)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != "content" {
				t.Errorf("the old file is %q, error %v", got, err)
			}
		})
	}
}

func TestFilePutOnAFullDiskLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p := newPipe()
	put := must(NewFilePut(must(NewDirs([]string{dir}))(t), p, 0))(t)
	data := bytes.Repeat([]byte("x"), 200<<10)
	ended := make(chan error, 1)
	go func() { // passes the preflight, then the disk fills up
		_, err := do(t.Context(), put, map[string]any{"path": filepath.Join(dir, "f"), "stream": "s1", "size": float64(len(data)), "sha256": digestOf(data)})
		ended <- err
	}()
	eventually(t, func() bool { return strings.Contains(names(t, dir), ".skerry-put-c1") })
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for chunk := range chunks(data, 15<<10) {
		p.in <- chunk
	}
	if err := <-ended; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v; wanted no space left", err)
	}
	if got := names(t, dir); got != " /filler" {
		t.Errorf("left %q", got)
	}
}

func TestFilePutCleansUpAfterAKill(t *testing.T) {
	in, _, dirs := tree(t)
	before := names(t, in)
	if err := os.WriteFile(filepath.Join(in, "sub", ".skerry-put-c7"), []byte("partial"), 0o600); err != nil {
		t.Fatal(err)
	}
	put := must(NewFilePut(dirs, nil, 0))(t)
	args := map[string]any{"path": filepath.Join(in, "sub", "new"), "stream": "s1", "size": 7.0, "sha256": digestOf(nil)}
	for range 2 {
		if err := put.Clean("c7", args); err != nil {
			t.Fatal(err)
		}
	}
	if after := names(t, in); after != before {
		t.Errorf("left %s", after)
	}
}

// chunks cuts data into pieces of n bytes.
func chunks(data []byte, n int) iter.Seq[[]byte] { return slices.Chunk(data, n) }
