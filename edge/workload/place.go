package workload

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// places is where workloads have their files: on disk, and in memory what must not touch flash.
type places struct {
	disk   string
	memory string
}

func (p places) of(workload string) []string {
	return []string{filepath.Join(p.disk, workload), filepath.Join(p.memory, workload)}
}

// logFile is the log of a run; its rotated part has .1 at the end.
func (p places) logFile(workload, container string, run int) string {
	return filepath.Join(p.disk, workload, "logs", container, strconv.Itoa(run)+".log")
}

// messageFile is what a run leaves to be told of its end.
func (p places) messageFile(workload, container string, run int) string {
	return filepath.Join(p.disk, workload, "messages", container+"_"+strconv.Itoa(run))
}

// volumeDir is where a volume lies that is not the node's.
func (p places) volumeDir(workload string, v *api.Volume) string {
	base := p.disk
	if v.Files != nil || v.Empty != nil && v.Empty.Memory {
		base = p.memory
	}
	return filepath.Join(base, workload, "volumes", v.Name)
}

// clean removes everything of a workload.
func (p places) clean(workload string) error {
	var errs []error
	for _, dir := range p.of(workload) {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// forget removes what runs before the last two have left.
func (p places) forget(workload, container string, run int) error {
	dir := filepath.Dir(p.logFile(workload, container, 1))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if n := runOf(e); n > 0 && n < run-1 {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	for n := run - 1; n > 0; n-- { // there are no gaps
		if err := os.Remove(p.messageFile(workload, container, n)); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			break
		}
	}
	return errors.Join(errs...)
}

// lastRun is the latest run that has left a log; 0: none has.
func (p places) lastRun(workload, container string) (run int) {
	entries, err := os.ReadDir(filepath.Dir(p.logFile(workload, container, 1)))
	if err != nil {
		return 0 // none is known
	}
	for _, e := range entries {
		run = max(run, runOf(e))
	}
	return run
}

// runOf is the run that a log is of; 0: it is none.
func runOf(log fs.DirEntry) int {
	number, _, _ := strings.Cut(log.Name(), ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

// layMessage makes the empty file that a run may leave a message in, whatever its user.
func (p places) layMessage(workload, container string, run int) (string, error) {
	path := p.messageFile(workload, container, run)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return "", err
	}
	return path, errors.Join(f.Chmod(0o666), f.Close())
}

// message is what a run left: the end of its file, or of its log if so wanted and it failed.
func (p places) message(workload string, c *api.Container, run int, failed bool) string {
	text := tailOf(p.messageFile(workload, c.Name, run))
	if text != "" || !c.LogAsMsg || !failed {
		return text
	}
	for _, line := range strings.SplitAfter(tailOf(p.logFile(workload, c.Name, run)), "\n") {
		if l, ok := parseLine([]byte(strings.TrimSuffix(line, "\n"))); ok {
			text += string(l.text)
			if !l.partial {
				text += "\n"
			}
		}
	}
	return text
}

// tailOf is the end of a file, empty when it cannot be read: what a container left is worth no failure.
func tailOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	const most = 2 * api.MaxTerminationBytes // of a log, half may be its stamps
	raw, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-most), most))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(raw), "")
}
