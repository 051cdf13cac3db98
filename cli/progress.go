package cli

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// progress is one line that is rewritten on a terminal, and silent elsewhere.
type progress struct {
	w     io.Writer
	on    bool
	total int
}

func (p *progress) tell(done int) {
	if p.on && p.total > 1 {
		_, p.on = write(p.w, fmt.Sprintf("\r\x1b[K%d of %d finished", done, p.total))
	}
}

func (p *progress) end() {
	if p.on && p.total > 1 {
		_, p.on = write(p.w, "\r\x1b[K")
	}
}

// write reports whether w still takes text; a closed terminal ends the progress, not the command.
func write(w io.Writer, s string) (int, bool) {
	n, err := io.WriteString(w, s)
	return n, err == nil
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
