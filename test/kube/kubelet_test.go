package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// onDevice is a pod on a device: name, node, restart policy, the rest of its container, the rest of it.
const onDevice = `{apiVersion: v1, kind: Pod, metadata: {name: %[1]s, labels: {tier: one}}, spec: {nodeSelector: {kubernetes.io/hostname: %[2]s},
 tolerations: [{key: mlsysops.eu/far-edge, operator: Exists}], hostNetwork: true, restartPolicy: %[3]s, terminationGracePeriodSeconds: 1,
 containers: [{name: main, image: registry.test/app:1, %[4]s}]%[5]s}}`

// TestPodsOnADeviceLiveAsUnderAKubelet has what users of Kubernetes rely on without a thought.
func TestPodsOnADeviceLiveAsUnderAKubelet(t *testing.T) {
	p := Start(t, Options{})
	s := newSite(t, p, "life")
	s.stand("leading")
	s.importApp()
	edge := s.node("dev-l")
	s.conditionBecomes("node/dev-l", "Ready", "True", time.Minute)
	again := func(settings ...string) { // the node agent is killed, and starts with more
		if err := edge.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, set := range settings {
			edge.Args = append(edge.Args, "--set", set)
		}
		if err := edge.Start(); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("logs stay after the end until the pod is deleted", func(t *testing.T) {
		apply(t, p, fmt.Sprintf(onDevice, "failed", "dev-l", "Never", `args: [exit, "3"]`, ""), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/failed", "--for=jsonpath={.status.phase}=Failed", "--timeout=90s")
		for range 2 {
			eventually(t, time.Minute, "the log can be read", func() error {
				out, err := p.Admin.Kubectl(t.Context(), "logs", "failed")
				if err != nil || out != "I end with 3\n" {
					return fmt.Errorf("%q, %w", out, err)
				}
				return nil
			})
			again()
		}
		kubectl(t, p, "delete", "pod", "failed", "--timeout=60s")
		eventually(t, time.Minute, "nothing is left on the device", func() error {
			left, err := filepath.Glob(filepath.Join(s.dir, "dev-l", "state", "workloads", "*", "*_main_*"))
			if len(left) > 0 {
				return fmt.Errorf("%v", left)
			}
			return err
		})
	})
	t.Run("a refused pod waits and is not replaced without end", func(t *testing.T) {
		dir := filepath.Join(s.dir, "given")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		apply(t, p, fmt.Sprintf(strings.Replace(deployment, "hostNetwork: true", `hostNetwork: true, volumes: [{name: v, hostPath: {path: "`+dir+`"}}]`, 1),
			"refused", 1, "dev-l", `args: [count], volumeMounts: [{name: v, mountPath: /v}]`), "apply", "-f", "-")
		const why = "jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.containerStatuses[0].state.waiting.reason} {.status.containerStatuses[0].state.waiting.message}{\"\\n\"}{end}"
		first := ""
		eventually(t, time.Minute, "the refusal is told", func() error {
			first = kubectl(t, p, "get", "pods", "-l", "app=refused", "-o", why)
			if !strings.Contains(first, " Pending CreateContainerConfigError HostPathNotAllowed: ") {
				return fmt.Errorf("%q", first)
			}
			return nil
		})
		// Another pod's whole life goes by meanwhile.
		apply(t, p, fmt.Sprintf(onDevice, "meanwhile", "dev-l", "Never", `args: [exit, "0"]`, ""), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/meanwhile", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
		if now := kubectl(t, p, "get", "pods", "-l", "app=refused", "-o", why); now != first {
			t.Errorf("%q became %q", first, now)
		}
		again("workloads.host_paths=" + dir)
		if pod := of(t, p, "refused"); !strings.HasPrefix(first, pod+" ") {
			t.Errorf("pod %s runs; wanted the one that waited: %s", pod, first)
		}
		kubectl(t, p, "delete", "deployment", "refused", "--timeout=60s")
	})
	t.Run("a pod has to say that it gets the network of the device", func(t *testing.T) {
		apply(t, p, strings.Replace(fmt.Sprintf(onDevice, "silent", "dev-l", "Always", `args: [count]`, ""), "hostNetwork: true, ", "", 1), "apply", "-f", "-")
		eventually(t, time.Minute, "the refusal is told", func() error {
			out := kubectl(t, p, "get", "pod", "silent", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].state.waiting.reason} {.status.containerStatuses[0].state.waiting.message}")
			if !strings.HasPrefix(out, "Pending CreateContainerConfigError ") || !strings.Contains(out, "set hostNetwork: true") {
				return fmt.Errorf("%q", out)
			}
			return nil
		})
		kubectl(t, p, "delete", "pod", "silent", "--timeout=60s")
	})
	t.Run("a running pod is not disturbed by a label or a deadline or kubectl debug", func(t *testing.T) {
		apply(t, p, fmt.Sprintf(onDevice, "steady", "dev-l", "Always", `args: [count], env: [{name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}]`, ""), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/steady", "--for=condition=Ready", "--timeout=90s")
		const is = "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt} " +
			`{.status.conditions[?(@.type=="Ready")].status}`
		before := kubectl(t, p, "get", "pod", "steady", "-o", is)
		kubectl(t, p, "label", "pod", "steady", "tier=two", "--overwrite")
		kubectl(t, p, "patch", "pod", "steady", "-p", `{"spec":{"activeDeadlineSeconds":3600}}`)
		kubectl(t, p, "debug", "steady", "--image=registry.test/app:1", "--profile=general", "--quiet", "--attach=false", "--", "/app", "count")
		kubectl(t, p, "wait", "pod/steady", `--for=jsonpath={.status.conditions[?(@.type=="mlsysops.eu/AsKubelet")].status}=False`, "--timeout=60s")
		// A pod that begins after all of that has reached the device.
		apply(t, p, fmt.Sprintf(onDevice, "after", "dev-l", "Never", `args: [exit, "0"]`, ""), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/after", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
		if after := kubectl(t, p, "get", "pod", "steady", "-o", is); after != before || !strings.Contains(after, " 0 ") || !strings.HasSuffix(after, " True") {
			t.Errorf("%q became %q", before, after)
		}
		if out := kubectl(t, p, "exec", "steady", "--", "/app", "env", "TIER"); out != "one\n" {
			t.Errorf("TIER is %q; wanted what it was at the start", out)
		}
		kubectl(t, p, "patch", "pod", "steady", "-p", `{"spec":{"activeDeadlineSeconds":1}}`)
		kubectl(t, p, "wait", "pod/steady", "--for=jsonpath={.status.reason}=DeadlineExceeded", "--timeout=60s")
	})
	t.Run("a pod that was put on the device by hand runs too", func(t *testing.T) { // the cache has no more of it than where it is
		text := strings.Replace(fmt.Sprintf(onDevice, "by-hand", "dev-l", "Always", `args: [count]`, ""), "tolerations: [{key: mlsysops.eu/far-edge, operator: Exists}]", "nodeName: dev-l", 1)
		apply(t, p, text, "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/by-hand", "--for=condition=Ready", "--timeout=90s")
		if out := kubectl(t, p, "logs", "by-hand", "--limit-bytes=7"); out != "line 1\n" {
			t.Errorf("its log begins with %q", out)
		}
		kubectl(t, p, "delete", "pod", "by-hand", "--timeout=60s")
	})
	t.Run("an image that is patched begins its container anew and no other", func(t *testing.T) {
		s.bring(&archive{name: "registry.test/app:2", os: "linux", arch: runtime.GOARCH})
		apply(t, p, fmt.Sprintf(strings.Replace(onDevice, "containers: [", "containers: [{name: side, image: registry.test/app:1, args: [count]}, ", 1), "patched", "dev-l", "Always",
			"args: [count], volumeMounts: [{name: v, mountPath: /v}]", ", volumes: [{name: v, emptyDir: {}}]"), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/patched", "--for=condition=Ready", "--timeout=90s")
		const side = `jsonpath={.status.containerStatuses[?(@.name=="side")]}`
		before := kubectl(t, p, "get", "pod", "patched", "-o", side)
		kubectl(t, p, "exec", "patched", "-c", "main", "--", "/app", "write", "/v/kept", "by the first")
		kubectl(t, p, "set", "image", "pod/patched", "main=registry.test/app:2")
		kubectl(t, p, "wait", "pod/patched", `--for=jsonpath={.status.containerStatuses[?(@.name=="main")].restartCount}=1`, "--timeout=60s")
		kubectl(t, p, "wait", "pod/patched", "--for=condition=Ready", "--timeout=60s")
		if after := kubectl(t, p, "get", "pod", "patched", "-o", side); after != before {
			t.Errorf("the other container was %s and is %s", before, after)
		}
		if out := kubectl(t, p, "exec", "patched", "-c", "main", "--", "/app", "read", "/v/kept"); out != "by the first" {
			t.Errorf("the volume holds %q", out)
		}
	})
	t.Run("files of a ConfigMap and a Secret are renewed in a running pod", func(t *testing.T) { renewed(t, p) })
	t.Run("attach ties a terminal to the program itself", func(t *testing.T) {
		apply(t, p, fmt.Sprintf(onDevice, "attached", "dev-l", "Never", "args: [terminal], stdin: true, tty: true", ""), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/attached", "--for=condition=Ready", "--timeout=90s")
		if out, err := atTerminal(t, p, "again\rend\r", "attach", "-it", "attached"); err != nil || !strings.Contains(out, "columns") {
			t.Errorf("%v: %q", err, out)
		}
		kubectl(t, p, "wait", "pod/attached", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s") // by what was typed
	})
	t.Run("a pod that does not fit waits and the others go on", func(t *testing.T) {
		kubectl(t, p, "create", "configmap", "large", "--from-literal=text="+strings.Repeat("x", 72_000))
		apply(t, p, fmt.Sprintf(onDevice, "large", "dev-l", "Never", `args: [exit, "0"], envFrom: [{configMapRef: {name: large}}]`, ""), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/large", `--for=jsonpath={.status.conditions[?(@.type=="mlsysops.eu/Supported")].reason}=NoRoom`, "--timeout=60s")
		if why := kubectl(t, p, "get", "pod", "large", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].state.waiting.message}"); !strings.HasPrefix(why, "Pending no room for it") {
			t.Errorf("%q", why)
		}
		apply(t, p, fmt.Sprintf(onDevice, "beside", "dev-l", "Always", "args: [count]", ""), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/beside", "--for=condition=Ready", "--timeout=90s")
		kubectl(t, p, "delete", "pod", "beside", "large", "--timeout=60s")
	})
	t.Run("a Node that a kubelet registers as is left to it", func(t *testing.T) { // the last one: the device has no Node then
		kubectl(t, p, "taint", "node", "dev-l", "mlsysops.eu/far-edge-") // what the cluster agent cannot leave as it is
		kubectl(t, p, "wait", "node/dev-l", "--for=jsonpath={.spec.taints[0].key}=mlsysops.eu/far-edge", "--timeout=60s")
		kubectl(t, p, "patch", "node", "dev-l", "--subresource=status", "-p", `{"status":{"nodeInfo":{"machineID":"5d1a1f0c2f1e4b0b9c3c0a7e6f2d4b81","systemUUID":"5d1a1f0c2f1e4b0b9c3c0a7e6f2d4b81"}}}`)
		kubectl(t, p, "taint", "node", "dev-l", "mlsysops.eu/far-edge-")
		eventually(t, time.Minute, "the doctor tells", func() error {
			var st api.ClusterStatus
			if err := s.client.Get(t.Context(), "/v1/status", &st); err != nil || !strings.Contains(strings.Join(st.Trouble, "\n"), "it is not a device's") {
				return fmt.Errorf("%q, %w", st.Trouble, err)
			}
			return nil
		})
		if out := kubectl(t, p, "get", "node", "dev-l", "-o", "jsonpath={.spec.taints[*].key} {.status.nodeInfo.machineID}"); strings.Contains(out, "far-edge") || !strings.HasSuffix(out, "5d1a1f0c2f1e4b0b9c3c0a7e6f2d4b81") {
			t.Errorf("the machine's Node was written: %q", out)
		}
	})
}

// renewed changes what a running pod refers to, and waits for it inside: nothing else tells of the change.
func renewed(t *testing.T, p *ControlPlane) {
	kubectl(t, p, "create", "configmap", "renewed", "--from-literal=word=one", "--from-literal=other=one")
	kubectl(t, p, "create", "secret", "generic", "renewed", "--from-literal=word=one")
	apply(t, p, fmt.Sprintf(onDevice, "renewed", "dev-l", "Always", `args: [count], env: [{name: WORD, valueFrom: {configMapKeyRef: {name: renewed, key: word}}}],
 volumeMounts: [{name: c, mountPath: /c}, {name: s, mountPath: /s}, {name: c, mountPath: /sub/word, subPath: word}]`,
		`, volumes: [{name: c, configMap: {name: renewed}}, {name: s, secret: {secretName: renewed}}]`), "apply", "-f", "-")
	kubectl(t, p, "wait", "pod/renewed", "--for=condition=Ready", "--timeout=90s")
	const is = "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}"
	before := kubectl(t, p, "get", "pod", "renewed", "-o", is)
	read := func(file string) (string, error) {
		return p.Admin.Kubectl(t.Context(), "exec", "renewed", "--", "/app", "read", file)
	}
	becomes := func(file, want string) {
		t.Helper()
		eventually(t, 3*time.Minute, file+" is "+want, func() error {
			if out, err := read(file); err != nil || out != want {
				return fmt.Errorf("%q, %w", out, err)
			}
			return nil
		})
	}
	becomes("/c/word", "one")
	becomes("/s/word", "one")
	kubectl(t, p, "patch", "configmap", "renewed", "--type=merge", "-p", `{"data":{"word":"two","other":null}}`)
	kubectl(t, p, "patch", "secret", "renewed", "--type=merge", "-p", `{"stringData":{"word":"two"}}`)
	becomes("/c/word", "two")
	becomes("/s/word", "two")
	becomes("/sub/word", "one") // as by a kubelet
	if out, err := read("/c/other"); err == nil {
		t.Errorf("a key that is no more has %q", out)
	}
	if after := kubectl(t, p, "get", "pod", "renewed", "-o", is); after != before || !strings.Contains(after, " 0 ") {
		t.Errorf("%q became %q", before, after)
	}
	const notice = `jsonpath={.status.conditions[?(@.type=="mlsysops.eu/AsKubelet")].message}`
	kubectl(t, p, "patch", "pod", "renewed", "--subresource=status", "-p", `{"status":{"conditions":[{"type":"mlsysops.eu/AsKubelet","status":"False","message":"of a cluster agent of before"}]}}`)
	eventually(t, time.Minute, "a notice that has no reason is taken back", func() error {
		if out := kubectl(t, p, "get", "pod", "renewed", "-o", notice); out != "" {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
	kubectl(t, p, "delete", "pod", "renewed", "--timeout=60s")
}
