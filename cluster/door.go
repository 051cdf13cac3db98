package cluster

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/mqtt"
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
  broker-config  write mosquitto.conf, its access list and certificates into --out, for an external broker
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
	if command == "version" {
		d.printf(d.Out, "%s\n", agent.VersionLine("skerry-cluster"))
		return ExitOK
	}
	if command == "config" && *defaults {
		d.printf(d.Out, "%s", configs.ClusterDefaults())
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
	case "broker-config":
		err = d.brokerConfig(ctx, cfg, *out)
	}
	if err != nil {
		d.printf(d.Err, "skerry-cluster: %v\n", err)
		return ExitError
	}
	return ExitOK
}

// wrongCommand tells what is wrong with the command itself; empty: nothing.
func wrongCommand(args []string) string {
	const known = "run, config, broker-config or version"
	switch {
	case len(args) == 0:
		return "no command; wanted " + known
	case !slices.Contains([]string{"run", "config", "broker-config", "version"}, args[0]):
		return fmt.Sprintf("unknown command %q; wanted %s", args[0], known)
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

// brokerConfig writes what mosquitto needs to stand in for the embedded broker. The cluster agent must be stopped: it
// holds its store. Certificates for mosquitto live as long as the listener's own, so it is run again from a timer.
func (d *Door) brokerConfig(ctx context.Context, cfg configs.Cluster, dir string) error {
	a, err := New(cfg, d.Err)
	if err != nil {
		return err
	}
	db, err := openStore(cfg.Dir)
	if err != nil {
		return err
	}
	defer db.Close()
	if a.authority, err = enroll.OpenAuthority(ctx, enroll.AuthorityConfig{Dir: cfg.Dir, Cluster: cfg.Cluster}); err != nil {
		return err
	}
	if a.enroll, err = enroll.Open(enroll.Config{Cluster: cfg.Cluster, Root: a.topics.Root, DB: db, Authority: a.authority, Nodes: nobody{}, Log: a.log,
		Endpoints: a.urls("https", ":8443"), MQTT: a.urls("mqtts", ":8883")}); err != nil {
		return err
	}
	files, err := a.brokerFiles(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write broker configuration: %w", err)
	}
	for name, text := range files {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".key") {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, mode); err != nil {
			return fmt.Errorf("write broker configuration: %w", err)
		}
		d.printf(d.Out, "wrote %s\n", filepath.Join(dir, name))
	}
	return nil
}

// nobody is told of enrolments: there are none here.
type nobody struct{ enroll.Nodes }

// brokerFiles are mosquitto's files by name; dir is where they will lie.
func (a *Agent) brokerFiles(dir string) (map[string][]byte, error) {
	names, err := a.advertised()
	if err != nil {
		return nil, err
	}
	listener, err := enroll.NewListener(a.authority, append(names, "localhost", "127.0.0.1")...)
	if err != nil {
		return nil, err
	}
	cert, err := listener.GetCertificate(nil)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode broker key: %w", err)
	}
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	crl, err := a.enroll.CRL()
	if err != nil {
		return nil, err
	}
	operators, err := a.enroll.ListOperators()
	if err != nil {
		return nil, err
	}
	var ids []mqtt.Identity
	for _, op := range operators {
		if !op.Revoked {
			ids = append(ids, mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: op.Name, Role: op.Role, Cluster: a.cfg.Cluster})
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	m := mqtt.Mosquitto{Listen: "8883", CA: at("ca.crt"), Certificate: at("broker.crt"), Key: at("broker.key"), CRL: at("crl.pem"),
		ACL: at("acl"), Operators: ids}
	return map[string][]byte{"mosquitto.conf": []byte(m.Config()), "acl": []byte(m.AccessList(a.topics)), "ca.crt": a.authority.BundlePEM(),
		"broker.crt": chain, "broker.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "crl.pem": crl}, nil
}

// printf writes to w; a reader that has gone away ends nothing but the text.
func (d *Door) printf(w io.Writer, format string, args ...any) {
	if _, err := fmt.Fprintf(w, format, args...); err != nil && w != d.Err {
		d.printf(d.Err, "skerry-cluster: write: %v\n", err)
	}
}
