package confine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/skerry-edge/skerry/api"
)

// Identity is as whom a program runs.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
	Home     string // empty: not known
}

// maxID is the last that a kernel takes; the one above means "as it is".
const maxID = 1<<32 - 2

// Who works out as whom a container runs, of its image's user, and passwd and group of its root, either of which may be nil.
func Who(user string, c *api.Confinement, passwd, group []byte) (Identity, error) {
	var id Identity
	name, groupName, hasGroup := strings.Cut(user, ":")
	if c.User != nil {
		if *c.User < 0 || *c.User > maxID {
			return id, fmt.Errorf("security.user: %d; wanted 0 to %d", *c.User, int64(maxID))
		}
		name = strconv.FormatInt(*c.User, 10)
		hasGroup = false
	}
	if name == "" {
		name = "0"
	}
	entry, err := find(passwd, name, 7)
	if err != nil {
		return id, fmt.Errorf("user %q: %w", name, err)
	}
	id.UID = entry.id
	if len(entry.fields) == 7 {
		id.Home = entry.fields[5]
		gid, err := strconv.ParseUint(entry.fields[3], 10, 32)
		if err != nil || gid > maxID {
			return id, fmt.Errorf("user %q: group %q in the image's /etc/passwd; wanted a number", name, entry.fields[3])
		}
		id.GID = uint32(gid)
		id.Groups = groupsOf(group, entry.fields[0])
	}
	if hasGroup && groupName != "" {
		g, err := find(group, groupName, 4)
		if err != nil {
			return id, fmt.Errorf("group %q: %w", groupName, err)
		}
		id.GID = g.id
	}
	if c.Group != nil {
		if *c.Group < 0 || *c.Group > maxID {
			return id, fmt.Errorf("security.group: %d; wanted 0 to %d", *c.Group, int64(maxID))
		}
		id.GID = uint32(*c.Group)
	}
	for _, g := range c.Groups {
		if g < 0 || g > maxID {
			return id, fmt.Errorf("security.groups: %d; wanted 0 to %d", g, int64(maxID))
		}
		id.Groups = append(id.Groups, uint32(g))
	}
	slices.Sort(id.Groups)
	id.Groups = slices.Compact(id.Groups)
	if c.NonRoot && id.UID == 0 {
		return id, errors.New("security.nonRoot: the container would run as user 0; set security.user or take another image")
	}
	return id, nil
}

type entry struct {
	id     uint32
	fields []string // nil: not listed, which a number need not be
}

// find finds a user or group by name or, failing that, by number.
func find(file []byte, name string, fields int) (entry, error) {
	n, err := strconv.ParseUint(name, 10, 32)
	numeric := err == nil && n <= maxID
	var byNumber *entry
	for line := range bytes.Lines(file) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) != fields {
			continue
		}
		id, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil || id > maxID {
			continue
		}
		if f[0] == name {
			return entry{uint32(id), f}, nil
		}
		if numeric && id == n && byNumber == nil {
			byNumber = &entry{uint32(id), f}
		}
	}
	switch {
	case byNumber != nil:
		return *byNumber, nil
	case numeric:
		return entry{id: uint32(n)}, nil
	}
	return entry{}, errors.New("the image does not list it, and it is not a number")
}

// groupsOf are the groups that list the user as a member.
func groupsOf(group []byte, user string) []uint32 {
	var out []uint32
	for line := range bytes.Lines(group) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) != 4 || !slices.Contains(strings.Split(f[3], ","), user) {
			continue
		}
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil && id <= maxID {
			out = append(out, uint32(id))
		}
	}
	return out
}

// maxAccounts bounds what is read of a file that an image brings.
const maxAccounts = 1 << 20

// Accounts reads /etc/passwd and /etc/group of the root that this process is in; nil for one that is not there.
func Accounts() (passwd, group []byte, err error) {
	if passwd, err = account("/etc/passwd"); err != nil {
		return nil, nil, err
	}
	group, err = account("/etc/group")
	return passwd, group, err
}

func account(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a pipe that nobody writes to
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s of the image: wanted a file", name)
	}
	var raw []byte
	if err == nil {
		raw, err = io.ReadAll(bufio.NewReader(io.LimitReader(f, maxAccounts)))
	}
	return raw, errors.Join(err, f.Close())
}
