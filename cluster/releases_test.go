package cluster

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
)

// archived is a tar with one file.
func archived(t *testing.T, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644})
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// problem is what a call is refused with.
func (r *rig) problem(method, path, body string) (int, api.Problem) {
	r.t.Helper()
	status, text := r.call(r.root(), method, path, body)
	var p api.Problem
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		r.t.Fatalf("%s %s: %d %s: %v", method, path, status, text, err)
	}
	return status, p
}

func TestWhatTheMirrorCannotTakeIsToldApart(t *testing.T) {
	r := newRig(t, nil)
	if code, p := r.problem("POST", "/v1/releases", archived(t, "manifest.json", "{}")); code != http.StatusBadRequest || p.Code != "release_invalid" {
		t.Errorf("no release: %d %+v", code, p)
	}
	if code, p := r.problem("DELETE", "/v1/releases/1.4.0", ""); code != http.StatusNotFound || p.Code != "release_unknown" {
		t.Errorf("one that is not there: %d %+v", code, p)
	}

	dir := filepath.Join(r.dir, "releases")
	if err := os.MkdirAll(filepath.Join(dir, "1.4.0"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "1.4.0", "manifest.json"), []byte(`{"format":"skerry-rele`), 0o600); err != nil {
		t.Fatal(err)
	}
	list := must[api.List[api.Release]](r, "GET", "/v1/releases", nil)
	if len(list.Items) != 1 || list.Items[0].Version != "1.4.0" || !strings.Contains(list.Items[0].Damaged, "manifest") {
		t.Errorf("a damaged one is listed as %+v", list.Items)
	}
	must[any](r, "DELETE", "/v1/releases/1.4.0", nil)
	if list := must[api.List[api.Release]](r, "GET", "/v1/releases", nil); len(list.Items) != 0 {
		t.Errorf("a damaged one that was removed is listed as %+v", list.Items)
	}

	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mount a small disk: %v; run as root", err)
		}
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		r.stop()
		eventually(t, "the small disk is unmounted", func() bool { return unix.Unmount(dir, 0) == nil })
	})
	code, p := r.problem("POST", "/v1/releases", archived(t, "skerry-edge_1.4.0_linux-amd64_lite.tar.gz", "its bytes"))
	if code != http.StatusInsufficientStorage || p.Code != "release_no_room" || !strings.Contains(p.Cure, "skerry release remove") {
		t.Errorf("a full disk: %d %+v", code, p)
	}
}
