package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
)

func label(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return "", "", fmt.Errorf("label %q: wanted key=value", s)
	}
	return key, value, nil
}

func (a *App) operatorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "operator", Short: "Make, list and revoke certificates for people and systems that speak MQTT"}
	revoke := a.deletion("revoke NAME", "Revoke an operator's certificate", "/v1/operators/", "revoked")
	revoke.ValidArgsFunction = a.complete("operators", 1)
	cmd.AddCommand(a.operatorCreate(), a.listCommand("operators", "List operators' certificates"), revoke)
	return cmd
}

func (a *App) operatorCreate() *cobra.Command {
	var role, dir string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a key here, have it certified, and write NAME.key, NAME.crt and ca.crt", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := positive("ttl", ttl); err != nil {
				return err
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			op, err := certify(ctx, c, dir, api.OperatorRequest{Name: args[0], Role: api.Role(role), TTL: ttl.String()})
			if err != nil {
				return err
			}
			base := filepath.Join(dir, args[0])
			_, err = fmt.Fprintf(a.Out, "wrote %s.key, %s.crt and %s: %s, expires %s\n", base, base, filepath.Join(dir, "ca.crt"),
				op.Role, clock(op.Certificate.NotAfter))
			return err
		},
	}
	cmd.Flags().StringVar(&role, "role", string(api.RoleViewer), "viewer, operator or admin")
	cmd.Flags().StringVarP(&dir, "dir", "d", ".", "where to write the files")
	ttl = 90 * 24 * time.Hour
	cmd.Flags().Var((*configs.Duration)(&ttl), "ttl", "how long the certificate lives")
	return cmd
}

// certify makes a key, has it certified as req says, and writes NAME.key, NAME.crt and ca.crt into dir.
func certify(ctx context.Context, c *Client, dir string, req api.OperatorRequest) (*api.Operator, error) {
	key, csr, err := newKey()
	if err != nil {
		return nil, err
	}
	req.CSR = csr
	var op api.Operator
	if err := c.Post(ctx, "/v1/operators", req, &op); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	base := filepath.Join(dir, req.Name)
	return &op, writeFiles(map[string]string{base + ".key": key, base + ".crt": op.PEM, filepath.Join(dir, "ca.crt"): op.CA})
}

// newKey makes an ECDSA P-256 key and a request for a certificate, both PEM.
func newKey() (key, csr string, err error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return "", "", fmt.Errorf("make key: %w", err)
	}
	req, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, priv)
	if err != nil {
		return "", "", fmt.Errorf("make certificate request: %w", err)
	}
	return pemText("PRIVATE KEY", der), pemText("CERTIFICATE REQUEST", req), nil
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func writeFiles(files map[string]string) error {
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

func (a *App) accessCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "access", Short: "Make, list and revoke access tokens of the REST interface"}
	var role string
	var ttl time.Duration
	create := &cobra.Command{
		Use: "create NAME", Short: "Make an access token and print a context file that holds it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if ttl < 0 {
				return positive("ttl", ttl)
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, x, err := a.client()
			if err != nil {
				return err
			}
			body := api.AccessRequest{Name: args[0], Role: api.Role(role)}
			if ttl != 0 {
				body.TTL = ttl.String()
			}
			var t api.AccessToken
			if err := c.Post(ctx, "/v1/access-tokens", body, &t); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(a.Err, "access token %s, role %s, expires %s; to take it back: skerry access revoke %s\n", t.ID, t.Role,
				a.until(t.Expires), t.ID); err != nil {
				return err
			}
			return writeYAML(a.Out, map[string]any{"current": x.Name + "-" + args[0],
				"contexts": []map[string]string{{"name": x.Name + "-" + args[0], "server": x.Server, "ca": x.CA, "token": t.Secret}}})
		},
	}
	create.Flags().StringVar(&role, "role", string(api.RoleViewer), "viewer, operator or admin")
	create.Flags().Var((*configs.Duration)(&ttl), "ttl", "how long it lives (0: until revoked)")
	revoke := a.deletion("revoke ID", "Revoke an access token", "/v1/access-tokens/", "revoked")
	revoke.ValidArgsFunction = a.complete("access", 1)
	cmd.AddCommand(create, a.listCommand("access", "List access tokens, without their secrets"), revoke)
	return cmd
}

func (a *App) contextCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "context", Short: "Choose which cluster agent to speak to"}
	list := &cobra.Command{Use: "list", Short: "List the known cluster agents", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.withContexts(func(all *Contexts) (bool, error) {
				t := &table{}
				t.add("", "CONTEXT", "SERVER")
				for _, x := range all.Contexts {
					mark := " "
					if x.Name == all.Current {
						mark = "*"
					}
					t.add(mark, x.Name, x.Server)
				}
				return false, t.write(a.Out)
			})
		}}
	use := &cobra.Command{Use: "use NAME", Short: "Make a context the current one", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContext,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.withContexts(func(all *Contexts) (bool, error) {
				_, err := all.pick(args[0])
				all.Current = args[0]
				return err == nil, err
			})
		}}
	add := &cobra.Command{Use: "import FILE", Short: "Add the contexts of a file, such as the cluster agent's admin.yaml", Args: cobra.ExactArgs(1),
		Example: `  skerry context import admin.yaml
  skerry context import site.yaml --token-file ~/.cache/id/token   # of an identity provider, in place of the token in it`,
		RunE: func(_ *cobra.Command, args []string) error {
			more, err := loadContexts(args[0])
			if err != nil {
				return err
			}
			if len(more.Contexts) == 0 {
				return usage(errors.New(args[0] + " holds no context"))
			}
			if a.tokenFile != "" {
				if a.tokenFile, err = filepath.Abs(a.tokenFile); err != nil {
					return fmt.Errorf("import contexts: %w", err)
				}
			}
			return a.withContexts(func(all *Contexts) (bool, error) {
				for _, x := range more.Contexts {
					if a.tokenFile != "" {
						x.Token, x.TokenFile = "", a.tokenFile
					}
					all.put(x)
				}
				all.Current = more.Contexts[0].Name
				_, err := fmt.Fprintln(a.Out, "current context is", all.Current)
				return true, err
			})
		}}
	cmd.AddCommand(list, use, add)
	return cmd
}

// withContexts loads the contexts, lets edit work on them, and saves them when it says so.
func (a *App) withContexts(edit func(*Contexts) (bool, error)) error {
	path, err := contextsPath(a.Env)
	if err != nil {
		return err
	}
	all, err := loadContexts(path)
	if err != nil {
		return err
	}
	changed, err := edit(&all)
	if err != nil || !changed {
		return err
	}
	return all.save(path)
}
