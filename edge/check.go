package edge

import (
	"strings"

	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command/verb"
)

// load reads a configuration and finds all that is wrong with it. What it takes, builds: run, config, the doctor, config.set and desired
// configurations share it, so that what one of them accepts no other refuses, but for what is missing.
func load(src configs.Source) (configs.Edge, error) { return configs.LoadEdge(src, check) }

// loadWhole finds besides what load does what is missing on this machine: a fault wherever somebody asks and hears the answer.
func loadWhole(src configs.Source) (configs.Edge, error) {
	return configs.LoadEdge(src, check, present)
}

// missing tells of a configuration that load takes what this machine does not have of it now. It may come, as a user does with a
// package, and what needs it works then: where the agent acts by itself, at a start or for a desired configuration, it is an alarm at most.
func missing(src configs.Source) error {
	_, err := configs.LoadEdge(src, present)
	return err
}

// present has those judge who look for what a configuration names on this machine.
func present(cfg *configs.Edge, tell func(field string, value any, wanted string)) {
	verb.AllowMissing(allowed(cfg.Command.Exec), func(field string, value any, wanted string) { tell("command.exec"+field, value, wanted) })
}

// check has those judge a configuration who work by it. configs has its say of the rest of telemetry.
func check(cfg *configs.Edge, tell func(field string, value any, wanted string)) {
	probeConfig(cfg.Telemetry).Faults(func(field string, value any, wanted string) {
		if field != "interval" && field != "max_series" {
			tell("telemetry."+field, value, wanted)
		}
	})
	verb.AllowFaults(allowed(cfg.Command.Exec), func(field string, value any, wanted string) { tell("command.exec"+field, value, wanted) })
	for _, path := range cfg.Command.Logs {
		if strings.TrimSpace(path) == "" || path == verb.AgentLog {
			tell("command.logs", path, "the path of a file")
		}
	}
}
