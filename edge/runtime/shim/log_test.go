package shim

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testLog(t *testing.T, limit int64) (*logFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "deep", "log")
	l, err := openLog(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	l.now = func() time.Time { return time.Unix(0, 5) }
	t.Cleanup(func() { // fuzzing opens more than the collector can keep up with
		if err := errors.Join(l.file.Close(), l.dir.Close()); err != nil {
			t.Error(err)
		}
	})
	return l, path
}

func text(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

const stamp = "1970-01-01T00:00:00.000000005Z "

func TestLinesOfTwoStreamsDoNotMix(t *testing.T) {
	l, path := testLog(t, 0)
	l.write("stdout", []byte("one "))
	l.write("stderr", []byte("two\nthr"))
	l.write("stdout", []byte("line\n\n"))
	l.write("stderr", []byte("ee"))
	l.end("stdout")
	l.end("stderr")
	want := stamp + "stderr F two\n" + stamp + "stdout F one line\n" + stamp + "stdout F \n" + stamp + "stderr P three\n"
	if got := text(t, path); got != want {
		t.Errorf("got %q; wanted %q", got, want)
	}
}

func TestALogNeverGrowsBeyondItsBound(t *testing.T) {
	const limit = 64 << 10
	l, path := testLog(t, limit)
	for i := range 500 {
		l.write("stdout", []byte(strings.Repeat("x", i*7%2000)+"\n"))
		for _, name := range []string{path, path + ".1"} {
			if info, err := os.Stat(name); err == nil && info.Size() > limit {
				t.Fatalf("%s has %d bytes after %d lines", name, info.Size(), i)
			}
		}
	}
	if _, err := os.Stat(path + ".1"); err != nil {
		t.Error(err)
	}
	if lost := l.sync(); lost != 0 {
		t.Errorf("%d bytes were lost", lost)
	}
}

func TestWhatAFullDiskTakesIsCountedAndTold(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("wanted root, for a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32k"); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	l, err := openLog(filepath.Join(dir, "log"), 0)
	if err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 20<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		l.write("stdout", []byte(strings.Repeat("x", 999)+"\n"))
	}
	lost := l.sync()
	if lost == 0 {
		t.Fatal("nothing was lost on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	l.write("stdout", []byte("again\n"))
	got := text(t, filepath.Join(dir, "log"))
	if !strings.Contains(got, " stdout F again\n") || !strings.Contains(got, "bytes of log could not be written\n") {
		t.Errorf("the log ends %q", got[max(0, len(got)-200):])
	}
	for line := range strings.Lines(got) {
		if !strings.HasSuffix(line, "\n") || strings.Count(line, " stdout F ")+strings.Count(line, " stderr F ") != 1 {
			t.Errorf("a line is broken: %.80q", line)
		}
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte("a\nb"), uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, step uint8) {
		l, path := testLog(t, 1<<40)
		for rest := raw; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			l.write("stdout", rest[:n])
			rest = rest[n:]
		}
		l.end("stdout")
		var got strings.Builder
		for line := range strings.Lines(text(t, path)) {
			entry, ok := strings.CutPrefix(line, stamp+"stdout ")
			if !ok || len(entry) < 3 {
				t.Fatalf("line %q", line)
			}
			got.WriteString(strings.TrimSuffix(entry[2:], "\n"))
			if entry[0] == 'F' {
				got.WriteByte('\n')
			}
		}
		if got.String() != string(raw) {
			t.Fatalf("got %q; wanted %q", got.String(), raw)
		}
	})
}
