package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAReleaseServerServesUntilItIsStopped(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "install.sh"), []byte("script"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	app := &App{Out: w, Err: io.Discard, In: strings.NewReader(""), Env: func(string) string { return "" }, Now: time.Now}
	ended := make(chan int, 1)
	go func() { ended <- app.Main(ctx, []string{"release-server", dir, "--listen", "127.0.0.1:0"}) }()
	line := make([]byte, 500)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	_, url, ok := strings.Cut(strings.TrimSpace(string(line[:n])), " on ")
	if !ok {
		t.Fatalf("it said %q", line[:n])
	}
	resp, err := http.Get(url + "/install.sh")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "script" {
		t.Errorf("got %q, %v", body, err)
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("ended with %d", code)
	}
}

func TestAReleaseServerRefusesWhatItCannotServe(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{t.TempDir()}, 1, "is no directory of releases"},
		{[]string{"/nowhere"}, 1, "open releases"},
		{nil, 2, "wanted DIR"},
		{[]string{t.TempDir(), "--tls-cert", "x"}, 2, "wanted both or neither"},
	} {
		var out bytes.Buffer
		app := &App{Out: &out, Err: &out, In: strings.NewReader(""), Env: func(string) string { return "" }, Now: time.Now}
		if code := app.Main(t.Context(), append([]string{"release-server"}, c.args...)); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: got %d %q; wanted %d %q", c.args, code, out.String(), c.code, c.want)
		}
	}
}
