// Package shelf serves the files of releases over HTTP: what a release server is, and a cluster agent for its devices.
package shelf

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/skerry-edge/skerry/agent/release"
)

// scripts are what is served besides releases and channels.
var scripts = []string{"install.sh", "uninstall.sh"}

// Handler serves the directory that make release writes: the scripts, channel/NAME and VERSION/FILE, with ranges, so that a download can
// be resumed. Everything else is 404: a listing, what is deeper, what is no regular file, and every other file at the top,
// such as a release key that somebody left there. A symbolic link is followed within the directory only.
func Handler(dir *os.Root) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "wanted GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		name, ok := served(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for who writes to it
		if err != nil {
			refuse(w, r, err)
			return
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil || !st.Mode().IsRegular() {
			http.NotFound(w, r)
			return
		}
		if strings.HasPrefix(name, release.ChannelDir+"/") {
			w.Header().Set("Cache-Control", "no-cache") // it moves
		}
		w.Header().Set("Content-Type", "application/octet-stream") // and nothing is guessed from what is in it
		http.ServeContent(w, r, "", st.ModTime(), f)
	})
}

func refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, fs.ErrPermission) {
		http.Error(w, "the server may not read that file", http.StatusForbidden)
		return
	}
	http.NotFound(w, r) // absent, or a link that leads out
}

// served returns the file that a path of a URL names.
func served(path string) (string, bool) {
	name := strings.TrimPrefix(path, "/")
	dir, file, deeper := strings.Cut(name, "/")
	if !deeper {
		return name, slices.Contains(scripts, name)
	}
	if release.ValidName(file) != nil {
		return "", false
	}
	if dir == release.ChannelDir {
		return name, true
	}
	v, err := release.ParseVersion(dir)
	return name, err == nil && v.String() == dir
}
