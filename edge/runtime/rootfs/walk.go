package rootfs

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one path may go through, as in the kernel.
const maxLinks = 40

// file is an open O_PATH descriptor.
type file struct {
	fd   int
	mode uint32 // S_IF…
}

func (f file) close() { _ = unix.Close(f.fd) } // an O_PATH descriptor has nothing to fail

// path names the file to calls that take no descriptor. It needs /proc.
func (f file) path() string { return "/proc/self/fd/" + strconv.Itoa(f.fd) }

// openRoot opens a folder to walk beneath.
func openRoot(dir string) (file, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return file{}, fmt.Errorf("open %s: %w", dir, err)
	}
	return file{fd, unix.S_IFDIR}, nil
}

// walker goes down from a folder as if it were the root of everything.
type walker struct {
	stack []file   // from the root to where we are; .. goes back along it
	rest  []string // names to go
	links int
	// make says what a name that is not there becomes: nil, an error; else it makes the last or a folder before it.
	make func(dir int, name string, last bool) error
}

// walk finds p beneath root. Symbolic links are followed as they would be for a process whose root it is. The caller closes
// the result.
func walk(root file, p string, create func(dir int, name string, last bool) error) (file, error) {
	fd, err := unix.Openat(root.fd, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return file{}, err
	}
	w := &walker{stack: []file{{fd, unix.S_IFDIR}}, rest: split(p), make: create}
	for len(w.rest) > 0 && err == nil {
		err = w.step()
	}
	top := w.stack[len(w.stack)-1]
	for _, f := range w.stack[:len(w.stack)-1] {
		f.close()
	}
	if err != nil {
		top.close()
		return file{}, fmt.Errorf("%s: %w", p, err)
	}
	return top, nil
}

func split(p string) []string {
	return strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
}

func (w *walker) step() error {
	name := w.rest[0]
	w.rest = w.rest[1:]
	here := w.stack[len(w.stack)-1]
	switch name {
	case ".":
		return nil
	case "..":
		if len(w.stack) > 1 {
			here.close()
			w.stack = w.stack[:len(w.stack)-1]
		}
		return nil
	}
	next, err := open(here.fd, name)
	if errors.Is(err, unix.ENOENT) && w.make != nil {
		if err = w.make(here.fd, name, len(w.rest) == 0); err != nil {
			return err
		}
		next, err = open(here.fd, name)
	}
	if err != nil {
		return err
	}
	if next.mode != unix.S_IFLNK {
		w.stack = append(w.stack, next)
		return nil
	}
	defer next.close()
	return w.follow(next)
}

func open(dir int, name string) (file, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return file{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return file{}, err
	}
	return file{fd, st.Mode & unix.S_IFMT}, nil
}

func (w *walker) follow(link file) error {
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link.fd, "", buf)
	if err != nil {
		return err
	}
	if n == 0 || n == len(buf) { // such as the links of /proc, which lead to no name
		return unix.ELOOP
	}
	target := string(buf[:n])
	if path.IsAbs(target) {
		for _, f := range w.stack[1:] {
			f.close()
		}
		w.stack = w.stack[:1]
	}
	w.rest = append(split(target), w.rest...)
	return nil
}

// makeDirs makes every name that is missing a folder.
func makeDirs(dir int, name string, _ bool) error { return unix.Mkdirat(dir, name, 0o755) }

// makeFile makes the last name an empty file.
func makeFile(dir int, name string, last bool) error {
	if !last {
		return unix.Mkdirat(dir, name, 0o755)
	}
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
