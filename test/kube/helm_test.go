package kube

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// helm is the real one, `make bin/helm`, with settings of its own and the API server of a plane, if any.
type helm struct {
	program string
	env     []string
}

func newHelm(t testing.TB, p *ControlPlane) helm {
	t.Helper()
	program, err := filepath.Abs(root("bin", "helm"))
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		err = fmt.Errorf("%w; run: make bin/helm", err)
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	home := t.TempDir()
	h := helm{program: program, env: []string{"HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home}}
	if p != nil {
		h.env = append(h.env, "KUBECONFIG="+p.Admin.Kubeconfig)
	}
	return h
}

// chart is the directory of the cluster agent's.
func chart() string { return root("install", "helm", "skerry-cluster") }

// run returns what helm prints; the error holds what it complains of.
func (h helm) run(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.program, args...)
	var out, complaints bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = h.env, &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w: %s%s", strings.Join(args, " "), err, complaints.String(), out.String())
	}
	return out.String(), nil
}

// render is helm template of a release, with values in YAML.
func (h helm) render(t testing.TB, release, namespace, values string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	return h.run(t, "template", release, chart(), "--namespace", namespace, "--values", file)
}

// objects are the documents of a text, by kind and name.
func objects(t testing.TB, text string) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var o map[string]any
		if err := d.Decode(&o); err != nil {
			if strings.Contains(err.Error(), "EOF") {
				return all
			}
			t.Fatal(errors.Join(err, errors.New(text)))
		}
		if o == nil {
			continue
		}
		key := fmt.Sprint(o["kind"], " ", at(o, "metadata", "name"))
		if ns := at(o, "metadata", "namespace"); ns != nil {
			key += fmt.Sprint(" in ", ns)
		}
		if all[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		all[key] = o
	}
}

// at follows keys; nil when there is nothing.
func at(o any, keys ...string) any {
	for _, k := range keys {
		m, ok := o.(map[string]any)
		if !ok {
			return nil
		}
		o = m[k]
	}
	return o
}
