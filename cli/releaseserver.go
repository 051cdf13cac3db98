package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent/release/shelf"
)

// shelfTimeout bounds what a client may take for its request and between two; a download may take as long as the link does.
const shelfTimeout = 30 * time.Second

func (a *App) releaseServerCommand() *cobra.Command {
	var listen, certFile, keyFile string
	cmd := &cobra.Command{
		Use: "release-server DIR", Short: "Serve a directory of releases, for sites without internet",
		Long: `Serve a directory of releases, for sites without internet: what make release wrote, or an unpacked bundle.

Nothing is served but install.sh, uninstall.sh, channels and the files of releases. Plain HTTP is no danger to who installs: install.sh
checks a signature. But whoever can change install.sh on its way can change the check: fetch that over TLS, or from a medium.`,
		Example: `  skerry release-server /srv/skerry --listen :8080
  skerry release-server /srv/skerry --listen :8443 --tls-cert server.crt --tls-key server.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (certFile == "") != (keyFile == "") {
				return usage(errors.New("--tls-cert and --tls-key: wanted both or neither"))
			}
			return a.serveReleases(cmd.Context(), args[0], listen, certFile, keyFile)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", ":8080", "address and port to serve on")
	cmd.Flags().StringVar(&certFile, "tls-cert", "", "PEM with the server's certificate; without one it is plain HTTP")
	cmd.Flags().StringVar(&keyFile, "tls-key", "", "PEM with its key")
	return cmd
}

func (a *App) serveReleases(ctx context.Context, dir, listen, certFile, keyFile string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open releases: %w", err)
	}
	defer root.Close()
	if _, err := root.Stat("install.sh"); err != nil {
		return fmt.Errorf("%s is no directory of releases: %w", dir, err)
	}
	srv := &http.Server{Handler: shelf.Handler(root), ReadHeaderTimeout: shelfTimeout, IdleTimeout: shelfTimeout, MaxHeaderBytes: 16 << 10}
	scheme := "http"
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return fmt.Errorf("certificate of the release server: %w", err)
		}
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		scheme = "https"
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for downloads: %w", err)
	}
	fmt.Fprintf(a.Out, "serving %s on %s://%s\n", dir, scheme, ln.Addr())
	return serveUntil(ctx, srv, ln, certFile != "")
}

// serveUntil serves until ctx ends, and then gives downloads a moment to finish.
func serveUntil(ctx context.Context, srv *http.Server, ln net.Listener, secure bool) error {
	ended := make(chan error, 1)
	go func() {
		if secure {
			ended <- srv.ServeTLS(ln, "", "")
			return
		}
		ended <- srv.Serve(ln)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serve releases: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		err = srv.Close()
		<-ended
		return err
	}
	<-ended
	return nil
}
