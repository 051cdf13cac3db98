package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// Only a mode that was typed replaces the one that a file of the node has.
func TestCpAsksForAModeOnlyWhenItWasGiven(t *testing.T) {
	source := filepath.Join(t.TempDir(), "app.conf")
	if err := os.WriteFile(source, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, args := range map[string][]string{"": nil, "0640": {"--mode", "0640"}} {
		routes := map[string]http.HandlerFunc{"/v1/nodes/n1/files": func(w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); q.Get("mode") != mode || q.Get("newMode") != "0600" {
				t.Errorf("asked for mode %q, newMode %q; wanted %q, 0600", q.Get("mode"), q.Get("newMode"), mode)
			}
			w.WriteHeader(http.StatusNoContent)
		}}
		if code, _, errs := run(t, routes, append([]string{"cp", source, "n1:/etc/app.conf"}, args...)...); code != ExitOK {
			t.Errorf("exit %d: %s", code, errs)
		}
	}
}
