package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Context is how to reach one cluster agent, and as whom. CA is PEM; Token is a bearer token. TokenFile, which goes
// before it, is the path of a file that holds one and is read anew for every request: something else keeps it fresh.
type Context struct {
	Name      string `yaml:"name"`
	Server    string `yaml:"server"`
	CA        string `yaml:"ca"`
	Token     string `yaml:"token,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"`
}

// maxTokenBytes bounds a token file: what the cluster agent takes, and a line's end.
const maxTokenBytes = 16<<10 + 2

// bearer is the token of the next request.
func (x *Context) bearer() (string, error) {
	if x.TokenFile == "" {
		return x.Token, nil
	}
	f, err := os.Open(x.TokenFile)
	if err != nil {
		return "", fail(ExitForbidden, "context %s: read token_file: %w; have your identity provider's program write it", x.Name, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxTokenBytes+1))
	if err != nil {
		return "", fail(ExitForbidden, "context %s: read token_file: %w", x.Name, err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || len(raw) > maxTokenBytes || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fail(ExitForbidden, "context %s: token_file %s: wanted one token of at most 16 KiB and nothing else; log in again", x.Name, x.TokenFile)
	}
	return token, nil
}

// Contexts is the file ~/.config/skerry/config.yaml; the cluster agent writes one with an administrator's token as
// admin.yaml into its own directory, as k3s does.
type Contexts struct {
	Current  string    `yaml:"current"`
	Contexts []Context `yaml:"contexts"`
}

// contextsPath is $SKERRY_CONFIG, or config.yaml in the user's configuration directory.
func contextsPath(env func(string) string) (string, error) {
	if p := env("SKERRY_CONFIG"); p != "" {
		return p, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find configuration directory: %w; set SKERRY_CONFIG", err)
	}
	return filepath.Join(dir, "skerry", "config.yaml"), nil
}

// loadContexts reads path; a missing file is an empty list.
func loadContexts(path string) (Contexts, error) {
	var c Contexts
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read contexts: %w", err)
	}
	if err := yaml.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("read contexts %s: %w", path, err)
	}
	for i := range c.Contexts { // as in a kubeconfig, beside the file
		if f := &c.Contexts[i].TokenFile; *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(filepath.Dir(path), *f)
		}
	}
	return c, nil
}

// save writes path, 0600, whole or not at all.
func (c *Contexts) save(path string) error {
	raw, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	return nil
}

// pick returns the context called name, or the current one when name is empty.
func (c *Contexts) pick(name string) (Context, error) {
	if name == "" {
		name = c.Current
	}
	if name == "" && len(c.Contexts) == 1 {
		return c.Contexts[0], nil
	}
	known := make([]string, 0, len(c.Contexts))
	for _, x := range c.Contexts {
		if x.Name == name {
			return x, nil
		}
		known = append(known, x.Name)
	}
	if len(known) == 0 {
		return Context{}, fail(ExitUsage, "no cluster agent is known; on its machine: "+
			"export SKERRY_CONFIG=/var/lib/skerry-cluster/admin.yaml, or elsewhere: skerry context import FILE")
	}
	return Context{}, fail(ExitUsage, "no context %q; known: %v", name, known)
}

// put adds x or replaces the one of its name.
func (c *Contexts) put(x Context) {
	for i := range c.Contexts {
		if c.Contexts[i].Name == x.Name {
			c.Contexts[i] = x
			return
		}
	}
	c.Contexts = append(c.Contexts, x)
}
