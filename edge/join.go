package edge

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/identity"
)

// joinOf returns the join string of cfg, read from a file when it begins with @, or else the one that an earlier start was
// given and could not use up. What is wrong with it is a *joinError.
func joinOf(cfg configs.Edge) (*api.Join, error) {
	text, from := cfg.Join, fmt.Sprintf("(%d bytes, not shown)", len(cfg.Join))
	if path, ok := strings.CutPrefix(text, "@"); ok {
		from = text
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, &joinError{from, err}
		}
		text = string(raw)
	} else if text == "" {
		begun, err := identity.LoadPending(cfg.Dir)
		if err != nil {
			return nil, err
		}
		text, from = begun.Join, "(kept from an earlier start)"
	}
	if strings.TrimSpace(text) == "" {
		if cfg.Join == "" {
			from = ""
		}
		return nil, &joinError{from, errNoJoin}
	}
	join, err := api.ParseJoin(text)
	if err != nil {
		return nil, &joinError{from, err}
	}
	return &join, nil
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
// runs, the same is tried again, since a file may be written anew. With a certificate the join string does not matter, but to
// an installer who asks before he writes it.
func joinFault(cfg configs.Edge, asked bool) error {
	id, err := identity.Load(cfg.Dir)
	joined := id != nil && id.Enrolled()
	if !asked && (joined || err != nil && !identity.IsNone(err)) { // a damaged identity is told by who needs it
		return nil
	}
	join, err := joinOf(cfg)
	if e, ok := errors.AsType[*joinError](err); ok {
		return configs.Fault{Field: "join", Value: e.from, Wanted: "a join string, whole, as `skerry token create` prints it; " + e.Error()}
	}
	if err == nil && joined {
		err = id.Stray(join.CASHA256)
	}
	return err
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
