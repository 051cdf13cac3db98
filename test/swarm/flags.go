package swarm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
)

// flags are what the command line says. Those that are profile fields count only when they are given.
type flags struct {
	set                                   *pflag.FlagSet
	join, identities, profile, scenario   string
	access, cluster, clusterDir, dir, out string
	urls                                  []string
	p                                     Profile
	rate, commands                        float64
	hold                                  time.Duration
	sources                               int
	settings                              []string
	print                                 bool
}

func (d *Door) flags() *flags {
	f := &flags{set: pflag.NewFlagSet("skerry-swarm", pflag.ContinueOnError)}
	f.set.SortFlags = false
	f.set.SetOutput(d.Err)
	f.set.Usage = func() { fmt.Fprint(d.Err, usageText, f.set.FlagUsages()) }
	v := f.set
	v.IntVar(&f.p.Nodes, "nodes", 100, "how many")
	v.StringVar(&f.join, "join", "", "join string, or @file, as skerry token create prints it")
	v.StringVar(&f.identities, "identities", "", "directory of certificates: those there are used, others are made and kept")
	v.StringVar(&f.access, "access", "", "contexts file with an administrator's access, such as the cluster agent's admin.yaml")
	v.StringSliceVar(&f.urls, "url", nil, "broker, such as mqtts://host:8883, in place of the one that the cluster agent names")
	v.StringVar(&f.cluster, "cluster", "", "path of skerry-cluster: one is started on this machine and ended at the end")
	v.StringVar(&f.clusterDir, "cluster-dir", "", "directory of that one (default a temporary one)")
	v.StringArrayVar(&f.settings, "cluster-set", nil, "key=value of its configuration, may be repeated")
	v.StringVar(&f.profile, "profile", "", "YAML file that says what the nodes are like")
	v.BoolVar(&f.print, "print-profile", false, "print the profile that results from --profile and the flags, and do nothing else")
	v.StringVar(&f.scenario, "scenario", "", "YAML file of steps, in place of the default one")
	f.p.Cadence = 30 * time.Second
	v.Var((*configs.Duration)(&f.p.Cadence), "cadence", "between two rows of samples of a node")
	v.IntVar(&f.p.Series, "series", 20, "of each node")
	v.IntVar(&f.p.BatchRows, "batch-rows", 1, "rows in a message")
	v.Float64Var(&f.p.Churn.PerMinute, "churn", 0, "share of the nodes that is disconnected each minute")
	v.StringVar(&f.p.Prefix, "prefix", "swarm", "of the node ids")
	v.Float64Var(&f.rate, "rate", 50, "nodes started each second")
	v.IntVar(&f.sources, "sources", 1, "addresses of 127.0.0.0/8 to connect from, when the cluster agent is there too")
	v.Float64Var(&f.commands, "commands", 0, "commands given each second, through REST")
	f.hold = time.Minute
	v.Var((*configs.Duration)(&f.hold), "for", "how long, once all are online")
	v.StringVar(&f.dir, "dir", "", "directory for what is on disk (default a temporary one)")
	v.StringVarP(&f.out, "output", "o", "table", "table or json")
	return f
}

// load reads the files and lays the flags over them. It tells all that is wrong.
func (f *flags) load() (Profile, Scenario, error) {
	var errs []error
	read := func(path string) []byte {
		if path == "" {
			return nil
		}
		raw, err := os.ReadFile(path)
		errs = append(errs, err)
		return raw
	}
	profile := DefaultProfile()
	if text := read(f.profile); text != nil {
		if err := strict(text, &profile); err != nil {
			errs = append(errs, fmt.Errorf("profile %s: %w", f.profile, err))
		}
	}
	for name, take := range map[string]func(){
		"nodes": func() { profile.Nodes = f.p.Nodes }, "cadence": func() { profile.Cadence = f.p.Cadence }, "series": func() { profile.Series = f.p.Series },
		"batch-rows": func() { profile.BatchRows = f.p.BatchRows }, "churn": func() { profile.Churn.PerMinute = f.p.Churn.PerMinute },
		"prefix": func() { profile.Prefix = f.p.Prefix },
	} {
		if f.set.Changed(name) {
			take()
		}
	}
	errs = append(errs, profile.Validate())
	scenario := f.usual(&profile)
	if text := read(f.scenario); text != nil {
		var err error
		scenario, err = ParseScenario(text)
		errs = append(errs, err)
	} else if f.scenario == "" {
		errs = append(errs, scenario.Validate())
	}
	if !f.print && f.join == "" && f.identities == "" && f.access == "" && f.cluster == "" {
		errs = append(errs, errors.New("whom to simulate for? give --join, --access, --cluster or --identities"))
	}
	return profile, scenario, errors.Join(errs...)
}

// usual is the scenario without a file.
func (f *flags) usual(p *Profile) Scenario {
	s := Scenario{Name: "usual", Limit: f.hold + time.Duration(float64(p.Nodes)/f.rate*float64(time.Second)) + 30*time.Minute}
	s.Steps = []Step{{Do: "ramp", Rate: f.rate}, {Do: "await", Share: 1, Within: 10 * time.Minute}}
	if f.commands > 0 && len(p.Handlers) > 0 {
		s.Steps = append(s.Steps, Step{Do: "command", Verb: p.Handlers[0].Verb, Rate: f.commands, For: f.hold, Deadline: time.Minute, Background: true})
	}
	s.Steps = append(s.Steps, Step{Do: "hold", For: f.hold}, Step{Do: "drain", Within: 5 * time.Minute})
	if f.access != "" || f.cluster != "" {
		s.Steps = append(s.Steps, Step{Do: "account"})
	}
	return s
}

// joinOf fills in the join string: the one given, or a fresh one if the site is ours to administer and it is needed.
func (f *flags) joinOf(ctx context.Context, site *Site, cfg *Config) error {
	text := f.join
	if path, ok := strings.CutPrefix(text, "@"); ok {
		raw, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read join string: %w", err)
		}
		text = string(raw)
	}
	var err error
	switch {
	case text != "":
		cfg.Join, err = api.ParseJoin(text)
	case site != nil:
		cfg.Join, err = site.Join(ctx, cfg.Profile.Nodes)
	}
	if site != nil {
		cfg.Named = append(cfg.Named, site.Server)
	}
	return err
}
