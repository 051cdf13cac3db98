package verb

import (
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxArgs     = 64
	maxArgBytes = 4 << 10
)

// Allow is one thing that exec may run. A request names it by Name or by the path in Argv[0]; what follows must be the
// rest of Argv when named by path, and then one argument for each of Args that matches it from beginning to end.
// Arguments at the end may be left out where their pattern matches the empty string.
type Allow struct {
	Name    string
	Argv    []string // program by absolute path, and arguments that are always there
	Args    []string // regular expressions (RE2) of the arguments that a request adds
	User    string   // runs as this user; empty: as the agent
	Dir     string   // works here; empty: /
	Env     map[string]string
	Timeout time.Duration // 0: only the deadline
}

// rule is a compiled Allow.
type rule struct {
	Allow
	args []*regexp.Regexp
}

// compileRules checks allow and reports all faults at once.
func compileRules(allow []Allow) ([]rule, error) {
	var faults []error
	AllowFaults(allow, func(field string, value any, wanted string) {
		faults = append(faults, fmt.Errorf("exec%s %q: wanted %s", field, fmt.Sprint(value), wanted))
	})
	rules := make([]rule, len(allow))
	for i, a := range allow {
		rules[i].Allow = a
		for _, pattern := range a.Args {
			re, err := whole(pattern)
			if err != nil { // told above
				break
			}
			rules[i].args = append(rules[i].args, re)
		}
	}
	return rules, errors.Join(faults...)
}

// AllowFaults tells every fault of an allow-list: the field, which begins with the entry's number, its value and what was wanted.
func AllowFaults(allow []Allow, tell func(field string, value any, wanted string)) {
	for i, a := range allow {
		need := func(ok bool, field string, value any, wanted string) {
			if !ok {
				tell(fmt.Sprintf("[%d]%s", i, field), value, wanted)
			}
		}
		need(a.Name != "" && !strings.ContainsAny(a.Name, "/\x00"), ".name", a.Name, "a name without slashes")
		need(a.Name == "" || !slices.ContainsFunc(allow[:i], func(o Allow) bool { return o.Name == a.Name }), ".name", a.Name, "one that no other entry has")
		need(len(a.Argv) > 0 && filepath.IsAbs(a.Argv[0]), ".argv", a.Argv, "a program by absolute path, then its arguments")
		need(a.Dir == "" || filepath.IsAbs(a.Dir), ".dir", a.Dir, "an absolute path")
		need(a.Timeout >= 0, ".timeout", a.Timeout, "0s or more")
		need(len(a.Argv)+len(a.Args) <= maxArgs, "", fmt.Sprint(len(a.Argv)+len(a.Args), " arguments"), fmt.Sprint("at most ", maxArgs))
		for k := range a.Env {
			need(k != "" && !strings.ContainsAny(k, "=\x00"), ".env", k, "a name without =")
		}
		for k, pattern := range a.Args {
			if _, err := whole(pattern); err != nil {
				need(false, fmt.Sprintf(".args[%d]", k), pattern, "a regular expression: "+err.Error())
			}
		}
	}
}

// AllowMissing tells, as AllowFaults does, what an allow-list names that this machine does not have now: users, who may come and go.
func AllowMissing(allow []Allow, tell func(field string, value any, wanted string)) {
	for i, a := range allow {
		_, err := credentialOf(a.User)
		if err == nil {
			continue
		}
		wanted := "a user of this machine"
		if _, unknown := errors.AsType[user.UnknownUserError](err); !unknown {
			wanted += ": " + err.Error()
		}
		tell(fmt.Sprintf("[%d].user", i), a.User, wanted)
	}
}

// whole compiles a pattern that matches a whole argument.
func whole(pattern string) (*regexp.Regexp, error) { return regexp.Compile(`\A(?:` + pattern + `)\z`) }

// match returns what argv runs, or why nothing of rules allows it.
func match(rules []rule, argv []string) (rule, []string, error) {
	if len(argv) == 0 || argv[0] == "" {
		return rule{}, nil, errors.New("args.argv is empty; wanted a program and its arguments")
	}
	if len(argv) > maxArgs {
		return rule{}, nil, fmt.Errorf("args.argv has %d entries; wanted at most %d", len(argv), maxArgs)
	}
	for i, a := range argv {
		if strings.ContainsRune(a, 0) || len(a) > maxArgBytes {
			return rule{}, nil, fmt.Errorf("args.argv[%d]: wanted no NUL and at most %d bytes", i, maxArgBytes)
		}
	}
	why := fmt.Errorf("args.argv[0] %.40q is not allowed on this node; %s", argv[0], wantedOf(rules))
	for _, r := range rules {
		run, err := r.match(argv)
		if err == nil {
			return r, run, nil
		}
		if argv[0] == r.Name || argv[0] == r.Argv[0] {
			why = err // the nearest miss tells most
		}
	}
	return rule{}, nil, why
}

func (r *rule) match(argv []string) ([]string, error) {
	var added []string
	switch {
	case argv[0] == r.Name:
		added = argv[1:]
	case len(argv) >= len(r.Argv) && slices.Equal(argv[:len(r.Argv)], r.Argv):
		added = argv[len(r.Argv):]
	default:
		return nil, fmt.Errorf("args.argv %.80q is not allowed here; wanted it to begin with %.80q", argv, r.Argv)
	}
	first := len(argv) - len(added)
	if len(added) > len(r.args) {
		return nil, fmt.Errorf("args.argv[%d] %.40q is one argument too many for %s; wanted %d",
			first+len(r.args), added[len(r.args)], r.Name, len(r.args))
	}
	for i, re := range r.args {
		switch {
		case i < len(added) && !re.MatchString(added[i]):
			return nil, fmt.Errorf("args.argv[%d] %.40q is not allowed for %s; wanted %s",
				first+i, added[i], r.Name, r.Args[i])
		case i >= len(added) && !re.MatchString(""):
			return nil, fmt.Errorf("args.argv[%d] is missing for %s; wanted %s", first+i, r.Name, r.Args[i])
		}
	}
	return append(slices.Clone(r.Argv), added...), nil
}

// wantedOf says what the node's configuration allows.
func wantedOf(rules []rule) string {
	if len(rules) == 0 {
		return "its configuration allows no program (command.exec)"
	}
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = r.Name + " (" + strings.Join(r.Argv, " ") + ")"
	}
	return "wanted " + strings.Join(names, ", ")
}
