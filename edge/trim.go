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

// trimEvery is how long a page of the program stays without being used. Free heap goes back at every freeEvery-th time: a
// collection takes 3 ms, and without it the agent grows by half a MiB.
const (
	trimEvery = 20 * time.Second
	freeEvery = 3
)

// trim gives back heap that is free, and lets go of the program's own pages. Go's linker lays them out by package, not by
// use, and the kernel maps 64 KiB around each page that is touched, so without this nearly the whole binary stays mapped:
// what start-up needed, or a renewal, or somebody's look at the status; and after each collection the types of all objects
// and the tables of every function on a stack. What is in use is mapped again from the page cache, some ninety page faults a
// time; from flash only if the machine was so short of memory that the kernel let go of it.
func (a *Agent) trim(ctx context.Context) error {
	own, err := ownProgram()
	for n := 0; agent.Wait(ctx, trimEvery); n++ {
		if n%freeEvery == 0 {
			debug.FreeOSMemory()
		}
		if err == nil {
			err = forget(own)
		}
		if err != nil && n == 0 {
			a.log.Debug("pages of the program not given back", agent.KeyErr, err)
		}
	}
	return nil
}

// ownProgram finds this program's read-only mappings of its file. Mappings that can be written are left out, and those
// that were written before they became read-only: a loader relocates there (RELRO of position-independent programs), and
// what it wrote is nowhere else. smaps tells them by their anonymous memory (proc(5)).
func ownProgram() ([][]byte, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, fmt.Errorf("read own mappings: %w", err)
	}
	defer smaps.Close()
	clean, err := untouched(smaps, self)
	if err != nil {
		return nil, fmt.Errorf("read own mappings: %w", err)
	}
	var out [][]byte
	for _, span := range clean {
		pages, err := pagesOf(span)
		if err != nil {
			return nil, err
		}
		out = append(out, pages)
	}
	return out, nil
}

// forget drops pages that nobody has written (madvise(2), MADV_DONTNEED on a private file mapping: the next access maps the
// page again from the file).
func forget(mappings [][]byte) error {
	for _, pages := range mappings {
		if err := unix.Madvise(pages, unix.MADV_DONTNEED); err != nil {
			return fmt.Errorf("give back pages of the program: %w", err)
		}
	}
	return nil
}

// untouched lists the read-only mappings of the file self that nobody has written, as the ranges that smaps writes.
func untouched(smaps io.Reader, self string) (out []string, err error) {
	span := "" // that the lines are about, when it is one of ours
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && !strings.HasSuffix(fields[0], ":"): // range, permissions, offset, device, inode, path
			span = ""
			if len(fields) == 6 && fields[5] == self && (fields[1] == "r-xp" || fields[1] == "r--p") {
				span = fields[0]
			}
		case span != "" && fields[0] == "Anonymous:" && fields[1] == "0":
			out = append(out, span)
		}
	}
	return out, lines.Err()
}

// pagesOf is the memory of a mapping, which is the loader's and not of Go's heap.
func pagesOf(span string) ([]byte, error) {
	from, to, ok := strings.Cut(span, "-")
	start, err := strconv.ParseUint(from, 16, strconv.IntSize)
	end, err2 := strconv.ParseUint(to, 16, strconv.IntSize)
	if !ok || err != nil || err2 != nil || end <= start {
		return nil, fmt.Errorf("read own mappings: range %q", span)
	}
	address := uintptr(start)
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&address)), int(end-start)), nil
}
