package workload

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// defaultMessage is where a container leaves its termination message unless it says otherwise.
const defaultMessage = "/dev/termination-log"

// maker makes what a runtime needs of a container.
type maker struct {
	places   places
	node     Node
	logBytes int64
	unseal   func(w *api.Workload) (*api.Secrets, error) // of one that has something sealed
	laying   sync.Mutex                                  // containers share volumes
}

// run is one run of a container.
type run struct {
	want  *api.Workload
	spec  *api.Container
	n     int
	image string // digest
}

// depth is how many folders a path goes down.
func depth(p string) int { return strings.Count(path.Clean("/"+p), "/") }

// make lays the volumes and resolves everything of one run.
func (m *maker) make(r run) (Container, error) {
	secrets, err := m.open(r.want)
	if err != nil {
		return Container{}, err
	}
	w, c := r.want, r.spec
	values := environment(c.Env, secrets.Env[c.Name])
	out := Container{ID: ContainerID(w.Name, c.Name, r.n), Workload: w.Name, Name: c.Name, Image: r.image, Command: expandAll(c.Command, values),
		Args: expandAll(c.Args, values), Dir: c.Dir, Limits: c.Limits, Requests: c.Requests, Hostname: w.Hostname, TTY: c.TTY, Stdin: c.Stdin,
		Log: m.places.logFile(w.Name, c.Name, r.n), LogBytes: m.logBytes}
	if c.Security != nil {
		out.Security = *c.Security
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out.Env = append(out.Env, name+"="+values[name])
	}
	for _, mount := range c.Mounts {
		i := slices.IndexFunc(w.Volumes, func(v api.Volume) bool { return v.Name == mount.Volume })
		if i < 0 {
			return out, fmt.Errorf("mount %s: no volume has the name %s", mount.Path, mount.Volume)
		}
		made, err := m.mount(w, &w.Volumes[i], mount, secrets.Files[mount.Volume])
		if err != nil {
			return out, fmt.Errorf("volume %s: %w", mount.Volume, err)
		}
		out.Mounts = append(out.Mounts, made)
	}
	message, err := m.places.layMessage(w.Name, c.Name, r.n)
	if err != nil {
		return out, fmt.Errorf("termination message: %w", err)
	}
	target := c.Message
	if target == "" {
		target = defaultMessage
	}
	out.Mounts = append(out.Mounts, Mount{Source: message, Target: target})
	agent.Order(out.Mounts, func(a, b Mount) int { return cmp.Compare(depth(a.Target), depth(b.Target)) }) // one would hide what is below it
	return out, os.MkdirAll(filepath.Dir(out.Log), 0o700)
}

// open returns what is sealed in a workload.
func (m *maker) open(w *api.Workload) (api.Secrets, error) {
	if w.Sealed == nil {
		return api.Secrets{}, nil
	}
	opened, err := m.unseal(w)
	if err != nil {
		return api.Secrets{}, err
	}
	return *opened, nil
}

// mount lays a volume and finds what of it is to be shown.
func (m *maker) mount(w *api.Workload, v *api.Volume, at api.Mount, sealed []api.File) (Mount, error) {
	out := Mount{Target: at.Path, ReadOnly: at.ReadOnly}
	dir := m.places.volumeDir(w.Name, v)
	switch {
	case v.Host != nil:
		resolved, err := m.hostPath(v.Host)
		if err != nil {
			return out, err
		}
		dir = resolved
	case v.Files != nil:
		out.ReadOnly = true
		if err := m.files(dir, v, sealed); err != nil {
			return out, err
		}
	default:
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return out, err
		}
		if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask: any user of a container may write there, as in a pod
			return out, err
		}
	}
	source, err := within(dir, at.SubPath)
	out.Source = source
	if source != dir && v.Files == nil {
		out.Within = dir // a program of the pod may have put a link there since; into files it cannot
	}
	return out, err
}

// within is the place of sub below dir, which is made when it is not there. A link that leads out of dir is not followed.
func within(dir, sub string) (string, error) {
	if sub == "" || sub == "." {
		return dir, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	sub = filepath.Clean(sub)
	if _, err := root.Stat(sub); errors.Is(err, fs.ErrNotExist) {
		if err := root.MkdirAll(sub, 0o777); err != nil {
			return "", fmt.Errorf("subPath %.80q: %w", sub, err)
		}
	} else if err != nil {
		return "", fmt.Errorf("subPath %.80q: %w", sub, err)
	}
	path, err := filepath.EvalSymlinks(filepath.Join(dir, sub))
	if err != nil {
		return "", fmt.Errorf("subPath %.80q: %w", sub, err)
	}
	base, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	if !allowed(path, []string{base}) {
		return "", fmt.Errorf("subPath %.80q leads out of its volume", sub)
	}
	return path, nil
}

// hostPath makes what the type of a host volume asks for, and returns where it really is: links lead nowhere that the node
// does not give.
func (m *maker) hostPath(h *api.HostVolume) (string, error) {
	path := filepath.Clean(h.Path)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		parent, err := m.real(filepath.Dir(path), h.Type == "DirectoryOrCreate") // of a file it has to be there
		if err != nil {
			return "", err
		}
		path = filepath.Join(parent, filepath.Base(path))
		switch h.Type {
		case "DirectoryOrCreate":
			err = os.Mkdir(path, 0o755)
		case "FileOrCreate":
			var f *os.File
			if f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o644); err == nil {
				err = f.Close()
			}
		default:
			err = fmt.Errorf("%s is not there", path)
		}
		if err != nil {
			return "", err
		}
	}
	path, err := m.real(path, false)
	if err != nil {
		return "", err
	}
	return path, isA(path, h.Type)
}

// real follows links, and makes folders that are not there if so wanted.
func (m *maker) real(path string, create bool) (string, error) {
	if create {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			parent, err := m.real(filepath.Dir(path), true)
			if err != nil {
				return "", err
			}
			path = filepath.Join(parent, filepath.Base(path))
			if err := os.Mkdir(path, 0o755); err != nil {
				return "", err
			}
		}
	}
	found, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	for _, given := range m.node.HostPaths {
		if root, err := filepath.EvalSymlinks(given); err == nil && allowed(found, []string{root}) {
			return found, nil
		}
		if allowed(given, []string{found}) && create { // above what is given, on the way to it
			return found, nil
		}
	}
	return "", fmt.Errorf("%s is %s, which this node does not give", path, found)
}

// isA checks path against a type of Kubernetes.
func isA(path, kind string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	mode := info.Mode()
	ok := true
	switch kind {
	case "Directory", "DirectoryOrCreate":
		ok = mode.IsDir()
	case "File", "FileOrCreate":
		ok = mode.IsRegular()
	case "Socket":
		ok = mode&fs.ModeSocket != 0
	case "CharDevice":
		ok = mode&fs.ModeCharDevice != 0
	case "BlockDevice":
		ok = mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0
	}
	if !ok {
		return fmt.Errorf("%s is %s; wanted a %s", path, mode, kind)
	}
	return nil
}
