package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
)

// The exit codes. ExitConfig is one that a restart cannot mend (RestartPreventExitStatus=2).
const (
	ExitOK     = 0
	ExitError  = 1
	ExitConfig = 2
)

// DefaultConfigFile is read when --config and SKERRY_CLUSTER_CONFIG say nothing; it may be absent.
const DefaultConfigFile = "/etc/skerry/cluster.yaml"

const usageText = `skerry-cluster, the Skerry cluster agent

usage: skerry-cluster COMMAND [flags]

  run            serve nodes and operators (stop with SIGTERM)
  config         check the configuration; --defaults prints the commented defaults
  admin          print the administrator's context that the first run wrote (admin.yaml in dir), for skerry
  broker-config  write mosquitto.conf, its access list and certificates into --out, for an external broker
  rbac           print the namespace, the service account and the roles for kubectl apply -f -; --k3s-join and --secrets-in choose
  version        print the version

flags:
`

// Door is the command line of skerry-cluster.
type Door struct {
	Out, Err io.Writer
	Env      []string
}

// Main runs the command line and returns the exit code.
func (d *Door) Main(ctx context.Context, args []string) int {
	set := pflag.NewFlagSet("skerry-cluster", pflag.ContinueOnError)
	set.SetOutput(d.Err)
	set.Usage = func() { d.printf(d.Err, "%s%s", usageText, set.FlagUsages()) }
	file := set.StringP("config", "c", "", "configuration file (default "+DefaultConfigFile+", if it exists)")
	settings := set.StringArray("set", nil, "key=value of the configuration, may be repeated")
	defaults := set.Bool("defaults", false, "config: print the commented defaults")
	out := set.String("out", ".", "broker-config: where to write")
	owner := set.String("owner", "", "broker-config: the user that the broker runs as (default "+brokerUser+", when there is one)")
	join := set.Bool("k3s-join", false, "rbac: with the rights of k3s.join and k3s.leave, which are an administrator's of the whole cluster")
	secretsIn := set.String("secrets-in", secretsAll, "rbac: namespaces whose Secrets pods on devices may refer to, as in a,b; or none")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return ExitOK
		}
		d.printf(d.Err, "skerry-cluster: %v; see: skerry-cluster --help\n", err)
		return ExitConfig
	}
	if wrong := wrongCommand(set.Args()); wrong != "" {
		d.printf(d.Err, "skerry-cluster: %s; see: skerry-cluster --help\n", wrong)
		return ExitConfig
	}
	command := set.Arg(0)
	if command == "rbac" {
		return d.rbac(*join, *secretsIn)
	}
	if text := known(command, *defaults); text != "" {
		d.printf(d.Out, "%s", text)
		return ExitOK
	}
	src, err := source(*file, *settings, d.Env)
	if err != nil {
		d.printf(d.Err, "skerry-cluster: %v\n", err)
		return ExitConfig
	}
	cfg, err := configs.LoadCluster(src)
	if err != nil {
		d.printf(d.Err, "skerry-cluster: configuration:\n  %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
		return ExitConfig
	}
	switch command {
	case "run":
		err = run(ctx, cfg, d.Err)
	case "config":
		d.printf(d.Out, "configuration is valid\n")
	case "admin":
		err = d.admin(cfg)
	case "broker-config":
		err = d.brokerConfig(ctx, cfg, *out, *owner)
	}
	if errors.Is(err, errOwner) {
		d.printf(d.Err, "skerry-cluster: %v\n", err)
		return ExitConfig
	}
	if err != nil {
		d.printf(d.Err, "skerry-cluster: %v\n", err)
		return ExitError
	}
	return ExitOK
}

// known is what a command prints whatever the configuration is; empty: it needs one.
func known(command string, defaults bool) string {
	switch {
	case command == "version":
		return agent.VersionLine("skerry-cluster") + "\n"
	case command == "config" && defaults:
		return string(configs.ClusterDefaults())
	}
	return ""
}

// admin prints the context as it stands: in a container nothing else could.
func (d *Door) admin(cfg configs.Cluster) error {
	raw, err := os.ReadFile(filepath.Join(cfg.Dir, adminFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; wanted the file that the first run writes: has skerry-cluster run, or was it taken away?", err)
	}
	if err == nil {
		_, err = d.Out.Write(raw)
	}
	return err
}

// wrongCommand tells what is wrong with the command itself; empty: nothing.
func wrongCommand(args []string) string {
	const all = "run, config, admin, broker-config, rbac or version"
	switch {
	case len(args) == 0:
		return "no command; wanted " + all
	case !slices.Contains([]string{"run", "config", "admin", "broker-config", "rbac", "version"}, args[0]):
		return fmt.Sprintf("unknown command %q; wanted %s", args[0], all)
	case len(args) > 1:
		return fmt.Sprintf("%s takes no argument; got %q", args[0], args[1:])
	}
	return ""
}

func run(ctx context.Context, cfg configs.Cluster, w io.Writer) error {
	a, err := New(cfg, w)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

func source(file string, settings, env []string) (configs.Source, error) {
	src := configs.Source{File: file, Required: file != "", Env: env, Flags: map[string]string{}}
	for _, e := range env {
		if path, ok := strings.CutPrefix(e, configs.ClusterEnvPrefix+"CONFIG="); ok && src.File == "" {
			src.File, src.Required = path, true
		}
	}
	if src.File == "" {
		src.File = DefaultConfigFile
	}
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return src, fmt.Errorf("--set %q: wanted key=value", s)
		}
		src.Flags[key] = value
	}
	return src, nil
}

// printf writes to w; a reader that has gone away ends nothing but the text.
func (d *Door) printf(w io.Writer, format string, args ...any) {
	if _, err := fmt.Fprintf(w, format, args...); err != nil && w != d.Err {
		d.printf(d.Err, "skerry-cluster: write: %v\n", err)
	}
}
