package swarm

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Scenario is a script: steps one after the other, except those in the background, which go on until they end or the
// next drain. Limit bounds all of it.
type Scenario struct {
	Name  string        `yaml:"name"`
	Limit time.Duration `yaml:"limit"`
	Steps []Step        `yaml:"steps"`
}

// Step is one thing to do. Which fields it reads is its verb's business; others must be unset.
type Step struct {
	// Do is ramp (nodes, rate), await (share, within), command (verb, rate, for, deadline, via, background), cut (share),
	// back, reset (share), hold (for), tier (tier, action, within), drain (within), assert (metric, op, value), account.
	Do         string        `yaml:"do"`
	Nodes      int           `yaml:"nodes"`
	Rate       float64       `yaml:"rate"`  // a second
	Share      float64       `yaml:"share"` // of the nodes that were started
	For        time.Duration `yaml:"for"`
	Within     time.Duration `yaml:"within"`
	Verb       string        `yaml:"verb"`
	Deadline   time.Duration `yaml:"deadline"`
	Via        string        `yaml:"via"` // rest, mqtt
	Background bool          `yaml:"background"`
	Tier       string        `yaml:"tier"`
	Action     string        `yaml:"action"` // start, kill, await
	Metric     string        `yaml:"metric"` // one of Metrics
	Op         string        `yaml:"op"`     // >=, <=, ==
	Value      float64       `yaml:"value"`
}

// maxCommands bounds the commands of one step.
const maxCommands = 1 << 20

// ParseScenario reads a scenario; the error names every fault.
func ParseScenario(text []byte) (Scenario, error) {
	s := Scenario{Limit: time.Hour}
	if err := strict(text, &s); err != nil {
		return s, fmt.Errorf("scenario: %w", err)
	}
	return s, s.Validate()
}

// fields lists what each kind of step reads.
func fields(do string) ([]string, bool) {
	known := map[string][]string{
		"ramp": {"nodes", "rate"}, "await": {"share", "within"}, "command": {"verb", "rate", "for", "deadline", "via", "background"},
		"cut": {"share"}, "back": {}, "reset": {"share"}, "hold": {"for"}, "tier": {"tier", "action", "within"}, "drain": {"within"},
		"assert": {"metric", "op", "value"}, "account": {},
	}
	f, ok := known[do]
	return f, ok
}

// Validate returns every fault of s.
func (s *Scenario) Validate() error {
	var bad faults
	bad.need(s.Limit > 0 && s.Limit <= 30*24*time.Hour, "limit", s.Limit, "above zero, up to 720h")
	bad.need(len(s.Steps) > 0 && len(s.Steps) <= 10_000, "steps", len(s.Steps), "1 to 10000")
	for i := range s.Steps {
		s.Steps[i].validate(fmt.Sprintf("steps[%d]", i), &bad)
	}
	return errors.Join(bad...)
}

func (s *Step) validate(at string, bad *faults) {
	reads, ok := fields(s.Do)
	bad.need(ok, at+".do", s.Do, "ramp, await, command, cut, back, reset, hold, tier, drain, assert or account")
	if !ok {
		return
	}
	for _, f := range []struct {
		name   string
		set    bool
		sane   bool
		needed bool
		want   string
	}{
		{"nodes", s.Nodes != 0, s.Nodes >= 0 && s.Nodes <= account.MaxNodes, false, "0 (all) to the profile's nodes"},
		{"rate", s.Rate != 0, s.Rate > 0 && s.Rate <= 100_000, true, "above zero, a second"},
		{"share", s.Share != 0, s.Share > 0 && s.Share <= 1, true, "above 0, up to 1"},
		{"for", s.For != 0, s.For > 0, true, "a duration above zero"},
		{"within", s.Within != 0, s.Within > 0, true, "a duration above zero"},
		{"verb", s.Verb != "", api.ValidID("verb", s.Verb) == nil, true, "a verb"},
		{"deadline", s.Deadline != 0, s.Deadline >= time.Second, true, "at least 1s"},
		{"via", s.Via != "", s.Via == "rest" || s.Via == "mqtt", false, "rest or mqtt"},
		{"background", s.Background, true, false, ""},
		{"tier", s.Tier != "", true, true, "the name of a tier"},
		{"action", s.Action != "", slices.Contains([]string{"start", "kill", "await"}, s.Action), true, "start, kill or await"},
		{"metric", s.Metric != "", slices.Contains(Metrics(), s.Metric), true, fmt.Sprint("one of ", Metrics())},
		{"op", s.Op != "", slices.Contains([]string{">=", "<=", "=="}, s.Op), true, ">=, <= or =="},
		{"value", s.Value != 0, true, false, ""},
	} {
		read := slices.Contains(reads, f.name)
		switch {
		case !read:
			bad.need(!f.set, at+"."+f.name, "is set", "nothing: "+s.Do+" does not read it")
		case f.set || f.needed:
			bad.need(f.set && f.sane, at+"."+f.name, fmt.Sprintf("of %s", s.Do), f.want)
		}
	}
	bad.need(s.Do != "command" || s.Rate*s.For.Seconds() <= maxCommands, at+".rate × for", s.Rate*s.For.Seconds(), fmt.Sprint("at most ", maxCommands))
}
