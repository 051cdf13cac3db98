package cli

import (
	"strings"
	"testing"
)

func TestAWrongCommandLineIsToldWhatWasWanted(t *testing.T) {
	for args, want := range map[string]string{
		"describe nodes":                "1 arguments; wanted node|command NAME; see: skerry describe --help",
		"doctor now":                    "1 arguments; wanted none; see: skerry doctor --help",
		"approve":                       "0 arguments; wanted ENROLLMENT; see: skerry approve --help",
		"token create --uses x":         `"--uses" flag: wanted a number; see: skerry token create --help`,
		"run ping --on n1 --foo":        "unknown flag: --foo; see: skerry run --help",
		"token create --ttl five":       "wanted a duration such as 500ms, 10s, 5m or 7d; see: skerry token create --help",
		"query up --range -1h":          "--range -1h0m0s: wanted a duration above zero, such as 1h",
		"query up --range 0s":           "--range 0s: wanted a duration above zero",
		"query up --range 1h --step 0s": "--step 0s: wanted a duration above zero",
		"token create --ttl 0s":         "--ttl 0s: wanted a duration above zero, such as 1h",
		"operator create x --ttl 0s":    "--ttl 0s: wanted a duration above zero",
		"access create x --ttl -1h":     "--ttl -1h0m0s: wanted a duration above zero",
	} {
		code, _, errs := run(t, nil, strings.Fields(args)...)
		if code != ExitUsage || !strings.Contains(errs, want) {
			t.Errorf("skerry %s: exit %d, %s; wanted %q", args, code, errs, want)
		}
	}
}
