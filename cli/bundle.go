package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// bundleFlags are those of `support-bundle`.
type bundleFlags struct {
	file     string
	payloads bool
	nodes    int
}

// bundleWithin bounds the whole.
const bundleWithin = 5 * time.Minute

func (a *App) bundleCommand() *cobra.Command {
	f := &bundleFlags{}
	cmd := &cobra.Command{
		Use: "support-bundle", Short: "Gather what a bug report needs into one archive, secrets redacted", Args: cobra.NoArgs,
		Long: `Gather what a bug report needs into one archive: state, nodes, commands, events, audit, metrics, the configuration and
the last log lines of the cluster agent, and of online nodes what info and log.tail tell. Of commands only the program's
name, and the sizes of arguments and output, are in it, and whatever else repeats an argument is blotted out;
--include-payloads keeps them. Join strings, tokens, keys and passwords are redacted in any case, as far as they can be
told; look through the archive before you send it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.nodes < 0 {
				return usage(fmt.Errorf("--nodes %d: wanted none below zero", f.nodes))
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), bundleWithin)
			defer cancel()
			if f.file == "" {
				f.file = "skerry-support-" + a.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			n, err := a.bundle(ctx, f)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "wrote %s (%s); look through it before you send it\n", f.file, many(n, "file"))
			return err
		},
	}
	cmd.Flags().StringVarP(&f.file, "file", "f", "", "archive to write (default skerry-support-TIME.tar.gz)")
	cmd.Flags().BoolVar(&f.payloads, "include-payloads", false, "keep arguments, output and results of commands, and data of events")
	cmd.Flags().IntVar(&f.nodes, "nodes", 20, "ask at most so many online nodes for info and log (0: none)")
	return cmd
}

// bundleParts are the files of a bundle that are taken as they come, and where each comes from.
func bundleParts() map[string]string {
	return map[string]string{
		"status.json":      "/v1/status",
		"nodes.json":       "/v1/nodes",
		"enrollments.json": "/v1/enrollments",
		"tokens.json":      "/v1/tokens",
		"operators.json":   "/v1/operators",
		"audit.json":       "/v1/audit?limit=5000",
		"metrics.txt":      "/metrics",
		"openapi.json":     "/openapi.json",
		"ready.txt":        "/readyz",
	}
}

// bundle writes the archive. A part that cannot be had is noted in errors.txt; the rest is still worth having.
func (a *App) bundle(ctx context.Context, f *bundleFlags) (int, error) {
	c, x, err := a.client()
	if err != nil {
		return 0, err
	}
	out, err := os.OpenFile(f.file, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("write bundle: %w", err)
	}
	zip := gzip.NewWriter(out)
	b := &bundler{app: a, client: c, tar: tar.NewWriter(zip), payloads: f.payloads, secrets: &secrets{}}
	b.commands(ctx) // first: they tell what must not be in the rest
	b.events(ctx)
	checks, cerr := a.examine(ctx)
	b.json("doctor.json", checks, cerr)
	b.text("version.txt", agent.VersionLine("skerry")+"\ncontext "+x.Name+" at "+x.Server+"\n")
	parts := bundleParts()
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		b.fetch(ctx, name, parts[name])
	}
	for name, path := range map[string]string{"cluster-config.yaml": "/v1/config", "cluster.log": "/v1/log"} {
		var t api.Text
		b.note(name, b.get(ctx, path, &t))
		b.text(name, t.Text)
	}
	b.askNodes(ctx, f.nodes)
	if b.notes != "" {
		b.text("errors.txt", b.notes)
	}
	return b.files, errors.Join(b.err, b.tar.Close(), zip.Close(), out.Close())
}

type bundler struct {
	app      *App
	client   *Client
	tar      *tar.Writer
	payloads bool
	secrets  *secrets
	files    int
	notes    string
	err      error
}

func (b *bundler) note(name string, err error) {
	if err != nil {
		b.notes += name + ": " + err.Error() + "\n"
	}
}

func (b *bundler) get(ctx context.Context, path string, out any) error {
	ctx, cancel := b.app.within(ctx)
	defer cancel()
	return b.client.Get(ctx, path, out)
}

func (b *bundler) fetch(ctx context.Context, name, path string) {
	ctx, cancel := b.app.within(ctx)
	defer cancel()
	resp, err := b.client.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		b.note(name, err)
		return
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	b.note(name, err)
	b.text(name, string(raw))
}

func (b *bundler) json(name string, v any, err error) {
	raw, jerr := json.MarshalIndent(v, "", "  ")
	b.note(name, errors.Join(err, jerr))
	b.text(name, string(raw))
}

func (b *bundler) text(name, text string) {
	clean := b.secrets.blot(redact(text))
	err := b.tar.WriteHeader(&tar.Header{Name: "skerry-support/" + name, Mode: 0o600, Size: int64(len(clean)), ModTime: b.app.Now()})
	if err == nil {
		_, err = io.WriteString(b.tar, clean)
	}
	b.files++
	b.err = errors.Join(b.err, err)
}

func (b *bundler) commands(ctx context.Context) {
	var list api.List[api.CommandRecord]
	err := b.get(ctx, "/v1/commands?limit=1000", &list)
	for page := list; err == nil && !b.payloads && page.Continue != ""; { // older ones are not shown, but what they said may be in a log
		at := page.Continue
		page = api.List[api.CommandRecord]{}
		if err = b.get(ctx, "/v1/commands?limit=1000&continue="+url.QueryEscape(at), &page); err == nil {
			for i := range page.Items {
				b.secrets.learn(page.Items[i].Args)
			}
		}
	}
	if !b.payloads {
		for i := range list.Items {
			b.secrets.learn(list.Items[i].Args)
			withoutPayload(&list.Items[i])
		}
	}
	b.json("commands.json", list, err)
}

func (b *bundler) events(ctx context.Context) {
	var list api.List[api.EventRecord]
	err := b.get(ctx, "/v1/events?limit=5000", &list)
	if !b.payloads {
		for i, e := range list.Items {
			for key, value := range e.Data {
				list.Items[i].Data[key] = leftOut(len(value))
			}
		}
	}
	b.json("events.json", list, err)
}

// The limits of what a bundle asks of nodes.
const (
	nodeDeadline = 20 * time.Second
	nodeLogLines = 300
)

// askNodes has the first most online nodes tell of themselves and show their logs, all at once and for no longer than
// nodeDeadline.
func (b *bundler) askNodes(ctx context.Context, most int) {
	var nodes api.List[api.Node]
	if most == 0 {
		return
	}
	if err := b.get(ctx, "/v1/nodes", &nodes); err != nil {
		b.note("nodes/", err)
		return
	}
	var online []string
	for _, n := range nodes.Items {
		if n.Presence == api.PresenceOnline {
			online = append(online, n.ID)
		}
	}
	if len(online) > most {
		b.note("nodes/", fmt.Errorf("asked %d of %d online nodes; --nodes asks more", most, len(online)))
		online = online[:most]
	}
	if len(online) == 0 {
		return
	}
	w := b.app.waiting(b.client, &runFlags{})
	var all []api.CommandRecord
	for _, ask := range []api.CommandRequest{{Verb: "info"}, {Verb: "log.tail", Args: map[string]any{"lines": nodeLogLines}}} {
		ask.Nodes, ask.Deadline = online, nodeDeadline.String()
		records, err := w.post(ctx, ask)
		b.note("nodes/ "+ask.Verb, err)
		all = append(all, records...)
	}
	ctx, cancel := context.WithTimeout(ctx, nodeDeadline+5*time.Second)
	defer cancel()
	w.begin(all)
	w.tell.on = false
	if err := w.settle(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		b.note("nodes/", err)
	}
	for _, r := range w.records {
		name := "nodes/" + r.Node + "/" + r.Verb
		switch {
		case r.Phase != api.PhaseSucceeded || r.Status == nil:
			b.note(name, fmt.Errorf("%s %s", r.Phase, lastReason(r)))
		case r.Verb == "info":
			b.json(name+".json", r.Status.Result, nil)
		default:
			b.text("nodes/"+r.Node+"/agent.log", r.Status.Output)
		}
	}
}
