package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Root is the repository that the working directory is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "test", "kube", "parts", "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not within the repository")
		}
		dir = parent
	}
}

// Part is the path of a program that `make bin/kube` builds from test/kube/parts: kine, kube-apiserver,
// kube-controller-manager, kube-scheduler or kubectl.
func Part(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	path := filepath.Join(root, "bin", "kube", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: %w; run: make bin/kube/kubectl", name, err)
	}
	return path, nil
}
