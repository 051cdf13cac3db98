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

// trimEvery is how long tables stay that nobody uses.
const trimEvery = 30 * time.Second

// due tells what goes at the n-th trim beside tables, counted from 0. Free heap goes every minute: a collection takes 3 ms, and
// without it the agent grows by half a MiB. Code that start-up or rare work such as a renewal brought in goes after the start
// and every hour.
func due(n int) (heap, code bool) { return n%2 == 0, n%120 == 0 }

// trim gives back heap that is free, and lets go of the program's own pages that steady work does not use. Go's linker
// lays them out by package, not by use, and the kernel maps 64 KiB around each page that is touched, so without this nearly
// the whole binary stays mapped. Code goes after start-up: configuration, enrolment, TLS set-up, decoders. Tables go often:
// a collection looks up the types of all objects and every function on a stack, 2.8 MiB in 2 ms, and so does, in part,
// whatever makes a stack grow, such as a look at the status. Half of it is not used in steady work. What is in use is mapped
// again from the page cache, some fifty page faults; from flash only if the machine was so short of memory that the kernel
// let go of it.
func (a *Agent) trim(ctx context.Context) error {
	own, err := ownProgram()
	told := false
	for n := 0; agent.Wait(ctx, trimEvery); n++ {
		heap, code := due(n)
		if heap {
			debug.FreeOSMemory()
		}
		if err == nil {
			err = forget(own.tables)
		}
		if err == nil && code {
			err = forget(own.code)
		}
		if err != nil && !told {
			told = true
			a.log.Debug("pages of the program are not given back any more", agent.KeyErr, err)
		}
	}
	return nil
}

// program is what is mapped of this program's file and was never written.
type program struct {
	code   [][]byte
	tables [][]byte // constants, descriptors of types and functions
}

// ownProgram finds this program's read-only mappings of its file. Mappings that can be written are left out, and those
// that were written before they became read-only: a loader relocates there (RELRO of position-independent programs), and
// what it wrote is nowhere else. smaps tells them by their anonymous memory (proc(5)).
func ownProgram() (program, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return program{}, fmt.Errorf("find own program: %w", err)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return program{}, fmt.Errorf("read own mappings: %w", err)
	}
	defer smaps.Close()
	clean, err := untouched(smaps, self)
	if err != nil {
		return program{}, fmt.Errorf("read own mappings: %w", err)
	}
	var out program
	for _, m := range clean {
		pages, err := m.pages()
		if err != nil {
			return program{}, err
		}
		if m.code {
			out.code = append(out.code, pages)
		} else {
			out.tables = append(out.tables, pages)
		}
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

// mapping is a read-only mapping of a file, with its range as smaps writes it.
type mapping struct {
	span string
	code bool
}

// untouched lists the read-only mappings of the file self that nobody has written.
func untouched(smaps io.Reader, self string) (out []mapping, err error) {
	var m mapping // that the lines are about, when it is one of ours
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && !strings.HasSuffix(fields[0], ":"): // range, permissions, offset, device, inode, path
			m = mapping{}
			if len(fields) == 6 && fields[5] == self && (fields[1] == "r-xp" || fields[1] == "r--p") {
				m = mapping{fields[0], fields[1] == "r-xp"}
			}
		case m.span != "" && fields[0] == "Anonymous:" && fields[1] == "0":
			out = append(out, m)
		}
	}
	return out, lines.Err()
}

// pages is the memory of a mapping, which is the loader's and not of Go's heap.
func (m mapping) pages() ([]byte, error) {
	from, to, ok := strings.Cut(m.span, "-")
	start, err := strconv.ParseUint(from, 16, strconv.IntSize)
	end, err2 := strconv.ParseUint(to, 16, strconv.IntSize)
	if !ok || err != nil || err2 != nil || end <= start {
		return nil, fmt.Errorf("read own mappings: range %q", m.span)
	}
	address := uintptr(start)
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&address)), int(end-start)), nil
}
