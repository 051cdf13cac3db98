package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Part is the path of a program that `make bin/kube` builds from test/kube/parts: kine, kube-apiserver,
// kube-controller-manager, kube-scheduler or kubectl.
func Part(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "test", "kube", "parts", "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("find %s: %w", name, errors.New("not within the repository"))
		}
		dir = parent
	}
	path := filepath.Join(dir, "bin", "kube", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: %w; run: make bin/kube/kubectl", name, err)
	}
	return path, nil
}
