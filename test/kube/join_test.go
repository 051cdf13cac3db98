package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/system"
)

// k3sNode starts a node agent that may join k3s, with a k3s that writes down what it is started with.
func (s *site) k3sNode(name string) (dir string) {
	s.t.Helper()
	dir = filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	program := filepath.Join(dir, "k3s")
	text := fmt.Sprintf("#!/bin/sh\ntrap 'echo stopped >>%[1]s/argv; exit 0' TERM\ncp \"$5\" %[1]s/token\necho \"$@\" >>%[1]s/argv\nwhile :; do sleep 0.1; done\n", dir)
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
	var token api.Token
	if err := s.client.Post(s.t.Context(), "/v1/tokens", api.TokenRequest{TTL: "1h", MaxUses: 1}, &token); err != nil {
		s.t.Fatal(err)
	}
	text = fmt.Sprintf("node: %s\njoin: %q\ndir: %s\nruntime_dir: %s\nworkloads: {enabled: false}\nk3s: {allow: true, program: %s, data_dir: %s}\n",
		name, token.Join, filepath.Join(dir, "state"), filepath.Join(dir, "run"), program, filepath.Join(dir, "data"))
	config := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	edge, err := system.Program("skerry-edge")
	if err != nil {
		s.t.Fatal(err)
	}
	s.start(&system.Process{Name: name, Program: edge, Args: []string{"run", "--config", config}, Log: filepath.Join(dir, "log")})
	return dir
}

// TestADeviceJoinsAndLeavesK3s: with the rights of rbac.yaml and rbac-k3s-join.yaml, a real bootstrap token, and a token that no record has.
func TestADeviceJoinsAndLeavesK3s(t *testing.T) {
	p := cluster(t)
	s := newSite(t, p, "joins", "kube.virtual_nodes=false")
	kubectl(t, p, "apply", "-f", root("install", "kube", "rbac-k3s-join.yaml"))
	s.stand("leading")
	dir := s.k3sNode("join-a")
	s.becomes("mlsysopsnode", "join-a", online, "True")
	apply(t, p, fmt.Sprintf(worker, "join-a-k3s"), "create", "-f", "-") // of a former life
	kubectl(t, p, "-n", "kube-system", "create", "secret", "generic", "join-a-k3s.node-password.k3s")

	var none api.List[api.CommandRecord]
	err := s.client.Post(t.Context(), "/v1/commands", api.CommandRequest{Nodes: []string{"join-a"}, Verb: api.VerbK3sJoin, Deadline: "2m"}, &none)
	if err := refusedWith(err, "was not joined by Skerry"); err != nil {
		t.Error(err)
	}
	kubectl(t, p, "label", "node", "join-a-k3s", "mlsysops.eu/joined-by=skerry")
	run := func(verb string, args map[string]any) api.CommandRecord {
		t.Helper()
		var list api.List[api.CommandRecord]
		if err := s.client.Post(t.Context(), "/v1/commands", api.CommandRequest{Nodes: []string{"join-a"}, Verb: verb, Args: args, Deadline: "2m"}, &list); err != nil {
			t.Fatal(err)
		}
		rec := list.Items[0]
		eventually(t, 2*time.Minute, verb+" ends", func() error {
			if err := s.client.Get(t.Context(), "/v1/commands/"+rec.ID, &rec); err != nil {
				return err
			}
			if !rec.Final {
				return fmt.Errorf("it is %s", rec.Phase)
			}
			return nil
		})
		if rec.Phase != api.PhaseSucceeded {
			t.Fatalf("%s: %s, %+v", verb, rec.Phase, rec.Status)
		}
		return rec
	}
	rec := run(api.VerbK3sJoin, map[string]any{"server": p.Tunnel.URL()})
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(p.papers.servers.file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(bundle)
	parts := regexp.MustCompile(`^K10([0-9a-f]{64})::([a-z0-9]{6})\.([a-z0-9]{16})$`).FindStringSubmatch(string(token))
	if parts == nil || parts[1] != hex.EncodeToString(sum[:]) {
		t.Fatalf("token %q; wanted K10%x::id.secret", token, sum)
	}
	if typ := kubectl(t, p, "-n", "kube-system", "get", "secret", "bootstrap-token-"+parts[2], "-o", "jsonpath={.type}"); typ != "bootstrap.kubernetes.io/token" {
		t.Errorf("the secret is of type %q", typ)
	}
	// It opens the API, as k3s wants it.
	who, err := p.Admin.Kubectl(t.Context(), "--token", parts[2]+"."+parts[3], "--kubeconfig", withoutUser(t, p), "auth", "whoami", "-o", "jsonpath={.status.userInfo}")
	if err != nil || !strings.Contains(who, "system:bootstrappers:k3s:default-node-token") {
		t.Errorf("whoami of the token: %s, %v", who, err)
	}
	for _, gone := range []string{"node/join-a-k3s", "secret/join-a-k3s.node-password.k3s"} {
		if _, err := p.Admin.Kubectl(t.Context(), "-n", "kube-system", "get", gone); refusedWith(err, "not found") != nil {
			t.Errorf("%s: %v; wanted it gone", gone, err)
		}
	}
	argv, err := os.ReadFile(filepath.Join(dir, "argv"))
	if want := "agent --server " + p.Tunnel.URL() + " --token-file "; err != nil || !strings.HasPrefix(string(argv), want) || !strings.Contains(string(argv), "--node-name join-a-k3s") {
		t.Errorf("k3s is started with %q, %v; wanted %q", argv, err, want)
	}
	for what, text := range map[string]string{"command": fmt.Sprint(rec), "argv": string(argv), "logs": s.text("join-a/log") + s.text("cluster.log")} {
		if strings.Contains(text, parts[3]) {
			t.Errorf("the token's secret is in the %s", what)
		}
	}
	run(api.VerbK3sLeave, nil)
	if argv, err = os.ReadFile(filepath.Join(dir, "argv")); err != nil || !strings.HasSuffix(string(argv), "stopped\n") {
		t.Errorf("k3s was started and ended with %q, %v", argv, err)
	}
	err = s.client.Post(t.Context(), "/v1/commands", api.CommandRequest{Nodes: []string{"join-a"}, Verb: api.VerbK3sJoin,
		Args: map[string]any{"token": "mine"}, Deadline: "2m"}, &none)
	if err := refusedWith(err, "args.token"); err != nil {
		t.Error(err)
	}
}

func (s *site) text(name string) string {
	raw, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Error(err)
	}
	return string(raw)
}

// withoutUser is a kubeconfig of nobody.
func withoutUser(t *testing.T, p *ControlPlane) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nobody")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: x, cluster: {server: %q, certificate-authority: %q}}]\n"+
		"contexts: [{name: x, context: {cluster: x, user: x}}]\nusers: [{name: x, user: {}}]\n", p.URL(), p.papers.servers.file)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
