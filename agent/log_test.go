package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestTheJournalIsToldThePriorityOfEachLine(t *testing.T) {
	for format, wanted := range map[string][]string{
		"text": {"<7>level=DEBUG msg=a", `<6>level=INFO msg="b level=ERROR"`, "<4>level=WARN+1 msg=c", "<3>level=ERROR msg=d"},
		"json": {`<7>{"time":"`, `<6>{"time":"`, `<4>{"time":"`, `<3>{"time":"`},
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var st syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
		log, err := NewLogger(ForJournal(f), slog.LevelDebug, format)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("a")
		log.Info("b level=ERROR")
		log.Log(t.Context(), slog.LevelWarn+1, "c")
		log.Error("d")
		raw, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
		if !slices.EqualFunc(lines, wanted, strings.HasPrefix) {
			t.Errorf("%s: %q; wanted %q", format, lines, wanted)
		}
	}
}

func TestWhereTheJournalDoesNotReadALineIsAsItIs(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "1:2") // of the parent's stream
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := ForJournal(f); got != f {
		t.Errorf("%v; wanted the file itself", got)
	}
	var b bytes.Buffer
	if got := ForJournal(&b); got != &b {
		t.Errorf("%v; wanted the buffer itself", got)
	}
}
