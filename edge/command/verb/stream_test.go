package verb

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// The streams of the wire are what the verbs want: a file goes out and comes back through two muxes.
func TestFilesTravelOverRealStreams(t *testing.T) {
	var node, site *mqtt.Mux
	node = mqtt.NewMux(func(_ context.Context, sid string, f *api.Frame) error { return reach(site, sid, f) })
	site = mqtt.NewMux(func(_ context.Context, sid string, f *api.Frame) error { return reach(node, sid, f) })
	streams := StreamsFunc(func(ctx context.Context, sid string) (Stream, error) { return node.Open(ctx, sid) })

	dir := t.TempDir()
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	if err := os.WriteFile(filepath.Join(dir, "a"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := must(NewDirs([]string{dir}))(t)
	type result struct {
		err error
		sum any
	}
	ended := make(chan result, 1)
	go func() {
		out, err := do(t.Context(), must(NewFileGet(dirs, streams, 0))(t), map[string]any{"path": filepath.Join(dir, "a"), "stream": "get"})
		ended <- result{err, out.Result["sha256"]}
	}()
	s := must(site.Open(t.Context(), "get"))(t)
	var got bytes.Buffer
	if _, err := got.ReadFrom(s.Reader(t.Context(), api.ChannelStdout)); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; r.err != nil || r.sum != digestOf(data) || !bytes.Equal(got.Bytes(), data) {
		t.Fatalf("%d bytes, %v", got.Len(), r)
	}
	if err := s.Close(t.Context(), nil); err != nil {
		t.Fatal(err)
	}

	go func() {
		out, err := do(t.Context(), must(NewFilePut(dirs, streams, 0))(t), map[string]any{"path": filepath.Join(dir, "b"), "stream": "put",
			"size": float64(len(data)), "sha256": digestOf(data)})
		ended <- result{err, out.Result["sha256"]}
	}()
	s = must(site.Open(t.Context(), "put"))(t)
	if _, err := s.Write(t.Context(), api.ChannelStdin, data); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; r.err != nil {
		t.Fatal(r.err)
	}
	if err := s.Close(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if back, err := os.ReadFile(filepath.Join(dir, "b")); err != nil || !bytes.Equal(back, data) {
		t.Errorf("%d bytes came back, error %v", len(back), err)
	}
}

// reach is the wire: what comes for a stream that has ended there is lost, and its sender is not told.
func reach(to *mqtt.Mux, sid string, f *api.Frame) error {
	if err := to.Deliver(sid, clone(f)); !errors.Is(err, mqtt.ErrNoStream) {
		return err
	}
	return nil
}

func clone(f *api.Frame) *api.Frame {
	c := *f
	c.Data = bytes.Clone(f.Data)
	return &c
}
