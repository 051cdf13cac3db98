package edge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
)

// trimAfter is when start-up is over for good. Free heap goes back every freeEvery: a collection takes 3 ms, and without it
// the agent grows by half a MiB. Code that rare work such as a renewal brought in goes every dropEvery: what is in use has to
// be mapped again, from flash if the machine is short of memory.
const (
	trimAfter = 20 * time.Second
	freeEvery = time.Minute
	dropEvery = time.Hour
)

// trim gives back heap that is free, and lets go of the program's own code that start-up used and steady work does not:
// configuration, enrolment, TLS set-up, decoders. Go's linker lays code out by package, not by use, and the kernel maps
// 64 KiB around each page that is touched, so without this nearly the whole binary stays mapped.
func (a *Agent) trim(ctx context.Context) error {
	var dropped time.Time
	for wait := trimAfter; agent.Wait(ctx, wait); wait = freeEvery {
		debug.FreeOSMemory()
		if !dropped.IsZero() && time.Since(dropped) < dropEvery {
			continue
		}
		dropped = time.Now()
		if err := dropCode(); err != nil {
			a.log.Debug("code pages not given back", agent.KeyErr, err)
		}
	}
	return nil
}

// dropCode forgets the pages of this program's read-only mappings of its file (madvise(2), MADV_DONTNEED on a private file
// mapping: the next access maps the page again from the file). Mappings that can be written are left alone, and those
// that were written before they became read-only: a loader relocates there (RELRO of position-independent programs), and
// what it wrote is nowhere else. smaps tells them by their anonymous memory (proc(5)).
func dropCode() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read own mappings: %w", err)
	}
	defer smaps.Close()
	clean, err := untouched(smaps, self)
	if err != nil {
		return fmt.Errorf("read own mappings: %w", err)
	}
	for _, mapping := range clean {
		if err := drop(mapping); err != nil {
			return err
		}
	}
	return nil
}

// untouched lists the ranges of the read-only mappings of the file self that nobody has written.
func untouched(smaps io.Reader, self string) (out []string, err error) {
	var mapping string // that the lines are about, when it is one of ours
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && !strings.HasSuffix(fields[0], ":"): // range, permissions, offset, device, inode, path
			mapping = ""
			if len(fields) == 6 && fields[5] == self && (fields[1] == "r-xp" || fields[1] == "r--p") {
				mapping = fields[0]
			}
		case mapping != "" && fields[0] == "Anonymous:" && fields[1] == "0":
			out = append(out, mapping)
		}
	}
	return out, lines.Err()
}

// drop forgets the pages of a mapping that nobody has written.
func drop(mapping string) error {
	from, to, ok := strings.Cut(mapping, "-")
	start, err := strconv.ParseUint(from, 16, strconv.IntSize)
	end, err2 := strconv.ParseUint(to, 16, strconv.IntSize)
	if !ok || err != nil || err2 != nil || end <= start {
		return fmt.Errorf("read own mappings: range %q", mapping)
	}
	address := uintptr(start)
	pages := unsafe.Slice(*(**byte)(unsafe.Pointer(&address)), int(end-start)) // a mapping of the loader's, not of Go's heap
	if err := unix.Madvise(pages, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("give back code pages: %w", err)
	}
	return nil
}
