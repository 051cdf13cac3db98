package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
)

// defaultRequestTimeout is long for a person, and enough for a large fleet's list over a slow link.
const defaultRequestTimeout = 30 * time.Second

// App is one run of the command line.
type App struct {
	Out, Err io.Writer
	In       io.Reader
	Env      func(string) string
	Now      func() time.Time

	context   string        // --context
	server    string        // --server, in place of the context's
	timeout   time.Duration // --request-timeout
	tokenFile string        // --token-file, in place of the context's token
}

// Main runs the command line args (without the program's name) and returns the exit code.
func (a *App) Main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	return report(a.Err, root.ExecuteContext(ctx))
}

func (a *App) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "skerry",
		Short: "Look after far-edge nodes: watch them, command them, admit and remove them",
		Long: `Look after far-edge nodes: watch them, command them, admit and remove them.

Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 not permitted, 5 cluster agent unreachable, 6 conflict (a node that is offline, too),
7 a command ended otherwise than succeeded, 8 not finished within --timeout, 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // an unknown command is ours to refuse, with our exit code
	}
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetIn(a.In)
	root.SetFlagErrorFunc(flagFault)
	flags := root.PersistentFlags()
	flags.StringVar(&a.context, "context", "", "context to use, in place of the current one")
	flags.StringVar(&a.server, "server", "", "https://host:port of the cluster agent, in place of the context's")
	flags.StringVar(&a.tokenFile, "token-file", "", "file with the bearer token, read for every request, in place of the context's")
	a.timeout = defaultRequestTimeout
	flags.Var((*configs.Duration)(&a.timeout), "request-timeout", "give up on an answer of the cluster agent after this")
	_ = root.RegisterFlagCompletionFunc("context", a.completeContext) // the flag is there
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.timeout <= 0 {
			return usage(fmt.Errorf("--request-timeout %s: wanted a duration above zero", a.timeout))
		}
		return nil
	}
	root.AddCommand(a.getCommand(), a.describeCommand(), a.runCommand(), a.cancelCommand(), a.topCommand(), a.queryCommand(),
		a.logsCommand(), a.cpCommand(), a.tokenCommand(), a.approveCommand(), a.nodeCommand(), a.operatorCommand(),
		a.accessCommand(), a.imageCommand(), a.releaseCommand(), a.releaseServerCommand(), a.rolloutCommand(), a.contextCommand(), a.doctorCommand(), a.bundleCommand(),
		a.demoCommand(), a.versionCommand())
	usageArgs(root)
	return root
}

// usageArgs gives a wrong number of arguments the exit code of a usage error, all the way down.
//
// A command that only groups others does not know what to do by itself: a mistyped subcommand must not look like success.
func usageArgs(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usage(errors.New("unknown command " + args[0] + "; see: " + cmd.CommandPath() + " --help"))
		}
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if check(cmd, args) != nil {
				return usage(fmt.Errorf("%d arguments; wanted %s; see: %s --help", len(args), wantedArgs(cmd), cmd.CommandPath()))
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		usageArgs(sub)
	}
}

// wantedArgs is how a command is called, without flags.
func wantedArgs(cmd *cobra.Command) string {
	_, args, _ := strings.Cut(cmd.Use, " ")
	if args == "" {
		args = "none"
	}
	return args
}

// flagFault tells what is wrong with a flag: the flags package quotes the function that could not read a number.
func flagFault(cmd *cobra.Command, err error) error {
	text := err.Error()
	if i := strings.Index(text, ": strconv.Parse"); i >= 0 {
		text = text[:i] + ": wanted a number"
	}
	return usage(errors.New(text + "; see: " + cmd.CommandPath() + " --help"))
}

// Tree returns the command tree, for the generated documentation.
func (a *App) Tree() *cobra.Command { return a.root() }

// client connects as --context says.
func (a *App) client() (*Client, Context, error) {
	path, err := contextsPath(a.Env)
	if err != nil {
		return nil, Context{}, err
	}
	all, err := loadContexts(path)
	if err != nil {
		return nil, Context{}, err
	}
	x, err := all.pick(a.context)
	if err != nil {
		return nil, Context{}, err
	}
	if a.server != "" {
		x.Server = a.server
	}
	if a.tokenFile != "" {
		x.TokenFile = a.tokenFile
	}
	c, err := NewClient(x)
	if err == nil {
		c.patience = a.patience()
	}
	return c, x, err
}

// within gives a command that should answer at once a deadline.
func (a *App) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, a.patience(), errSlow{a.patience()})
}

// patience is --request-timeout; of an App that parsed no flags, its default.
func (a *App) patience() time.Duration {
	if a.timeout <= 0 {
		return defaultRequestTimeout
	}
	return a.timeout
}

func (a *App) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.Out, agent.VersionLine("skerry")+"\n")
			return err
		}}
}
