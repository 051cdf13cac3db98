package install

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// fetchers are what fetches, with the programs to take away for it and its shell.
var fetchers = map[string]struct {
	away  []string
	shell []string
}{"curl": {nil, shells[0]}, "wget": {[]string{"curl"}, shells[0]}, "busybox's wget": {[]string{"curl", "wget"}, shells[2]}}

// fetchWith leaves the machine one of them.
func (m *Machine) fetchWith(name string) {
	m.t.Helper()
	m.Remove(fetchers[name].away...)
	if name == "busybox's wget" {
		m.Write("/usr/bin/wget", "#!/bin/sh\nexec busybox wget \"$@\"\n", 0o755)
	}
}

func TestAServerThatIsBusyIsAskedAgain(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for name, f := range fetchers {
		t.Run(name, func(t *testing.T) {
			var refused atomic.Int32
			serve := d.Handler()
			m := NewMachine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, ".tar.gz") && refused.Add(1) <= 2 {
					http.Error(w, "busy", http.StatusServiceUnavailable)
					return
				}
				serve.ServeHTTP(w, r)
			}))
			m.fetchWith(name)
			out, code := m.install(d, f.shell, nil)
			wantRun(t, out, code, 0, "wrote /usr/local/bin/skerry-edge")
		})
	}
}

func TestAFileWithoutEndIsNotTaken(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for name, f := range fetchers {
		t.Run(name, func(t *testing.T) {
			serve := d.Handler()
			var sent atomic.Int64
			m := NewMachine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "/manifest.json") {
					serve.ServeHTTP(w, r)
					return
				}
				for chunk := make([]byte, 64<<10); ; {
					n, err := w.Write(chunk)
					if sent.Add(int64(n)); err != nil || sent.Load() > 1<<30 {
						return
					}
				}
			}))
			m.fetchWith(name)
			m.Write("/root/install.sh", d.Script, 0o644)
			before := m.Listing()
			out, code := m.install(d, f.shell, nil)
			wantRun(t, out, code, 1, "manifest.json has more than 16777216 bytes")
			m.Same(before)
		})
	}
}
