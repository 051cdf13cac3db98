package swarm

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// progress shows how a swarm stands: one line that is rewritten on a terminal, and a line every ten seconds otherwise.
type progress struct {
	w        io.Writer
	terminal bool

	mu   sync.Mutex
	wide int // of the line that is there
}

// plainEvery is the pace on what is no terminal.
const plainEvery = 10 * time.Second

// Say writes a line of its own.
func (p *progress) Say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.w, "%s %s\n", time.Now().Format(time.TimeOnly), text)
}

func (p *progress) clear() {
	if p.wide > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.wide))
		p.wide = 0
	}
}

// Run shows s until ctx ends.
func (p *progress) Run(ctx context.Context, s *Swarm) {
	every := plainEvery
	if p.terminal {
		every = time.Second
	}
	var last Figures
	for at := time.Now(); agent.Wait(ctx, every); {
		f := s.Figures()
		line := f.line(last, time.Since(at))
		if f.Started == 0 {
			line = fmt.Sprintf("%d of %d nodes have certificates", s.Enrolled(), f.Nodes)
		}
		last, at = f, time.Now()
		p.mu.Lock()
		if p.terminal {
			p.clear()
			fmt.Fprint(p.w, line)
			p.wide = len(line)
		} else {
			fmt.Fprintf(p.w, "%s %s\n", time.Now().Format(time.TimeOnly), line)
		}
		p.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// line is f in at most a hundred columns; before is how it stood a while ago.
func (f *Figures) line(before Figures, while time.Duration) string {
	rate := float64(f.Made-before.Made) / while.Seconds()
	return fmt.Sprintf("online %d, connecting %d, %.0f samples/s, lag %s, backlog %d, dropped %d, commands %d, RSS %.0f MiB",
		f.Online, f.Connecting, rate, f.Lag, f.Backlog, f.Dropped.Samples+f.Dropped.Downsampled, f.Commands, float64(f.RSSBytes)/(1<<20))
}
