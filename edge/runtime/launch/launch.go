package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/workload"
)

// Images keeps images, unpacked.
type Images interface {
	workload.Images
	// Root gives an image that was pulled. An error wraps workload.ErrNoImage or workload.ErrBadImage.
	Root(digest string) (Image, error)
}

// Image is one as it lies on the node.
type Image struct {
	Lower  []string // folders of its layers, the topmost first, in the form of an overlay
	Wasm   bool     // it holds a WebAssembly module, and no programs
	Config ImageConfig
}

// ImageConfig is what an image says of how it is run, in the words of OCI.
type ImageConfig struct {
	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
	User       string
	StopSignal string
}

// Check tells what of a container no runtime can do. wasm is whether the runtime runs modules.
func Check(c *workload.Container, image *Image, wasm bool) error {
	switch {
	case len(image.Lower) == 0:
		return fmt.Errorf("image %s has no layers: %w", c.Image, workload.ErrBadImage)
	case image.Wasm && !wasm:
		return fmt.Errorf("%w: the image is a WebAssembly module; wanted runtime wasm, or none", workload.ErrBadContainer)
	case !image.Wasm && wasm:
		return fmt.Errorf("%w: the image is for programs; wanted another runtime than wasm", workload.ErrBadContainer)
	}
	if dir := Dir(c, &image.Config); dir != "" && !filepath.IsAbs(dir) {
		return fmt.Errorf("working directory %q: wanted an absolute path", dir)
	}
	for _, m := range c.Mounts {
		if !filepath.IsAbs(m.Source) || !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
			return fmt.Errorf("mount %q at %q: wanted absolute paths, and not the root", m.Source, m.Target)
		}
	}
	return nil
}

// Dir is where the program starts; empty: the root.
func Dir(c *workload.Container, image *ImageConfig) string {
	if c.Dir != "" {
		return c.Dir
	}
	return image.WorkingDir
}

// Command is what is run: a command of the workload's own leaves nothing of the image's, arguments replace its arguments.
func Command(c *workload.Container, image *ImageConfig) []string {
	argv, args := c.Command, c.Args
	if len(argv) == 0 {
		argv = image.Entrypoint
		if len(args) == 0 {
			args = image.Cmd
		}
	}
	return append(argv[:len(argv):len(argv)], args...)
}

// Environment puts own over those of the image; the last of a name wins.
func Environment(image, own []string) []string {
	var out []string
	at := map[string]int{}
	for _, list := range [][]string{image, own} {
		for _, e := range list {
			name, _, ok := strings.Cut(e, "=")
			if !ok || name == "" {
				continue
			}
			if i, seen := at[name]; seen {
				out[i] = e
				continue
			}
			at[name] = len(out)
			out = append(out, e)
		}
	}
	return out
}

// Network are the node's files on names, which belong to the network that the container shares, unless it has its own.
func Network(own []workload.Mount) []workload.Mount {
	var out []workload.Mount
files:
	for _, name := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		for _, m := range own {
			if target := filepath.Clean(m.Target); target == name || target == "/etc" {
				continue files
			}
		}
		if _, err := os.Stat(name); err == nil {
			out = append(out, workload.Mount{Source: name, Target: name, ReadOnly: true})
		}
	}
	return out
}

// StopSignal reads the signal of an image: SIGTERM, TERM or 15; empty is SIGTERM.
func StopSignal(name string) (int, error) {
	if name == "" {
		return int(unix.SIGTERM), nil
	}
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= 64 {
		return n, nil
	}
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if n := unix.SignalNum(full); n > 0 {
		return int(n), nil
	}
	return 0, fmt.Errorf("the image's stop signal %q; wanted such as SIGTERM or 15: %w", name, workload.ErrBadImage)
}

// defaultPath is where programs are when neither image nor workload says.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Complete adds what every program expects. home is that of its user, hostname its own; either may be empty.
func Complete(env []string, home, hostname string, tty bool) []string {
	env = slices.Clone(env)
	add := func(entry string) {
		name, _, _ := strings.Cut(entry, "=")
		if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			env = append(env, entry)
		}
	}
	add(defaultPath)
	if home == "" {
		home = "/"
	}
	add("HOME=" + home)
	if hostname != "" {
		add("HOSTNAME=" + hostname)
	}
	if tty {
		add("TERM=xterm")
	}
	return env
}
