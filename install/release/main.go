// Command release makes a release: programs for every target, packages, images, bills of materials, a signed manifest and
// a bundle for sites without a network. make release calls it; docs/install.md says what comes out.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

// settings are what a release is made from. The same settings over the same sources give the same bytes.
type settings struct {
	source  string    // the root of the repository
	out     string    // below it a directory named after the version
	version string    // semantic, without a v
	commit  string    // of the sources
	built   time.Time // of the commit: every file has this time
	trust   []release.Key
	keyFile string   // Ed25519 in PEM (PKCS #8); empty: a throw-away key is made in out
	url     string   // of the server that will serve it: what install.sh asks when SKERRY_URL does not say
	channel string   // that points to this release afterwards
	only    []string // targets; empty: all
	bundle  bool
	log     io.Writer
}

func parse(args []string, log io.Writer) (settings, error) {
	s := settings{log: log}
	var unix int64
	var only, trust string
	set := flag.NewFlagSet("release", flag.ContinueOnError)
	set.SetOutput(log)
	set.StringVar(&s.source, "source", ".", "root of the repository")
	set.StringVar(&s.out, "out", "dist", "directory to write to")
	set.StringVar(&s.version, "version", "", "semantic version of the release")
	set.StringVar(&s.commit, "commit", "unknown", "commit of the sources")
	set.Int64Var(&unix, "stamp", 0, "time of that commit, in seconds since 1970")
	set.StringVar(&s.keyFile, "key", "", "file with the release key, Ed25519 in PEM; without one a throw-away key is made")
	set.StringVar(&trust, "trust", "", "further public keys that the programs trust releases by, with commas: of before or after a change of keys")
	set.StringVar(&s.url, "url", "", "URL of the release server, which install.sh asks by itself")
	set.StringVar(&s.channel, "channel", "stable", "channel that points to this release")
	set.StringVar(&only, "targets", "", "targets, with commas; all when empty")
	set.BoolVar(&s.bundle, "bundle", true, "write the bundle for sites without a network")
	if err := set.Parse(args); err != nil {
		return s, err
	}
	if only != "" {
		s.only = strings.Split(only, ",")
	}
	for text := range strings.SplitSeq(trust, ",") {
		if text == "" {
			continue
		}
		k, err := release.ParseKey(text)
		if err != nil {
			return s, fmt.Errorf("trust: %w", err)
		}
		s.trust = append(s.trust, k)
	}
	s.built = time.Unix(unix, 0).UTC()
	return s, s.validate()
}

func run(ctx context.Context, args []string, log io.Writer) error {
	s, err := parse(args, log)
	if err != nil {
		return err
	}
	return s.release(ctx, programs)
}

// release makes one of those programs and publishes it.
func (s settings) release(ctx context.Context, programs []program) error {
	k, err := loadKey(s)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.out, s.version)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	m := &maker{settings: s, key: k, dir: dir, programs: programs}
	if err := m.make(ctx); err != nil {
		return err
	}
	return m.publish()
}

// say tells what is done, on a line of its own.
func (s settings) say(format string, args ...any) { _, _ = fmt.Fprintf(s.log, format+"\n", args...) }
