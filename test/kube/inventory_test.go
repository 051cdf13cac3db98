package kube

import (
	"strings"
	"testing"
	"time"
)

func TestEveryDeviceIsAnObject(t *testing.T) {
	p := cluster(t)
	s := newSite(t, p, "inventory")
	s.stand("leading")
	if got := kubectl(t, p, "get", "crd", "nodecommands.edge.mlsysops.eu", "-o", `jsonpath={.metadata.annotations.edge\.mlsysops\.eu/crd-revision}`); got != "2" {
		t.Errorf("the CRD is of revision %q; wanted 2", got)
	}
	edge := s.node("inv-a")
	s.becomes("mlsysopsnode", "inv-a", online, "True")
	for path, want := range map[string]string{".continuum_layer": "far_edge", ".cluster_id": "inventory", ".name": "inv-a", ".hardware.cpu.architecture": "amd64",
		".status.presence": "online"} {
		s.becomes("mlsysopsnode", "inv-a", path, want)
	}
	s.becomes("mlsysopscluster", "inventory", ".nodes[*]", "inv-a")

	// What people say stays, what the device knows is put right.
	kubectl(t, p, "-n", agentNamespace, "patch", "mlsysopsnode", "inv-a", "--type=merge", "-p", `{"continuum_layer":"edge","mobile":true,"hardware":{"cpu":{"cores":999}}}`)
	eventually(t, time.Minute, "the cores are right again", func() error {
		got, err := s.field("mlsysopsnode", "inv-a", ".hardware.cpu.cores")
		if err == nil && got == "999" {
			return errUnchanged
		}
		return err
	})
	if err := s.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	s.start(s.cluster)
	s.learn()
	s.stand("leading")
	kubectl(t, p, "-n", agentNamespace, "label", "mlsysopsnode", "inv-a", "edge.mlsysops.eu/applied-", "--overwrite") // a change that has it looked at again
	s.becomes("mlsysopsnode", "inv-a", online, "True")
	for path, want := range map[string]string{".continuum_layer": "edge", ".mobile": "true"} {
		s.becomes("mlsysopsnode", "inv-a", path, want)
	}

	if err := edge.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.becomes("mlsysopsnode", "inv-a", `.status.conditions[?(@.type=="Connected")].reason`, "Offline")
	kubectl(t, p, "-n", agentNamespace, "delete", "mlsysopsnode", "inv-a", "--timeout=60s")
	s.knows()
	s.becomes("mlsysopscluster", "inventory", ".nodes[*]", "")
}

func TestADeviceThatIsRemovedLosesItsObject(t *testing.T) {
	p := cluster(t)
	s := newSite(t, p, "removal")
	s.stand("leading")
	s.node("rem-a")
	s.becomes("mlsysopsnode", "rem-a", online, "True")
	if err := s.client.Delete(t.Context(), "/v1/nodes/rem-a"); err != nil {
		t.Fatal(err)
	}
	s.gone("mlsysopsnode", "rem-a")
}

// TestAFleetOutlivesItsNamespace has a control plane of its own: the namespace goes.
func TestAFleetOutlivesItsNamespace(t *testing.T) {
	p := Start(t, Options{})
	s := newSite(t, p, "fleet")
	s.stand("leading")
	s.node("fleet-a")
	s.becomes("mlsysopsnode", "fleet-a", online, "True")
	if out := kubectl(t, p, "delete", "namespace", agentNamespace, "--timeout=90s"); !strings.Contains(out, "deleted") {
		t.Fatal(out)
	}
	s.knows("fleet-a")
}
