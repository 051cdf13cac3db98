package edge

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/update"
)

// launched is what came of a launch.
type launched struct {
	self *update.Self // of this process, which is to be the agent; nil: there is nowhere for slots
	over bool         // a signal ended the service meanwhile
}

// launch starts the program that is due (docs/adr/0021). It returns when that is this one. The configuration may be at fault, or meant for
// a newer program: of it only the directory counts here.
func (d *Door) launch(ctx context.Context, cfg configs.Edge, args []string) (launched, error) {
	if d.Argv == nil { // no process of its own
		return launched{}, nil
	}
	path := updateDir(cfg)
	if update.Launched() {
		self, err := update.Adopt(path)
		return launched{self: self}, err
	}
	dir, err := update.Open(path)
	if err != nil {
		d.printf(d.Err, "skerry-edge: %v; this agent cannot be updated\n", err)
		return launched{}, nil
	}
	own, err := os.Executable()
	if err != nil {
		return launched{}, err
	}
	l := &update.Launcher{Dir: dir, Self: own, Build: update.BuildOf(agent.Build()), Argv: append([]string{d.Argv[0]}, args...), Log: d.Err,
		Boot: agent.BootID(), Environ: os.Environ()}
	self, err := l.Run(ctx)
	if errors.Is(err, unix.EROFS) { // and nothing of it was ever there
		d.printf(d.Err, "skerry-edge: %v; this agent cannot be updated\n", err)
		return launched{}, nil
	}
	return launched{self: self, over: self == nil && err == nil}, err
}

// stayed has the starts of this program forgotten that were counted, for a crash loop to be seen: it has stayed up, or is to end.
func (d *Door) stayed(self *update.Self) {
	if err := self.Stayed(); err != nil {
		d.printf(d.Err, "skerry-edge: update: starts not forgotten: %v\n", err)
	}
}

// supervise starts run, and starts it again when it ends, on a device without an init system that does. It returns the exit code.
func (d *Door) supervise(ctx context.Context, args []string) int {
	own, err := os.Executable()
	if err != nil {
		return d.exit(err)
	}
	argv := []string{own}
	for i, a := range args {
		if a == "supervise" {
			argv = append(append(append(argv, args[:i]...), "run"), args[i+1:]...)
			break
		}
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() { // ends with ctx, or at once
		if agent.Wait(ctx, time.Second) {
			shrink()
		}
	}()
	code, err := (&update.Supervisor{Argv: argv, Final: ExitConfig, Log: d.Err}).Run(ctx)
	if err != nil {
		return d.exit(err)
	}
	return code
}

// shrink gives back what a process needed to begin, and does not need to wait.
func shrink() {
	runtime.GOMAXPROCS(cores)
	debug.FreeOSMemory()
	if own, err := ownProgram(); err == nil { // else the pages stay until the kernel wants them
		_ = forget(own.tables)
		_ = forget(own.code)
	}
}

// plain are the flags of this process that say where the configuration comes from, without a join string.
func (f *flags) plain() []string {
	var out []string
	if f.config != "" {
		out = append(out, "--config", f.config)
	}
	for _, s := range f.settings {
		if !strings.HasPrefix(s, "join=") {
			out = append(out, "--set", s)
		}
	}
	return out
}
