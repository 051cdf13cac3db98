package verb

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// following is a follower of a file that has begun.
func following(t *testing.T, path string) *fileFollower {
	t.Helper()
	f := &fileFollower{path: path}
	t.Cleanup(f.close)
	more(t, f)
	return f
}

func more(t *testing.T, f follower) string {
	t.Helper()
	return string(must(f.more())(t))
}

func TestAFollowerLosesNothingAtARotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	create := func() *os.File {
		file := must(os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))(t)
		t.Cleanup(func() { file.Close() })
		return file
	}
	writer := create()
	f := following(t, path)
	var want, got strings.Builder
	write := func(file *os.File, text string) {
		must(file.WriteString(text))(t)
		want.WriteString(text)
	}
	for i := range 5 { // the writer goes on with the old file for a while, and what it writes is ordered
		write(writer, fmt.Sprintf("%d since the last look\n", i))
		if err := os.Rename(path, fmt.Sprint(path, i)); err != nil {
			t.Fatal(err)
		}
		got.WriteString(more(t, f))
		next := create()
		write(writer, fmt.Sprintf("%d after the rename\n", i))
		got.WriteString(more(t, f))
		write(writer, fmt.Sprintf("%d late\n", i))
		got.WriteString(more(t, f))
		write(next, fmt.Sprintf("%d new\n", i))
		got.WriteString(more(t, f))
		writer = next
	}
	if got.String() != want.String() {
		t.Errorf("followed %q; wanted %q", got.String(), want.String())
	}
}

func TestAFollowerNoticesATruncationThatTheLogHasOutgrown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	if err := os.WriteFile(path, []byte("old line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := following(t, path)
	if err := os.WriteFile(path, []byte("another line, and more than there was\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := more(t, f); !strings.Contains(got, "truncated") || !strings.HasSuffix(got, "]\nanother line, and more than there was\n") {
		t.Errorf("followed %q; wanted the whole new content after a mark", got)
	}
}

// A reader so slow that the log was rotated long ago is told how much it does not get.
func TestASlowFollowerOfAFileIsToldWhatWasSkipped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	if err := os.WriteFile(path, []byte("begin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := following(t, path)
	old := must(os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0))(t)
	defer old.Close()
	const over = 12345
	line := bytes.Repeat([]byte("x"), maxTailBytes)
	for range maxOldLooks {
		must(old.Write(line))(t)
	}
	must(old.Write(line[:over]))(t)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got string
	n := 0
	for got != "new\n" && n < 2*maxOldLooks*maxTailBytes {
		piece := more(t, f)
		n += len(piece)
		_, got, _ = strings.Cut(piece, fmt.Sprintf("\n[skerry: %d bytes of a rotated log were skipped]\n", over))
	}
	if got != "new\n" {
		t.Errorf("no mark in %d bytes", n)
	}
}

func TestASlowFollowerOfTheAgentIsToldWhatWasSkipped(t *testing.T) {
	ring := &Ring{}
	f := &ringFollower{ring: ring}
	must(ring.Write([]byte("first\n")))(t)
	if got := more(t, f); got != "first\n" {
		t.Fatalf("followed %q", got)
	}
	total := 0
	for i := range 9000 {
		total += must(fmt.Fprintf(ring, "line %d\n", i))(t)
	}
	got := more(t, f)
	m := regexp.MustCompile(`^\n\[skerry: (\d+) bytes of this log were skipped\]\nline \d+\n`).FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("followed %.80q; wanted a mark, then a whole line", got)
	}
	if rest := len(got) - len("\n[skerry:  bytes of this log were skipped]\n") - len(m[1]); m[1] != fmt.Sprint(total-rest) {
		t.Errorf("%s bytes skipped; wanted %d", m[1], total-rest)
	}
}
