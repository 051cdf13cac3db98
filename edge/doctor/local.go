package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
)

// asRoot is the cure of what another user may not read.
const asRoot = "run it as root (sudo), or as the user that the agent runs as"

// configuration tells whether there is one that run would work with.
func (p *Patient) configuration(context.Context) Finding {
	if p.ConfigFault == nil {
		return Finding{Detail: p.ConfigNote}
	}
	f := Finding{Exit: ExitConfiguration, Detail: "the configuration has faults, and skerry-edge run ends at once",
		Seen: strings.ReplaceAll(p.ConfigFault.Error(), "\n", "; "), Wanted: "none", Cure: "mend what is named, then restart skerry-edge"}
	if errors.Is(p.ConfigFault, fs.ErrPermission) {
		f.Cure = asRoot
	}
	return f
}

// room is what is written to find out whether there is any: less than the state takes when it begins.
const room = 64 << 10

// state tells whether the directories of the agent can be written, by doing so.
func (p *Patient) state(context.Context) Finding {
	var said []string
	for _, dir := range p.Dirs {
		free, err := usable(dir)
		if err == nil {
			said = append(said, fmt.Sprintf("%s has room, %s", dir, agent.Size(free)))
			continue
		}
		f := Finding{Exit: ExitState, Detail: dir + " cannot be written", Seen: err.Error(), Wanted: "a directory that the agent can write, with 64 KiB free at least",
			Cure: "see the message"}
		switch {
		case errors.Is(err, fs.ErrPermission):
			f.Cure = asRoot
		case errors.Is(err, unix.EROFS):
			f.Cure = "mount it writable; a card that became read-only by itself is failing: see dmesg, and replace it"
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
			f.Detail, f.Cure = dir+" is full", "make room: df "+dir
		}
		return f
	}
	return Finding{Detail: strings.Join(said, "; ")}
}

// usable writes a file into dir. A directory that is not there yet is made at the first start: what it will be in has to let that be.
func usable(dir string) (free float64, err error) {
	there := dir
	for _, err = os.Stat(there); errors.Is(err, fs.ErrNotExist) && there != "/"; _, err = os.Stat(there) {
		there = filepath.Dir(there)
	}
	if err != nil {
		return 0, err
	}
	if there != dir {
		err = unix.Access(there, unix.W_OK|unix.X_OK)
	} else {
		err = try(dir)
	}
	var st unix.Statfs_t
	if err == nil {
		err = unix.Statfs(there, &st)
	}
	return float64(st.Bavail) * float64(st.Bsize), err
}

func try(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, room))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}
