package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGeneratedPagesAreNotStale(t *testing.T) {
	root := filepath.Join("..", "..")
	pages, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Errorf("%v; run: make docs", err)
			continue
		}
		if string(got) != want {
			t.Errorf("docs/%s is stale; run: make docs", name)
		}
	}
}
