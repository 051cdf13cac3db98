package update

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/agent/release"
)

// Want is an update that somebody asks for.
type Want struct {
	Version string
	URL     string // of a mirror in place of the cluster agent; empty: that
	Force   bool   // also when it is not newer
	Command string // id of the command; empty: there is none
}

// Installer brings a release into the slot that is not active, and puts it on trial.
type Installer struct {
	Self   *Self
	Site   *Site
	Keys   []release.Key
	Window time.Duration // that a trial has
	// Running is the version that runs, Build what the installed program is when this is it.
	Running string
	// Try are argument lists with which the new program has to end well before it is trusted with a trial.
	Try [][]string
	// Passes is an exit code of theirs that is as good as 0.
	Passes int
	// Offline reports that the node has no link; nil: it has. A trial that begins so says little.
	Offline func() bool
	// Reserve is what stays free on the disk; 0: 2 MiB.
	Reserve int64
}

const (
	defaultReserve = 2 << 20
	tryWithin      = 20 * time.Second
	partName       = "part"
	newSuffix      = ".new"
)

// ErrRefused is wrapped by errors that say that nothing was done because the update must not be, ErrUnfit by those of a program that
// does not run on this device, as its checks found out.
var (
	ErrRefused = errors.New("update refused")
	ErrUnfit   = errors.New("the new program")
)

// Install does all up to the trial, which begins with the next start. It goes on from what an interrupted one left.
func (i *Installer) Install(ctx context.Context, w Want, report func(string)) error {
	s, err := i.Self.State()
	if err != nil {
		return err
	}
	if err := i.permitted(s, w); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	report("fetching the manifest")
	m, from, err := i.Site.manifest(ctx, w, i.Keys)
	if err != nil {
		return err
	}
	if m.Version != w.Version {
		return fmt.Errorf("manifest is of version %s; wanted %s", m.Version, w.Version)
	}
	f, err := m.Find(release.KindArchive, programName, variant, Target())
	if err != nil {
		return err
	}
	if f.ProgramSHA256 == "" {
		return fmt.Errorf("%s: the manifest does not tell the hash of the program in it", f.Name)
	}
	slot := other(i.Self.slot)
	img := Image{Version: m.Version, SHA256: f.ProgramSHA256, Bytes: f.ProgramSize}
	if i.Self.dir.Sound(slot, img) != nil { // else an earlier try came this far
		if err := i.place(ctx, slot, f, from, report); err != nil {
			return err
		}
	}
	report("checking that the new program starts")
	if err := i.try(ctx, i.Self.dir.Program(slot), m.Version); err != nil {
		return err
	}
	report("switching; version " + m.Version + " is on trial for " + i.Window.String())
	return i.begin(slot, img, w)
}

// permitted tells why an update must not be; nil: it may.
func (i *Installer) permitted(s State, w Want) error {
	if len(i.Keys) == 0 {
		return errors.New("no release key is known, so that no release can be trusted; wanted update.keys in the configuration")
	}
	if _, err := release.ParseVersion(w.Version); err != nil {
		return err
	}
	if s.Trial != nil {
		return fmt.Errorf("version %s is on trial", s.Slots[s.Trial.Slot].Version)
	}
	if w.Force {
		return nil
	}
	if err := release.Newer(i.Running, w.Version); err != nil {
		return fmt.Errorf("%w; force overrides that", err)
	}
	if s.Floor != "" {
		if err := release.Newer(s.Floor, w.Version); err != nil && s.Floor != w.Version {
			return fmt.Errorf("version %s is below %s, which this node has run before; force overrides that", w.Version, s.Floor)
		}
	}
	return nil
}

// place downloads an archive and puts the program in it into a slot.
func (i *Installer) place(ctx context.Context, slot Slot, f release.File, from place, report func(string)) error {
	dir := i.Self.dir
	part := filepath.Join(dir.path, partName+"."+f.SHA256[:16])
	if err := dropOthers(dir.path, part); err != nil {
		return err
	}
	if err := i.room(f, sizeOf(part)); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err := i.Site.download(ctx, from, f, part, report); err != nil {
		return fmt.Errorf("download %s: %w", f.Name, err)
	}
	report("unpacking")
	to := dir.Program(slot)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := dir.step("unpack"); err != nil {
		return err
	}
	if err := unpack(part, to+newSuffix, f); err != nil {
		return fmt.Errorf("unpack %s: %w", f.Name, errors.Join(err, os.Remove(to+newSuffix)))
	}
	if err := dir.rename(to+newSuffix, to); err != nil { // whoever runs from the old file keeps it
		return err
	}
	return os.Remove(part)
}

// dropOthers removes parts of other releases.
func dropOthers(dir, keep string) error {
	list, err := filepath.Glob(filepath.Join(dir, partName+".*"))
	for _, p := range list {
		if p != keep {
			err = errors.Join(err, os.Remove(p))
		}
	}
	return err
}

// room refuses what does not fit on the disk, before it is full.
func (i *Installer) room(f release.File, have int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(i.Self.dir.path, &st); err != nil {
		return fmt.Errorf("look at disk: %w", err)
	}
	reserve := i.Reserve
	if reserve == 0 {
		reserve = defaultReserve
	}
	need := f.Size - have + f.ProgramSize + reserve
	if free := int64(st.Bavail) * int64(st.Bsize); free < need { //nolint:unconvert // the types differ by architecture
		return fmt.Errorf("the update takes %s and %s stay free; the disk of %s has %s", agent.Size(float64(need-reserve)), agent.Size(float64(reserve)),
			i.Self.dir.path, agent.Size(float64(free)))
	}
	return nil
}

// unpack writes the program in an archive to path, if it is the one that f tells of.
func unpack(archive, path string, f release.File) (err error) {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	zr, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("there is no %s in it", f.Program)
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg && h.Name[strings.LastIndexByte(h.Name, '/')+1:] == f.Program {
			break
		}
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	err = f.CheckProgram(io.TeeReader(tr, out))
	return errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close())
}

// begin puts a slot on trial.
func (i *Installer) begin(slot Slot, img Image, w Want) error {
	_, err := i.Self.dir.Change(func(s *State) error {
		if s.Trial != nil {
			return fmt.Errorf("%w: version %s is on trial", ErrRefused, s.Slots[s.Trial.Slot].Version)
		}
		if i.Self.launcher == "" { // the installed program runs: what was in the slots was another's
			s.Base, s.Active, s.Slots = i.Self.build, Installed, nil
		}
		if s.Slots == nil {
			s.Slots = map[Slot]Image{}
		}
		img.Command = w.Command
		s.Slots[slot] = img
		s.Trial = &Trial{Slot: slot, Command: w.Command, From: i.Running, WindowSeconds: int(i.Window / time.Second),
			Offline: i.Offline != nil && i.Offline()}
		return nil
	})
	return err
}

// Target is what this program was built for, as releases name it.
func Target() string { return runtime.GOOS + "-" + runtime.GOARCH + armVersion }
