package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/update"
)

// The exit codes besides the doctor's. ExitConfig is one that a restart cannot mend (RestartPreventExitStatus=2). ExitMissing is that of
// config alone: run takes the configuration.
const (
	ExitOK      = 0
	ExitError   = 1
	ExitConfig  = 2
	ExitMissing = 3
)

// DefaultConfigFile is read when --config and SKERRY_EDGE_CONFIG say nothing; it may be absent.
const DefaultConfigFile = "/etc/skerry/edge.yaml"

const usageText = `skerry-edge, the Skerry node agent

usage: skerry-edge COMMAND [flags]

  run       enrol if needed, report telemetry, obey commands (stop with SIGTERM)
  supervise run, and start it again whenever it ends: for a device without an init system
  status    tell what the running agent does
  doctor    find out why this node is not online; exit code: 10 clock, 11 dns, 12 tcp, 13 tls, 14 CA pin,
            15 token, 16 broker, 17 certificate, 18 join string, 19 waiting for approval, 20 configuration,
            21 state (its directories), 22 agent (none runs, or it drops telemetry)
  leave     have the cluster remove this node: its certificate is revoked, its telemetry is deleted there
  config    print the configuration in force; --defaults prints the commented defaults; with --join, exit code 2
            is also a join string that is not whole, or of another cluster than this device is in; exit code 3 when
            run takes it, but something that it names is missing, such as a user of command.exec
  version   print the version

flags of run, supervise, status, doctor, leave and config:
`

// Door is the command line of skerry-edge.
type Door struct {
	Out, Err io.Writer
	Env      []string
	// Argv is this process's own argument list, nil when there is none. A join string in it is overwritten once it is read,
	// so that it does not stay in the list of processes.
	Argv []string
}

// flags are those of every command.
type flags struct {
	set      *pflag.FlagSet
	config   string
	file     string // what is read: config, or whatever is in its place
	join     string
	settings []string
	defaults bool
	output   string
}

// Main runs the command line and returns the exit code.
func (d *Door) Main(ctx context.Context, args []string) int {
	args = conceal(args, d.Argv)
	f := &flags{set: pflag.NewFlagSet("skerry-edge", pflag.ContinueOnError)}
	f.set.SetOutput(d.Err)
	f.set.Usage = func() { d.printf(d.Err, "%s%s", usageText, f.set.FlagUsages()) }
	f.set.StringVarP(&f.config, "config", "c", "", "configuration file (default "+DefaultConfigFile+", if it exists)")
	f.set.StringVar(&f.join, "join", "", "join string, or @file, which keeps it from the list of processes; needed once, to enrol")
	f.set.StringArrayVar(&f.settings, "set", nil, "key=value of the configuration, may be repeated")
	f.set.BoolVar(&f.defaults, "defaults", false, "config: print the commented defaults")
	f.set.StringVarP(&f.output, "output", "o", "text", "status, doctor: text or json")
	if err := f.set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return ExitOK
		}
		d.printf(d.Err, "skerry-edge: %v; see: skerry-edge --help\n", err)
		return ExitConfig
	}
	command := f.set.Arg(0)
	if wrong := f.wrong(); wrong != "" {
		d.printf(d.Err, "skerry-edge: %s; see: skerry-edge --help\n", wrong)
		return ExitConfig
	}
	switch command {
	case "version":
		d.printf(d.Out, "%s\n", agent.VersionLine("skerry-edge"))
		return ExitOK
	case "supervise": // before anything is read: it stays, beside the agent
		return d.supervise(ctx, args)
	case "config":
		if f.defaults {
			d.printf(d.Out, "%s", configs.EdgeDefaults())
			return ExitOK
		}
	}
	src, err := f.source(d.Env)
	if err != nil {
		d.printf(d.Err, "skerry-edge: %v\n", err)
		return ExitConfig
	}
	return d.configured(ctx, f, src, args)
}

