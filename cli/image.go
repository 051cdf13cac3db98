package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

func (a *App) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Import, list and remove the images that the cluster agent keeps for its nodes"}
	remove := a.deletion("remove IMAGE", "Remove an image, by name or digest; nodes that have it keep it", "/v1/images/", "removed")
	remove.ValidArgsFunction = a.complete("images", 1)
	cmd.AddCommand(a.imageImport(), a.listCommand("images", "List the images that are kept"), remove)
	return cmd
}

func (a *App) imageImport() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Import the images of an archive, so that nodes need no registry", Args: cobra.ExactArgs(1),
		Long: `Import the images of an archive, as docker save or skopeo (docker-archive, oci-archive) writes it, plain or with gzip.
FILE - reads standard input. Nodes then get the image by its name, whatever a registry says of it.`,
		Example: `  docker save app:1 | skerry image import -
  skopeo copy docker://ghcr.io/org/app:1 oci-archive:app.tar && skerry image import app.tar --name ghcr.io/org/app:1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != "" {
				if _, err := api.ParseImageName(name); err != nil {
					return usage(fmt.Errorf("--name: %w", err))
				}
			}
			in := a.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("import: %w", err)
				}
				defer func() { _ = f.Close() }() // it was only read
				in = f
			}
			return a.importImages(cmd.Context(), in, name)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the image, for an archive with one: ghcr.io/org/app:1")
	return cmd
}

// importImages sends an archive, however long that takes.
func (a *App) importImages(ctx context.Context, in io.Reader, name string) error {
	c, _, err := a.client()
	if err != nil {
		return err
	}
	path := "/v1/images"
	if name != "" {
		path += "?" + url.Values{"name": {name}}.Encode()
	}
	resp, err := c.Do(ctx, http.MethodPost, path, io.MultiReader(in)) // hides that it is a file, whose name would be in errors
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var list api.List[api.Image]
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(&list); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if len(list.Items) == 0 {
		return errors.New("the cluster agent says that it imported nothing")
	}
	for _, img := range list.Items {
		if _, err := fmt.Fprintf(a.Out, "%s imported: %s, %s, %s\n", img.Name, img.Digest, agent.Size(float64(img.Bytes)), strings.Join(img.Platforms, " ")); err != nil {
			return err
		}
	}
	return nil
}

func imageName(i api.Image) string { return i.Name }

func (a *App) imageColumns() []column[api.Image] {
	return []column[api.Image]{
		{"IMAGE", always, imageName},
		{"SIZE", always, func(i api.Image) string { return agent.Size(float64(i.Bytes)) }},
		{"KEPT", always, keptFor},
		{"USED", always, func(i api.Image) string { return a.since(i.Used) }},
		{"PLATFORMS", always, func(i api.Image) string { return strings.Join(i.Platforms, " ") }},
		{"DIGEST", wide, func(i api.Image) string { return i.Digest }},
	}
}

// keptFor is why an image is not evicted, or how it is not whole.
func keptFor(i api.Image) string {
	var out []string
	if i.Imported {
		out = append(out, "imported")
	}
	if i.Wanted {
		out = append(out, "wanted")
	}
	if !i.Complete {
		out = append(out, "partly")
	}
	return strings.Join(out, ",")
}
