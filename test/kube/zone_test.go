package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

const sign = `{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: %[1]s, namespace: kube-node-lease},
 spec: {holderIdentity: %[1]s, leaseDurationSeconds: 40, renewTime: %[2]q}}`

// TestDevicesThatAreAwayDoNotKeepPodsOnADeadMachine has most of the nodes be devices that sleep. They are copies of the Node of a device, without
// a Lease, as those of a cluster agent that is not here.
func TestDevicesThatAreAwayDoNotKeepPodsOnADeadMachine(t *testing.T) {
	// A device's Lease is renewed every 10 s.
	p := Start(t, Options{NodeGrace: 12 * time.Second})
	s := newSite(t, p, "zones", "kube.max_nodes=1")
	s.stand("leading")
	s.node("dev-z")
	s.conditionBecomes("node/dev-z", "Ready", "True", time.Minute)
	s.node("dev-y") // one more than there is room for
	s.becomes("mlsysopsnode", "dev-y", `.status.conditions[?(@.type=="Node")].reason`, "NoRoom")
	s.gone("node", "dev-y")
	var labels map[string]string
	if err := json.Unmarshal([]byte(kubectl(t, p, "get", "node", "dev-z", "-o", "jsonpath={.metadata.labels}")), &labels); err != nil {
		t.Fatal(err)
	}
	const away = 4
	for i := range away {
		own := maps.Clone(labels)
		for key, value := range own {
			if value == "dev-z" {
				own[key] = fmt.Sprint("asleep-", i)
			}
		}
		raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": fmt.Sprint("asleep-", i), "labels": own}})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, p, string(raw), "create", "-f", "-")
		kubectl(t, p, "patch", "node", fmt.Sprint("asleep-", i), "--subresource=status", "-p",
			strings.Replace(fmt.Sprintf(readyStatus, time.Now().UTC().Format(time.RFC3339)), `"True"`, `"Unknown"`, 1))
	}
	addNode(t, p, "dead")
	addNode(t, p, "alive")
	eventually(t, time.Minute, "pods on the machine that is dead are evicted", func() error {
		apply(t, p, fmt.Sprintf(sign, "alive", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")), "apply", "-f", "-")
		out, err := p.Admin.Kubectl(t.Context(), "get", "node", "dead", "-o", `jsonpath={range .spec.taints[*]}{.key}:{.effect} {end}`)
		if err == nil && !strings.Contains(out, "node.kubernetes.io/unreachable:NoExecute") {
			err = errors.New(out)
		}
		return err
	})
}
