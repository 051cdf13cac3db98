package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
)

func (a *App) bundleCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "support-bundle", Short: "Gather what a bug report needs into one archive, secrets redacted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Minute)
			defer cancel()
			if file == "" {
				file = "skerry-support-" + a.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			n, err := a.bundle(ctx, file)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "wrote %s (%d files); look through it before you send it\n", file, n)
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "archive to write (default skerry-support-TIME.tar.gz)")
	return cmd
}

// bundleParts are the files of a bundle and where each comes from.
func bundleParts() map[string]string {
	return map[string]string{
		"status.json":      "/v1/status",
		"nodes.json":       "/v1/nodes",
		"commands.json":    "/v1/commands?limit=1000",
		"events.json":      "/v1/events?limit=5000",
		"enrollments.json": "/v1/enrollments",
		"tokens.json":      "/v1/tokens",
		"audit.json":       "/v1/audit?limit=5000",
		"metrics.txt":      "/metrics",
		"openapi.json":     "/openapi.json",
	}
}

// bundle writes the archive. A part that cannot be had is noted in errors.txt; the rest is still worth having.
func (a *App) bundle(ctx context.Context, file string) (int, error) {
	c, x, err := a.client()
	if err != nil {
		return 0, err
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("write bundle: %w", err)
	}
	zip := gzip.NewWriter(out)
	b := &bundler{tar: tar.NewWriter(zip), now: a.Now()}
	checks, cerr := a.examine(ctx)
	b.json("doctor.json", checks, cerr)
	b.text("version.txt", agent.VersionLine("skerry")+"\ncontext "+x.Name+" at "+x.Server+"\n")
	for name, path := range bundleParts() {
		b.fetch(ctx, c, name, path)
	}
	if b.notes != "" {
		b.text("errors.txt", b.notes)
	}
	return b.files, errors.Join(b.err, b.tar.Close(), zip.Close(), out.Close())
}

type bundler struct {
	tar   *tar.Writer
	now   time.Time
	files int
	notes string
	err   error
}

func (b *bundler) fetch(ctx context.Context, c *Client, name, path string) {
	resp, err := c.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		b.notes += name + ": " + err.Error() + "\n"
		return
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		b.notes += name + ": " + err.Error() + "\n"
	}
	b.text(name, string(raw))
}

func (b *bundler) json(name string, v any, err error) {
	raw, jerr := json.MarshalIndent(v, "", "  ")
	if err = errors.Join(err, jerr); err != nil {
		b.notes += name + ": " + err.Error() + "\n"
	}
	b.text(name, string(raw))
}

func (b *bundler) text(name, text string) {
	clean := redact(text)
	err := b.tar.WriteHeader(&tar.Header{Name: "skerry-support/" + name, Mode: 0o600, Size: int64(len(clean)), ModTime: b.now})
	if err == nil {
		_, err = io.WriteString(b.tar, clean)
	}
	b.files++
	b.err = errors.Join(b.err, err)
}

// secretPatterns match what must not leave the site: join strings, access tokens, private keys, and values of fields
// whose name says that they are secret. The server sends none of it; this is the second lock on the door.
func secretPatterns() map[*regexp.Regexp]string {
	return map[*regexp.Regexp]string{
		regexp.MustCompile(`skerry1\.[A-Za-z0-9_-]+`):                                                               "[join string]",
		regexp.MustCompile(`skat_[A-Za-z0-9_-]+`):                                                                   "[access token]",
		regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`):             "[private key]",
		regexp.MustCompile(`(?i)("[a-z0-9_.-]*(?:secret|password|passwd|token|api_?key)"\s*:\s*)"(?:[^"\\]|\\.)*"`): `$1"[redacted]"`,
	}
}

func redact(text string) string {
	for re, with := range secretPatterns() {
		text = re.ReplaceAllString(text, with)
	}
	return text
}
