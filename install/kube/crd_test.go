package kube

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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
	if len(files) != 7 || len(embedded) != len(files) {
		t.Fatalf("%d files, %d embedded; wanted 7 of each: App, Node, Cluster, Continuum, Datacenter, NodeCommand, Rollout", len(files), len(embedded))
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

// TestEveryChangeOfTheCRDsHasARevision fails when a file has changed: raise Revision by one, and put the new digest here.
func TestEveryChangeOfTheCRDsHasARevision(t *testing.T) {
	const revision, digest = 2, "d27e38dbb91d40b6924196d5be7af12d"
	all, err := CRDs()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	for _, c := range all {
		sum.Write([]byte(c.File))
		sum.Write(c.YAML)
	}
	if got := hex.EncodeToString(sum.Sum(nil)[:16]); got != digest || Revision != revision {
		t.Errorf("revision %d has digest %s; wanted %d with %s. After a change of the CRDs, raise Revision, and note both here", Revision, got, revision, digest)
	}
}
