package agent

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

type takes func([]byte) (int, error)

func (t takes) Write(p []byte) (int, error) { return t(p) }

// drained copies from a pipe that stays open after the end of who printed, until the copy ends by itself.
func drained(t *testing.T, w io.Writer, prints func(w *os.File)) error {
	t.Helper()
	r, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer theirs.Close()
	ended := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- Drain(w, r, ended, PipeBytes) }()
	prints(theirs)
	close(ended)
	if err := Wake(r); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("a pipe that somebody holds open is waited for")
		return nil
	}
}

func TestWhatAProgramPrintedBeforeItsEndComesWhole(t *testing.T) {
	want := bytes.Repeat([]byte("x"), 60<<10)
	var got bytes.Buffer
	slow := takes(func(p []byte) (int, error) {
		time.Sleep(Linger / 2) // in all, longer than is lingered
		return got.Write(p)
	})
	if err := drained(t, slow, func(w *os.File) {
		if _, err := w.Write(want); err != nil {
			t.Error(err)
		}
	}); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes of %d, %v", got.Len(), len(want), err)
	}
}

func TestWhatAProgramLeftBehindMayNotPrintForEver(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	var got int
	if err := drained(t, takes(func(p []byte) (int, error) { got += len(p); return len(p), nil }), func(w *os.File) {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := w.Write(make([]byte, 4<<10)); err != nil {
					return
				}
			}
		}()
	}); err != nil || got == 0 {
		t.Errorf("%d bytes, %v", got, err)
	}
}

func TestWhoTakesNoMoreIsTold(t *testing.T) {
	no := errors.New("no")
	err := drained(t, takes(func([]byte) (int, error) { return 0, no }), func(w *os.File) {
		if _, err := w.Write([]byte("x")); err != nil {
			t.Error(err)
		}
	})
	if !errors.Is(err, no) {
		t.Errorf("%v; wanted what the writer said", err)
	}
}

// held is a pipe that somebody else holds open.
type held struct{ bytes.Reader }

func (*held) SetReadDeadline(time.Time) error { return nil }

// TestAPipeThatIsFullBehindWhatIsWrittenIsRead: the program ends while a piece of its output waits for credit.
func TestAPipeThatIsFullBehindWhatIsWrittenIsRead(t *testing.T) {
	all, ended, got := make([]byte, api.MaxFrameData+PipeBytes), make(chan struct{}), 0
	err := Drain(takes(func(p []byte) (int, error) {
		if got == 0 {
			close(ended)
		}
		got += len(p)
		return len(p), nil
	}), &held{*bytes.NewReader(all)}, ended, PipeBytes)
	if got != len(all) || err != nil {
		t.Errorf("%d of %d bytes, %v", got, len(all), err)
	}
}
