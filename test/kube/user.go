package kube

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// User is somebody with a certificate of the cluster's client CA. Safe for concurrent use.
type User struct {
	Name       string
	Groups     []string
	Kubeconfig string // path
	Cert, Key  string // paths

	kubectl string
	cache   string
}

// User makes somebody of that name and groups; what they may do is for RBAC to say.
func (p *ControlPlane) User(name string, groups ...string) (*User, error) {
	p.users++
	base := fmt.Sprintf("user-%d", p.users)
	cert, err := p.papers.clients.client(p.papers.dir, base, name, groups...)
	if err != nil {
		return nil, err
	}
	u := &User{Name: name, Groups: groups, Kubeconfig: filepath.Join(p.Dir, base+".kubeconfig"), Cert: cert.cert, Key: cert.key,
		kubectl: p.kubectl, cache: filepath.Join(p.Dir, "discovery")}
	return u, writeKubeconfig(u.Kubeconfig, p.URL(), p.papers.servers.file, cert)
}

// Kubectl runs the real kubectl and returns what it prints; the error holds what it complains of.
func (u *User) Kubectl(ctx context.Context, args ...string) (string, error) {
	return u.KubectlWith(ctx, "", args...)
}

// KubectlWith is Kubectl with an input, as for apply -f -.
func (u *User) KubectlWith(ctx context.Context, input string, args ...string) (string, error) {
	out, complaints, err := u.run(ctx, input, args...)
	if err != nil {
		return out, fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, complaints)
	}
	return out, nil
}

func (u *User) run(ctx context.Context, input string, args ...string) (out, complaints string, err error) {
	cmd := u.Command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), strings.TrimSpace(stderr.String()), err
}

// Command is kubectl with its arguments, not yet started, for tests that follow its output or end it.
func (u *User) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, u.kubectl, append([]string{"--kubeconfig=" + u.Kubeconfig, "--cache-dir=" + u.cache}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+u.cache) // not the user's own settings
	return cmd
}
