package edge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/k3s"
)

// How long k3s has to run until it counts as joined: a token or server that is wrong ends it before. And how long it has to stop.
const (
	k3sProof = 15 * time.Second
	k3sGrace = 30 * time.Second
)

// buildK3s builds what runs k3s agent, where the device's owner allows it.
func (a *Agent) buildK3s() (err error) {
	cfg := a.cfg.K3s
	if !cfg.Allow {
		return nil
	}
	a.k3s, err = k3s.New(k3s.Config{Program: cfg.Program, Args: cfg.Args, Data: cfg.DataDir, Dir: filepath.Join(a.cfg.Dir, "k3s"), Log: a.log, Proof: k3sProof, Grace: k3sGrace})
	return err
}

// keepK3s runs k3s agent while the device is a member.
func (a *Agent) keepK3s(ctx context.Context) error {
	if a.k3s == nil {
		<-ctx.Done()
		return nil
	}
	return a.k3s.Run(ctx)
}

// member is the node side of the verbs of k3s.
type member struct{ *Agent }

func (a member) Join(ctx context.Context, j *api.K3sJoin) error {
	secrets, err := a.keeper.Current().Unseal(api.VerbK3sJoin, j.Sealed)
	if err != nil {
		return fmt.Errorf("%w: %w", command.ErrRejected, err)
	}
	for _, f := range secrets.Files["k3s"] {
		if f.Path == "token" {
			return a.k3s.Join(ctx, j.Server, j.Name, string(f.Data))
		}
	}
	return fmt.Errorf("%w: %w", command.ErrRejected, errors.New("no token is sealed in the command"))
}

func (a member) Leave(ctx context.Context) error { return a.k3s.Leave(ctx) }
