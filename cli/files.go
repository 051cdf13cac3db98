package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// trailerError is what went wrong after the answer had begun. As before it, that is the node's doing.
func trailerError(resp *http.Response) error {
	if msg := resp.Trailer.Get("Skerry-Error"); msg != "" {
		return fail(ExitCommand, "%s", msg)
	}
	return nil
}

func (a *App) cpCommand() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use: "cp SOURCE TARGET", Short: "Copy a file from or to a node: NODE:/path on one side", Args: cobra.ExactArgs(2),
		ValidArgsFunction: a.completeCopy,
		Example: `  skerry cp pump-3:/var/lib/app/data.csv .
  skerry cp app.conf pump-3:/etc/app/app.conf`,
		Long: `Copy a file from or to a node. The node permits only the directories in its command.read and command.write, and the
content is checked by its SHA-256 before it takes effect. A file that is there keeps its owner and permissions; a new one
has those of the source, but others than its owner may not write it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, fromPath, fromNode := remote(args[0])
			to, toPath, toNode := remote(args[1])
			switch {
			case fromNode && !toNode:
				return a.download(cmd.Context(), from, fromPath, args[1])
			case toNode && !fromNode:
				return a.upload(cmd.Context(), args[0], target{to, toPath, mode})
			}
			return usage(errors.New("wanted NODE:/path as exactly one of source and target"))
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "", "permissions of a file copied to a node, octal, in place of those it has")
	return cmd
}

// remote splits NODE:/path.
func remote(s string) (node, path string, ok bool) {
	node, path, ok = strings.Cut(s, ":")
	return node, path, ok && strings.HasPrefix(path, "/") && api.ValidID("node", node) == nil
}

func (a *App) download(ctx context.Context, node, path, local string) (err error) {
	if st, serr := os.Stat(local); serr == nil && st.IsDir() {
		local = filepath.Join(local, filepath.Base(path))
	}
	c, _, err := a.client()
	if err != nil {
		return err
	}
	stop := a.meanwhile(ctx, c, errand{node, "file.get", "path", path})
	resp, err := c.Do(ctx, http.MethodGet, "/v1/nodes/"+url.PathEscape(node)+"/files?"+url.Values{"path": {path}}.Encode(), nil)
	stop()
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	tmp := local + ".part"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", local, err)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), resp.Body)
	err = errors.Join(err, out.Close(), trailerError(resp))
	if want := resp.Trailer.Get("Skerry-Sha256"); err == nil && want != hex.EncodeToString(sum.Sum(nil)) {
		err = fmt.Errorf("content has sha256 %x; the node says %q", sum.Sum(nil), want)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy %s:%s: %w", node, path, err), os.Remove(tmp))
	}
	if err := os.Rename(tmp, local); err != nil {
		return fmt.Errorf("copy to %s: %w", local, err)
	}
	_, err = fmt.Fprintf(a.Err, "%s:%s -> %s (%s, checked)\n", node, path, local, agent.Size(float64(n)))
	return err
}

// target is where an upload goes.
type target struct{ node, path, mode string }

func (a *App) upload(ctx context.Context, source string, to target) error {
	in, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	defer in.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	if err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	c, _, err := a.client()
	if err != nil {
		return err
	}
	q := url.Values{"path": {to.path}, "newMode": {fmt.Sprintf("%04o", info.Mode().Perm())}, "size": {fmt.Sprint(n)}, "sha256": {hex.EncodeToString(sum.Sum(nil))}}
	if to.mode != "" {
		q.Set("mode", to.mode)
	}
	stop := a.meanwhile(ctx, c, errand{to.node, "file.put", "path", to.path})
	resp, err := c.Do(ctx, http.MethodPut, "/v1/nodes/"+url.PathEscape(to.node)+"/files?"+q.Encode(), in)
	stop()
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	_, err = fmt.Fprintf(a.Err, "%s -> %s:%s (%s, checked)\n", source, to.node, to.path, agent.Size(float64(n)))
	return err
}