// configured does what takes a configuration.
func (d *Door) configured(ctx context.Context, f *flags, src configs.Source, args []string) int {
	command := f.set.Arg(0)
	cfg, err := load(src)
	if command == "config" && err != nil {
		_, err = loadWhole(src)
	}
	var at launched
	if command == "run" {
		var lerr error
		if at, lerr = d.launch(ctx, cfg, args); lerr != nil || at.over {
			return d.exit(lerr)
		}
	}
	if asked := command == "config" && f.join != ""; asked || command == "run" {
		err = errors.Join(err, joinFault(cfg, asked))
	}
	if err != nil && command != "doctor" {
		d.giveUp(at.self, fmt.Errorf("configuration: %w", err))
		d.stayed(at.self) // whoever wrote it is to blame
		d.printf(d.Err, "skerry-edge: configuration:\n  %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
		return ExitConfig
	}
	if command == "run" {
		return d.exit(d.run(ctx, f, at.self, agentConfig{cfg, src}))
	}
	return d.command(ctx, command, f, found{agentConfig{cfg, src}, err})
}

// found is a configuration that may have faults.
type found struct {
	agentConfig
	fault error
}

// exit tells of an error, if there is one.
func (d *Door) exit(err error) int {
	if err != nil {
		d.printf(d.Err, "skerry-edge: %v\n", err)
		return ExitError
	}
	return ExitOK
}

// giveUp has a program on trial say why it cannot even begin.
func (d *Door) giveUp(self *update.Self, why error) {
	if self == nil || !self.OnTrial() {
		return
	}
	if err := self.Fail(oneLine(why)); err != nil && !errors.Is(err, update.ErrReturned) {
		d.printf(d.Err, "skerry-edge: update: %v\n", err)
	}
}

func (d *Door) command(ctx context.Context, command string, f *flags, there found) int {
	var err error
	cfg := there.Edge
	code := ExitError
	switch command {
	case "status":
		err = d.status(ctx, cfg, f.output)
	case "doctor":
		code, err = d.doctor(ctx, there, f)
	case "leave":
		err = d.leave(ctx, cfg)
	case "config":
		if err = d.printConfig(cfg); err == nil {
			return d.lacks(there.src)
		}
	}
	if err != nil {
		d.printf(d.Err, "skerry-edge: %v\n", err)
		return code
	}
	if command == "doctor" {
		return code
	}
	return ExitOK
}

// lacks tells of what a configuration names and this machine does not have.
func (d *Door) lacks(src configs.Source) int {
	err := missing(src)
	if err == nil {
		return ExitOK
	}
	d.printf(d.Err, "skerry-edge: configuration, which run takes all the same:\n  %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	return ExitMissing
}

// wrong tells what is wrong with the command itself; empty: nothing.
func (f *flags) wrong() string {
	const known = "run, supervise, status, doctor, leave, config or version"
	switch args := f.set.Args(); {
	case len(args) == 0:
		return "no command; wanted " + known
	case !slices.Contains([]string{"run", "supervise", "status", "doctor", "leave", "config", "version"}, args[0]):
		return fmt.Sprintf("unknown command %q; wanted %s", args[0], known)
	case len(args) > 1:
		return fmt.Sprintf("%s takes no argument; got %q", args[0], args[1:])
	case f.output != "text" && f.output != "json":
		return fmt.Sprintf("-o %q: wanted text or json", f.output)
	}
	return ""
}

// source turns flags and environment into where the configuration comes from.
func (f *flags) source(env []string) (configs.Source, error) {
	src := configs.Source{File: f.config, Required: f.config != "", Env: env, Flags: map[string]string{}}
	for _, e := range env {
		if path, ok := strings.CutPrefix(e, configs.EdgeEnvPrefix+"CONFIG="); ok && src.File == "" {
			src.File, src.Required = path, true
		}
	}
	if src.File == "" {
		src.File = DefaultConfigFile
	}
	f.file = src.File
	for _, s := range f.settings {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return src, fmt.Errorf("--set %q: wanted key=value", s)
		}
		src.Flags[key] = value
	}
	if f.join != "" {
		src.Flags["join"] = f.join
	}
	return src, nil
}

// agentConfig is a configuration and where it came from.
type agentConfig struct {
	configs.Edge
	src configs.Source
}

func (d *Door) run(ctx context.Context, f *flags, self *update.Self, cfg agentConfig) error {
	stayed := func() { d.stayed(self) }
	defer context.AfterFunc(ctx, stayed)() // told to end, whatever becomes of that
	defer time.AfterFunc(update.Steady, stayed).Stop()
	a, err := New(cfg.Edge, cfg.src, d.Err)
	if err == nil {
		a.updates.self, a.args = self, f.plain()
		err = a.Run(ctx)
	}
	if ctx.Err() != nil {
		stayed()
	}
	if err != nil {
		d.giveUp(self, err)
	}
	return err
}

func (d *Door) status(ctx context.Context, cfg configs.Edge, output string) error {
	st, err := askStatus(ctx, cfg.RuntimeDir)
	if err != nil {
		return err
	}
	if output == "json" {
		enc := json.NewEncoder(d.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(st)
	}
	return st.write(d.Out)
}

// printf writes to w; a reader that has gone away ends nothing but the text.
func (d *Door) printf(w io.Writer, format string, args ...any) {
	if _, err := fmt.Fprintf(w, format, args...); err != nil && w != d.Err {
		d.printf(d.Err, "skerry-edge: write: %v\n", err)
	}
}

// printConfig prints the configuration in force, without the join string.
func (d *Door) printConfig(cfg configs.Edge) error {
	text, err := configs.Render(cfg)
	if err != nil {
		return err
	}
	_, err = io.WriteString(d.Out, text)
	return err
}
