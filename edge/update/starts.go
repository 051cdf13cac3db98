package update

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// What a crash loop is: so many starts in a row within one boot of the device, none of which came to an end that somebody wanted, or to
// Steady.
const (
	maxUnclean = 5
	Steady     = 10 * time.Minute
)

// The count of unclean starts lies in the file of the lock, and is not synced: what is in the page cache outlives every end of the agent,
// and of another boot it is worth nothing. So it costs the flash next to nothing, and power that fails often is no crash loop.

// countStart counts a start before it is made.
func countStart(lock *os.File, boot string, slot Slot) error {
	if boot == "" {
		return nil
	}
	_, err := lock.WriteAt([]byte(fmt.Sprintf("%s %s %d\n", boot, string(slot), uncleanStarts(lock, boot, slot)+1)), 0)
	return err
}

// uncleanStarts is how often a slot was started in this boot since it last was steady, or ended cleanly.
func uncleanStarts(lock *os.File, boot string, slot Slot) int {
	var buf [128]byte
	n, _ := lock.ReadAt(buf[:], 0) // the end of the file, or nothing that can be read
	line, _, _ := strings.Cut(string(buf[:n]), "\n")
	text, found := strings.CutPrefix(line, boot+" "+string(slot)+" ")
	count, err := strconv.Atoi(text)
	if boot == "" || !found || err != nil {
		return 0
	}
	return count
}

// Stayed forgets the starts of this program that were counted: it has been up for Steady, or ends as somebody wanted.
func (s *Self) Stayed() error {
	if s == nil || s.lock == nil || s.slot == Installed {
		return nil
	}
	return forgetStarts(s.lock)
}

func forgetStarts(lock *os.File) error { return lock.Truncate(0) }
