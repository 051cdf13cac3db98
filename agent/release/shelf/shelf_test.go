package shelf

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func newShelf(t *testing.T) (string, *httptest.Server) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dist")
	for _, d := range []string{"channel", "1.2.3", "other", "1.2.3/deeper.d"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"install.sh": "script", "channel/stable": "1.2.3\n", "1.2.3/file": "0123456789", "key.pem": "secret",
		"other/file": "secret", "1.2.3/.hidden": "secret", "1.2.3/deeper.d/file": "secret", "../outside": "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"1.2.3/leads-out": "../../outside", "1.2.3/absolute": filepath.Join(dir, "..", "outside"), "1.2.3/within": "file"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	srv := httptest.NewServer(Handler(root))
	t.Cleanup(srv.Close)
	return dir, srv
}

func get(t *testing.T, method, url, byteRange string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows nothing
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestOnlyFilesOfReleasesAreServed(t *testing.T) {
	_, srv := newShelf(t)
	for path, want := range map[string]string{"/install.sh": "script", "/channel/stable": "1.2.3\n", "/1.2.3/file": "0123456789", "/1.2.3/within": "0123456789"} {
		if code, body := get(t, http.MethodGet, srv.URL+path, ""); code != http.StatusOK || body != want {
			t.Errorf("%s: got %d %q; wanted %q", path, code, body, want)
		}
	}
	for _, path := range []string{"/", "/1.2.3", "/1.2.3/", "/channel/", "/key.pem", "/other/file", "/1.2.3/.hidden", "/1.2.3/deeper.d", "/1.2.3/deeper.d/file",
		"/../outside", "/1.2.3/../../outside", "/1.2.3/%2e%2e/%2e%2e/outside", "/1.2.3/..%2f..%2foutside", "/1.2.3/leads-out", "/1.2.3/absolute", "/1.2.3/none",
		"//etc/passwd", "/v1.2.3/file", "/uninstall.sh"} {
		if code, body := get(t, http.MethodGet, srv.URL+path, ""); code != http.StatusNotFound {
			t.Errorf("%s: got %d %q; wanted 404", path, code, body)
		}
	}
	if code, _ := get(t, http.MethodPut, srv.URL+"/install.sh", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("PUT: got %d", code)
	}
}

func TestADownloadIsResumed(t *testing.T) {
	_, srv := newShelf(t)
	if code, body := get(t, http.MethodGet, srv.URL+"/1.2.3/file", "bytes=4-"); code != http.StatusPartialContent || body != "456789" {
		t.Errorf("got %d %q; wanted the rest", code, body)
	}
	if code, _ := get(t, http.MethodGet, srv.URL+"/1.2.3/file", "bytes=10-"); code != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("beyond its end: got %d", code)
	}
}

// TestAPipeHoldsNobodyUp opens what has no end.
func TestAPipeHoldsNobodyUp(t *testing.T) {
	dir, srv := newShelf(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "1.2.3", "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _ := get(t, http.MethodGet, srv.URL+"/1.2.3/pipe", ""); code != http.StatusNotFound {
		t.Errorf("got %d", code)
	}
}
