package image

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// place is a folder as an archive names it, and where it really is.
type place struct{ name, at string }

// maxLinks is how many symbolic links one look-up follows, as in the kernel.
const maxLinks = 40

// parent finds the folder of an entry, and makes those that are missing: not every archive names all of them.
func (u *unpacker) parent(name string) (string, error) {
	if name == "" {
		return ".", nil
	}
	if u.last.name == name {
		return u.last.at, nil
	}
	at, err := u.walk(name, true)
	if err == nil {
		u.last = place{name, at}
	}
	return at, err
}

// existing finds a folder that has to be there.
func (u *unpacker) existing(name string) (string, error) {
	if name == "" {
		return ".", nil
	}
	return u.walk(name, false)
}

// walk looks a folder up as a program inside the image would: a link to /run, or to ../../.., is one inside the image. The path
// that it returns holds no link, and os.Root, which every step goes through, refuses one that would lead out all the same.
func (u *unpacker) walk(name string, create bool) (string, error) {
	at, links := ".", 0
	todo := strings.Split(name, "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := u.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist) && create:
			if err := u.root.Mkdir(next, 0o755); err != nil {
				return "", err
			}
			u.mine[hashed(next)] = struct{}{}
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return "", badImage("too many symbolic links on the way to %.200q", name)
			}
			target, err := u.root.Readlink(next)
			if err != nil {
				return "", err
			}
			if strings.HasPrefix(target, "/") {
				at = "."
			}
			todo = append(strings.Split(target, "/"), todo...)
			continue
		case !info.IsDir():
			return "", badImage("%.200q is no folder, and has something in it", next)
		}
		at = next
	}
	return at, nil
}

// clear removes what layers below have put at a path, and with itself also the path; what this layer has made stays, wherever
// in the archive the whiteout stands.
func (u *unpacker) clear(at string, itself bool) error {
	u.last = place{}
	info, err := u.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, made := u.mine[hashed(at)]; itself && !made {
		return u.root.RemoveAll(at)
	}
	if !info.IsDir() {
		return nil
	}
	names, err := u.names(at)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := u.clear(path.Join(at, name), true); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) names(at string) ([]string, error) {
	d, err := u.root.OpenFile(at, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}
