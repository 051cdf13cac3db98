package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
)

// completeWithin bounds a question that somebody waits for between two keystrokes.
const completeWithin = 3 * time.Second

// formatFlag adds -o, with its values for completion.
func (a *App) formatFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", "table", "table, wide, json, yaml or name")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

// completeFlag completes a flag with names of a kind.
func (a *App) completeFlag(cmd *cobra.Command, flag, plural string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return a.names(cmd.Context(), plural, word)
	})
}

// complete completes the first most arguments with names of a kind.
func (a *App) complete(plural string, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.names(cmd.Context(), plural, word)
	}
}

func (a *App) completeGet(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		plurals, singulars := a.plurals()
		if matching := beginning(plurals, word); len(matching) > 0 {
			return matching, cobra.ShellCompDirectiveNoFileComp
		}
		return beginning(singulars, word), cobra.ShellCompDirectiveNoFileComp
	case 1:
		return a.names(cmd.Context(), args[0], word)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// names asks the cluster agent; a shell that completes has no use for an error.
func (a *App) names(ctx context.Context, plural, word string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	k, err := a.kind(plural)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, _, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := k.names(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return beginning(all, word), cobra.ShellCompDirectiveNoFileComp
}

// completeVerb completes the verbs of the nodes that --on names, or of any node.
func (a *App) completeVerb(on *[]string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		c, _, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var nodes api.List[api.Node]
		if err := c.Get(ctx, "/v1/nodes", &nodes); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var verbs []string
		for _, n := range nodes.Items {
			if len(*on) > 0 && !slices.Contains(*on, n.ID) {
				continue
			}
			for _, v := range birth(n).Verbs {
				verbs = append(verbs, v.Name+"\t"+v.Help)
			}
		}
		slices.Sort(verbs)
		return beginning(slices.Compact(verbs), word), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeCopy completes the node of NODE:/path, and files.
func (a *App) completeCopy(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 || strings.ContainsAny(word, ":/.") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	names, _ := a.names(cmd.Context(), "nodes", word)
	for i := range names {
		names[i] += ":/"
	}
	return names, cobra.ShellCompDirectiveDefault | cobra.ShellCompDirectiveNoSpace
}

// completeContext completes the names of known contexts.
func (a *App) completeContext(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	var names []string
	err := a.withContexts(func(all *Contexts) (bool, error) {
		for _, x := range all.Contexts {
			names = append(names, x.Name)
		}
		return false, nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return beginning(names, word), cobra.ShellCompDirectiveNoFileComp
}

func beginning(words []string, with string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, with) })
}
