package cli

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
)

func (a *App) releaseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "release", Short: "Import, list and remove the releases that the cluster agent keeps for its nodes, and assign them"}
	cmd.AddCommand(a.releaseImport(), a.listCommand("releases", "List the releases that are kept"), a.releaseRemove(), a.releaseAssign(), a.releaseUnassign())
	return cmd
}

func (a *App) releaseImport() *cobra.Command {
	return &cobra.Command{
		Use: "import DIR|BUNDLE", Short: "Import a release, so that nodes can be updated to it", Args: cobra.ExactArgs(1),
		Long: `Import a release, so that nodes can be updated to it: a directory with manifest.json, manifest.json.minisig and some or all of the
files that the manifest names, or an archive of that (tar, plain or with gzip or zstd). BUNDLE - reads standard input.`,
		Example: `  skerry release import dist/1.4.0
  skerry release import skerry-bundle.tar.zst`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := a.releaseArchive(args[0])
			if err != nil {
				return fmt.Errorf("import: %w", err)
			}
			defer func() { _ = in.Close() }() // it was only read
			c, _, err := a.client()
			if err != nil {
				return err
			}
			resp, err := c.Do(cmd.Context(), http.MethodPost, "/v1/releases", io.MultiReader(in)) // hides that it is a file
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var r api.Release
			if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(&r); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			unchecked := ""
			if r.Unchecked {
				unchecked = "; signature not checked: the cluster agent's build knows no release key"
			}
			_, err = fmt.Fprintf(a.Out, "%s imported: %d files, %s; node agents for %s%s\n", r.Version, r.Files, agent.Size(float64(r.Bytes)), strings.Join(r.Targets, " "),
				unchecked)
			return err
		},
	}
}

func (a *App) releaseRemove() *cobra.Command {
	cmd := a.deletion("remove VERSION", "Remove a release; nodes that have it keep it", "/v1/releases/", "removed")
	cmd.ValidArgsFunction = a.complete("releases", 1)
	cmd.Flags().Bool("force", false, "also when a rollout that is not over, or a node that is assigned it, would get it from here")
	return cmd
}

// releaseArchive opens an archive, or makes one of a directory while it is read.
func (a *App) releaseArchive(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(a.In), nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return os.Open(path)
	}
	raw, err := os.ReadFile(filepath.Join(path, release.ManifestName))
	if err != nil {
		return nil, err
	}
	man, err := release.Decode(raw) // the cluster agent and the nodes judge its signature
	if err != nil {
		return nil, err
	}
	names := []string{release.ManifestName, release.SignatureName}
	for _, f := range man.Files {
		names = append(names, f.Name)
	}
	out, in := io.Pipe()
	go func() { in.CloseWithError(writeTar(in, path, names)) }()
	return out, nil
}

// writeTar writes those of names that are in dir.
func writeTar(w io.Writer, dir string, names []string) error {
	tw := tar.NewWriter(w)
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			err = tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size(), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)})
		}
		if err == nil {
			_, err = io.Copy(tw, f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return tw.Close()
}

func releaseName(r api.Release) string { return r.Version }

func (a *App) releaseColumns() []column[api.Release] {
	return []column[api.Release]{
		{"VERSION", always, releaseName},
		{"BUILT", always, func(r api.Release) string { return a.since(r.Built) }},
		{"FILES", always, func(r api.Release) string { return fmt.Sprint(r.Files) }},
		{"SIZE", always, func(r api.Release) string { return agent.Size(float64(r.Bytes)) }},
		{"TARGETS", always, func(r api.Release) string {
			if r.Damaged != "" {
				return "damaged: import it again, or remove it"
			}
			return strings.Join(r.Targets, " ")
		}},
		{"COMMIT", wide, func(r api.Release) string { return r.Commit }},
	}
}
