package kube

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestEveryFileIsEmbeddedAsItStands(t *testing.T) {
	files, err := filepath.Glob("crd/*")
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := CRDs()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 6 || len(embedded) != len(files) {
		t.Fatalf("%d files, %d embedded; wanted 6 of each: App, Node, Cluster, Continuum, Datacenter, NodeCommand", len(files), len(embedded))
	}
	for i, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if embedded[i].File != filepath.Base(path) || !bytes.Equal(embedded[i].YAML, text) {
			t.Errorf("CRD %d is %s; wanted %s, byte for byte", i, embedded[i].File, path)
		}
	}
}
