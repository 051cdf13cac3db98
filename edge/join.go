package edge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/identity"
)

// joinOf returns the join string of cfg, read from a file when it begins with @, or else the one that an earlier start was
// given and could not use up. What is wrong with it is a *joinError.
func joinOf(cfg configs.Edge) (api.Join, error) {
	text, from := cfg.Join, fmt.Sprintf("(%d bytes, not shown)", len(cfg.Join))
	if path, ok := strings.CutPrefix(text, "@"); ok {
		from = text
		raw, err := os.ReadFile(path)
		if err != nil {
			return api.Join{}, &joinError{from, err}
		}
		text = string(raw)
	} else if text == "" {
		begun, err := identity.LoadPending(cfg.Dir)
		if err != nil {
			return api.Join{}, err
		}
		text, from = begun.Join, "(kept from an earlier start)"
	}
	if strings.TrimSpace(text) == "" {
		if cfg.Join == "" {
			from = ""
		}
		return api.Join{}, &joinError{from, errNoJoin}
	}
	join, err := api.ParseJoin(text)
	if err != nil {
		return api.Join{}, &joinError{from, err}
	}
	return join, nil
}

var errNoJoin = errors.New("this device is not enrolled and has none; on the cluster: skerry token create")

// joinError tells of a join string without telling it. From is where it was found, empty when there is none.
type joinError struct {
	from  string
	cause error
}

func (e *joinError) Error() string { return e.cause.Error() }
func (e *joinError) Unwrap() error { return e.cause }

// joinFault is what keeps a device without a certificate from ever enrolling: no restart mends it. Later, while the agent
// runs, the same is tried again, since a file may be written anew.
func joinFault(cfg configs.Edge) error {
	if id, err := identity.Load(cfg.Dir); err != nil && !identity.IsNone(err) || id != nil && id.Enrolled() {
		return nil // the join string does not matter; a damaged identity is told by who needs it
	}
	_, err := joinOf(cfg)
	return asFault(err)
}

// asFault makes what is wrong with a join string a fault of the configuration.
func asFault(err error) error {
	if e, ok := errors.AsType[*joinError](err); ok {
		return configs.Fault{Field: "join", Value: e.from, Wanted: "a join string, whole, as `skerry token create` prints it; " + e.Error()}
	}
	return err
}

// judgeJoin tells an installer, before it writes anything, whether a join string will do here.
func judgeJoin(cfg configs.Edge) (int, error) {
	if _, err := joinOf(cfg); err != nil {
		return ExitConfig, asFault(err)
	}
	if id, err := identity.Load(cfg.Dir); err == nil && id.Enrolled() {
		if other := otherCluster(cfg, id); other != "" {
			return ExitOtherCluster, errors.New(other)
		}
	}
	return ExitOK, nil
}

// otherCluster tells of a configured join string that leads to another cluster than the one this device is in; empty: none does.
func otherCluster(cfg configs.Edge, id *identity.Identity) string {
	if cfg.Join == "" {
		return ""
	}
	join, err := joinOf(cfg)
	if err != nil || id.Fits(join.CASHA256) { // one that cannot be read harms nobody who is enrolled
		return ""
	}
	return fmt.Sprintf("the join string is for another cluster (%s) and is not used: this device is %s of cluster %s; to move it: skerry-edge leave, "+
		"then stop it, remove %s and start it", strings.Join(join.Endpoints, ", "), id.Node, id.Cluster, cfg.Dir)
}

// putJoin tells how the agent of this device gets a join string: not in an argument, which others may read.
func putJoin(cfg configs.Edge, file string) string {
	if path, ok := strings.CutPrefix(cfg.Join, "@"); ok {
		return "write it to " + path + " (0600) and restart skerry-edge"
	}
	path := filepath.Join(filepath.Dir(file), "edge.join")
	return fmt.Sprintf("write it to %s (0600), have join: \"@%s\" in %s, and restart skerry-edge", path, path, file)
}

// conceal returns a copy of args, and overwrites every join string in argv, the memory of this process's argument list,
// which anybody on the machine can read (proc_pid_cmdline(5)). The runtime hands that memory out as os.Args (runtime.goargs),
// which is why argv may be nothing else: a string of the program's own cannot be written.
func conceal(args, argv []string) []string {
	out := make([]string, len(args))
	for i := range args {
		out[i] = strings.Clone(args[i])
	}
	for i, arg := range argv {
		secret := ""
		for _, flag := range []string{"--join=", "--set=join=", "join="} {
			if rest, ok := strings.CutPrefix(arg, flag); ok {
				secret = rest
			}
		}
		if i > 0 && argv[i-1] == "--join" {
			secret = arg
		}
		if secret == "" || strings.HasPrefix(secret, "@") {
			continue
		}
		memory := unsafe.Slice(unsafe.StringData(secret), len(secret))
		for j := range memory {
			memory[j] = '*'
		}
	}
	return out
}

// shown is argv without the join strings that were overwritten: what they said is kept where the next start finds it.
func shown(argv []string) []string {
	var out []string
	for i := 0; i < len(argv); i++ {
		if concealed(argv[i], "--join=") || concealed(argv[i], "--set=join=") {
			continue
		}
		if i+1 < len(argv) && (argv[i] == "--join" && concealed(argv[i+1], "") || argv[i] == "--set" && concealed(argv[i+1], "join=")) {
			i++
			continue
		}
		out = append(out, argv[i])
	}
	return out
}

func concealed(arg, flag string) bool {
	rest, ok := strings.CutPrefix(arg, flag)
	return ok && rest != "" && strings.Trim(rest, "*") == ""
}
