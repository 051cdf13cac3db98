package install

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// fakeK3s knows what the installers ask of k3s: it is up unless /run/k3s-down is there, issues a token, imports images, and as an agent gets a
// certificate from its server when the token is right.
const fakeK3s = `#!/bin/sh
case $1 in
--version) echo "k3s version v1.37.2+k3s1 (c0ffee)"; exit ;;
ctr)
	[ ! -e /run/no-containerd ] || { echo "ctr: cannot connect to containerd" >&2; exit 1; }
	shift 5
	cat "$1" >/run/imported
	exit ;;
agent)
	mkdir -p /var/lib/rancher/k3s/agent
	[ "$K3S_TOKEN" != K10wrong::x ] || exit 1
	echo "$K3S_URL $K3S_TOKEN" >/var/lib/rancher/k3s/agent/client-kubelet.crt
	exit ;;
esac
[ "$1 $2 $3" = "kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml" ] || exit 9
shift 3
case "$*" in
'get --raw /readyz') [ ! -e /run/k3s-down ] || { echo "The connection to the server 127.0.0.1:6443 was refused" >&2; exit 1; } ;;
'apply -f '*) cat "$3" >/run/applied ;;
*'get secret skerry-cluster-token '*) [ ! -e /run/no-token ] && printf token-of-the-account ;;
*'get statefulset '*) [ ! -e /run/no-pod ] && sed -n 's|^# chart of \(.*\)|ghcr.io/skerry-edge/skerry-cluster:\1 1 1|p' /var/lib/rancher/k3s/server/manifests/skerry-cluster.yaml ;;
*delete*) echo "$*" >>/run/deleted ;;
*) echo "k3s kubectl $*" ;;
esac
`

// withK3s makes the machine a k3s server.
func withK3s(m *Machine) {
	m.Write("/usr/local/bin/k3s", fakeK3s, 0o755)
	m.Write("/etc/rancher/k3s/k3s.yaml", "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Q0E=\n    server: https://127.0.0.1:6443\n  name: default\n", 0o600)
	for _, dir := range []string{"server/manifests", "agent/images"} {
		m.Write("/var/lib/rancher/k3s/"+dir+"/.keep", "", 0o600)
	}
}

const kubeconfigOfTheAccount = `apiVersion: v1
kind: Config
current-context: k3s
clusters: [{name: k3s, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: "Q0E="}}]
users: [{name: skerry-cluster, user: {token: "token-of-the-account"}}]
contexts: [{name: k3s, context: {cluster: k3s, user: skerry-cluster}}]
`

func (m *Machine) wantFile(path, want string) {
	m.t.Helper()
	if got := m.Read(path); got != want {
		m.t.Errorf("%s is\n%s\nwanted\n%s", path, got, want)
	}
}

func TestBesideK3sTheClusterAgentHasAnAccountOfItsOwn(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for _, shell := range shells {
		t.Run(shell[0], func(t *testing.T) {
			m := NewMachine(t, d.Handler())
			withSystemd(m)
			withK3s(m)
			out, code := m.install(d, shell, nil, "cluster")
			wantRun(t, out, code, 0, "there is a k3s server on this machine", "k3s has the account skerry-cluster", "skerry-cluster 1.2.3 is online")
			if got := m.Read("/etc/skerry/cluster.yaml"); !strings.Contains(got, "\nmode: kube\n") || !strings.Contains(got, "\n  kubeconfig: /run/credentials/skerry-cluster.service/kubeconfig\n") {
				t.Errorf("cluster.yaml is\n%s", got)
			}
			m.wantFile("/etc/skerry/kubeconfig", kubeconfigOfTheAccount)
			m.wantMode("/etc/skerry/kubeconfig", "-rw-------")
			m.wantFile("/etc/systemd/system/skerry-cluster.service.d/k3s.conf", "[Unit]\nAfter=k3s.service\n\n[Service]\nLoadCredential=kubeconfig:/etc/skerry/kubeconfig\n")
			if got := m.Read("/run/applied"); !strings.HasPrefix(got, "# rights of 1.2.3\n---\napiVersion: v1\nkind: Secret\n") || !strings.Contains(got, "\nmetadata:\n  name: skerry-cluster-token\n") {
				t.Errorf("applied was\n%s", got)
			}
			before := m.Listing()
			out, code = m.install(d, shell, nil, "cluster")
			wantRun(t, out, code, 0, "nothing has changed: skerry-cluster goes on")
			m.Same(before)
			out, code = m.Run(nil, append(append([]string{}, shell...), "/usr/local/bin/skerry-uninstall", "--purge")...)
			wantRun(t, out, code, 0, "removed /etc/systemd/system/skerry-cluster.service.d/k3s.conf", "stay in k3s")
			m.wantFile("/run/deleted", "-n mlsysops delete --ignore-not-found secret/skerry-cluster-token\n")
		})
	}
}

func TestWithoutSystemdTheKubeconfigIsReadWhereItIs(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withK3s(m)
	out, code := m.install(d, shells[2], nil, "cluster")
	wantRun(t, out, code, 0, "init: none", "wrote /etc/skerry/kubeconfig")
	if got := m.Read("/etc/skerry/cluster.yaml"); !strings.Contains(got, "\n  kubeconfig: /etc/skerry/kubeconfig\n") || m.Read("/etc/systemd/system/skerry-cluster.service.d/k3s.conf") != "" {
		t.Errorf("cluster.yaml is\n%s", got)
	}
}

func TestWhatK3sDoesNotGiveInstallsNothing(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for _, c := range []struct {
		name, flag, want string
		code             int
		args             []string
	}{
		{"k3s is down", "/run/k3s-down", "does not answer: The connection to the server 127.0.0.1:6443 was refused; start it first, or set SKERRY_K3S=no", 2, []string{"cluster"}},
		{"no token", "/run/no-token", "k3s issues no token for the account skerry-cluster", 1, []string{"cluster"}},
		{"in the cluster, k3s is down", "/run/k3s-down", "start it first", 2, []string{"cluster", "--in-cluster"}},
		{"no import", "/run/no-containerd", "k3s cannot import the image skerry-cluster_1.2.3.oci.tar: ctr: cannot connect to containerd", 1, []string{"cluster", "--in-cluster"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMachine(t, d.Handler())
			withSystemd(m)
			withK3s(m)
			m.Write(c.flag, "", 0o600)
			m.Write("/run/applied", "", 0o644) // the account may be there
			m.Write("/root/install.sh", d.Script, 0o644)
			before := m.Listing()
			out, code := m.install(d, shells[0], []string{"SKERRY_ADVERTISE=192.0.2.1"}, c.args...)
			wantRun(t, out, code, c.code, c.want)
			m.Write("/run/applied", "", 0o644)
			m.Same(before)
		})
	}
}

func TestK3sCanBeLeftAlone(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	withK3s(m)
	out, code := m.install(d, shells[0], []string{"SKERRY_K3S=no"}, "cluster")
	wantRun(t, out, code, 0, "skerry-cluster 1.2.3 is online")
	if got := m.Read("/etc/skerry/cluster.yaml"); !strings.Contains(got, "\nmode: standalone\n") || m.Read("/etc/skerry/kubeconfig") != "" || m.Read("/run/applied") != "" {
		t.Errorf("cluster.yaml is\n%s\napplied: %s", got, m.Read("/run/applied"))
	}
	// What is configured stays; that it is of another mode is said.
	out, code = m.install(d, shells[0], nil, "cluster")
	wantRun(t, out, code, 0, "warning: /etc/skerry/cluster.yaml is not of the mode kube", "wrote /etc/skerry/cluster.yaml.new")
	if got := m.Read("/etc/skerry/cluster.yaml"); !strings.Contains(got, "\nmode: standalone\n") {
		t.Errorf("cluster.yaml became\n%s", got)
	}
}

func TestInTheClusterK3sInstallsTheChart(t *testing.T) {
	t.Parallel()
	const manifests, image = "/var/lib/rancher/k3s/server/manifests/", "/var/lib/rancher/k3s/agent/images/skerry-cluster.oci.tar"
	for _, shell := range shells {
		t.Run(shell[0], func(t *testing.T) {
			d := NewDepot(t)
			d.Release("1.2.3", nil)
			m := NewMachine(t, d.Handler())
			withSystemd(m)
			withK3s(m)
			env := []string{"SKERRY_ADVERTISE=192.0.2.1,hub.example"}
			out, code := m.install(d, shell, env, "cluster", "--in-cluster")
			wantRun(t, out, code, 0, "skerry-cluster 1.2.3 is online", "exec skerry-cluster-0 -- /skerry-cluster admin >admin.yaml; SKERRY_CONFIG=admin.yaml /usr/local/bin/skerry token create")
			m.wantFile(manifests+"skerry-cluster.yaml", "# chart of 1.2.3\n")
			m.wantFile("/run/imported", "image of 1.2.3")
			m.wantFile(image, "image of 1.2.3")
			m.wantMode(manifests+"skerry-cluster-config.yaml", "-rw-------")
			values := m.Read(manifests + "skerry-cluster-config.yaml")
			if !strings.Contains(values, "kind: HelmChartConfig\nmetadata:\n  name: skerry-cluster\n  namespace: kube-system\nspec:\n  valuesContent: |-\n    config:\n      advertise: [\"192.0.2.1\",\"hub.example\"]\n") {
				t.Errorf("the values are\n%s", values)
			}
			if m.Read("/etc/systemd/system/skerry-cluster.service") != "" || m.Read("/usr/local/bin/skerry-cluster") != "" || m.Read("/run/calls") != "" {
				t.Error("a service was installed too")
			}
			before := m.Listing()
			out, code = m.install(d, shell, nil, "cluster", "--in-cluster")
			wantRun(t, out, code, 0, "is online")
			m.Same(before)

			d.Release("1.10.0", nil)
			out, code = m.install(d, shell, []string{"SKERRY_ADVERTISE=192.0.2.9"}, "cluster", "--in-cluster")
			wantRun(t, out, code, 0, "skerry-cluster 1.10.0 is online", "skerry-cluster-config.yaml stays as it is")
			m.wantFile(manifests+"skerry-cluster.yaml", "# chart of 1.10.0\n")
			m.wantFile(image, "image of 1.10.0")
			m.wantFile(manifests+"skerry-cluster-config.yaml", values)

			out, code = m.Run(nil, append(append([]string{}, shell...), "/usr/local/bin/skerry-uninstall")...)
			wantRun(t, out, code, 0, "claim state-skerry-cluster-0")
			m.wantFile("/run/deleted", "-n kube-system delete --ignore-not-found helmcharts.helm.cattle.io/skerry-cluster\n")
			m.wantFile(manifests+"skerry-cluster-config.yaml", values) // its owner's
			if left := m.Read(manifests+"skerry-cluster.yaml") + m.Read(image); left != "" {
				t.Errorf("it left\n%s", left)
			}
		})
	}
}

func TestInTheClusterWhatIsMissingIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withSystemd(m)
	m.Write("/root/install.sh", d.Script, 0o644)
	before := m.Listing()
	refused := func(want string, env []string, args ...string) {
		t.Helper()
		out, code := m.install(d, shells[0], env, args...)
		wantRun(t, out, code, 2, want)
		m.Same(before)
	}
	refused("--in-cluster wants a k3s server on this machine: there is no /etc/rancher/k3s/k3s.yaml", nil, "cluster", "--in-cluster")
	refused("wanted at most one of: edge cluster cli; or cluster --in-cluster", nil, "edge", "--in-cluster")
	refused("SKERRY_K3S=maybe with edge; wanted join with edge, no with cluster, or nothing", []string{"SKERRY_K3S=maybe"})
	refused("SKERRY_K3S=join with cluster", []string{"SKERRY_K3S=join"}, "cluster")
	withK3s(m)
	before = m.Listing()
	refused("set SKERRY_ADVERTISE to the names and addresses", nil, "cluster", "--in-cluster")
	refused("k3s starts at once what is in its directory", []string{"INSTALL_SKERRY_SKIP_START=1"}, "cluster", "--in-cluster")
	refused("there is no /data/k3s/server/manifests; has k3s another directory", []string{"K3S_DATA_DIR=/data/k3s"}, "cluster", "--in-cluster")

	m.Write("/run/no-pod", "", 0o600)
	out, code := m.install(d, shells[0], []string{"SKERRY_ADVERTISE=192.0.2.1", "INSTALL_SKERRY_WAIT=3"}, "cluster", "--in-cluster")
	wantRun(t, out, code, 3, "skerry-cluster is installed, and not online after 3 s", "k3s kubectl -n kube-system get helmcharts.helm.cattle.io", "k3s kubectl -n mlsysops get pods,")
}

func TestADryRunNextToK3sWritesNothing(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	for want, c := range map[string]struct {
		server bool
		env    []string
		args   []string
	}{
		"would make the account skerry-cluster in k3s":                          {true, nil, []string{"cluster"}},
		"would write /var/lib/rancher/k3s/server/manifests/skerry-cluster.yaml": {true, []string{"SKERRY_ADVERTISE=192.0.2.1"}, []string{"cluster", "--in-cluster"}},
		"would write /etc/systemd/system/k3s-agent.service.env":                 {false, []string{"SKERRY_K3S=join", "K3S_URL=https://192.0.2.1:6443", "K3S_TOKEN=x"}, nil},
	} {
		t.Run(want, func(t *testing.T) {
			m := NewMachine(t, d.Handler())
			withSystemd(m)
			withK3s(m)
			if !c.server {
				m.Do(func() error { return os.Remove(m.Path("/etc/rancher/k3s/k3s.yaml")) })
			}
			m.Write("/root/install.sh", d.Script, 0o644)
			before := m.Listing()
			out, code := m.install(d, shells[0], append(c.env, "INSTALL_SKERRY_DRY_RUN=1"), c.args...)
			wantRun(t, out, code, 0, want, "dry run: nothing was written")
			m.Same(before)
		})
	}
}

func TestInTheClusterNoInitSystemIsNeeded(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, d.Handler())
	withK3s(m)
	m.Write("/run/no-pod", "", 0o600)
	out, code := m.install(d, shells[2], []string{"SKERRY_ADVERTISE=192.0.2.1", "INSTALL_SKERRY_WAIT=2", "INSTALL_SKERRY_INIT=none"}, "cluster", "--in-cluster")
	wantRun(t, out, code, 3, "init: none", "not online after 2 s")
}

// joining is a systemctl that starts k3s-agent as its unit says, in so far as a shell can.
const joining = `#!/bin/sh
case $1 in
is-enabled) [ -e /run/enabled ]; exit ;;
is-active) [ -e /run/online ]; exit ;;
enable) : >/run/enabled ;;
restart)
	unit=/etc/systemd/system/$2
	set -a
	. "$(sed -n 's/^EnvironmentFile=//p' $unit)"
	$(sed -n 's/^ExecStart=//p' $unit) && : >/run/online ;;
esac
echo "$*" >>/run/calls
`

func TestAMachineJoinsK3sInsteadOfBeingADevice(t *testing.T) {
	t.Parallel()
	d := NewDepot(t) // whose release server does not answer, as nobody asks it
	d.Release("1.2.3", nil)
	join := []string{"SKERRY_K3S=join", "K3S_URL=https://192.0.2.1:6443", "K3S_TOKEN=K10abc::server:s3cret"}
	for _, shell := range shells {
		t.Run(shell[0], func(t *testing.T) {
			m := NewMachine(t, nil)
			m.Write("/run/systemd/system/x", "", 0o644)
			m.Write("/usr/bin/systemctl", joining, 0o755)
			m.Write("/usr/local/bin/k3s", fakeK3s, 0o755)
			out, code := m.install(d, shell, join)
			wantRun(t, out, code, 0, "agent of the k3s at https://192.0.2.1:6443, and no device: k3s version v1.37.2+k3s1", "this machine has joined")
			if strings.Contains(out, "s3cret") {
				t.Errorf("it prints the token:\n%s", out)
			}
			m.wantFile("/etc/systemd/system/k3s-agent.service.env", "K3S_TOKEN='K10abc::server:s3cret'\nK3S_URL='https://192.0.2.1:6443'\n")
			m.wantMode("/etc/systemd/system/k3s-agent.service.env", "-rw-------")
			m.wantFile("/var/lib/rancher/k3s/agent/client-kubelet.crt", "https://192.0.2.1:6443 K10abc::server:s3cret\n")
			m.wantFile("/run/calls", "daemon-reload\nenable k3s-agent.service\nrestart k3s-agent.service\n")
			if m.Read("/usr/local/bin/skerry-edge") != "" {
				t.Error("skerry-edge was installed as well")
			}
			if out, code := m.Run(nil, "systemd-analyze", "verify", "/etc/systemd/system/k3s-agent.service"); code != 0 || strings.TrimSpace(out) != "" {
				t.Errorf("systemd-analyze verify: %d\n%s", code, out)
			}
			before := m.Listing()
			out, code = m.install(d, shell, join)
			wantRun(t, out, code, 0, "nothing has changed: k3s-agent goes on", "this machine has joined")
			m.Same(before)
			out, code = m.install(d, shell, []string{"SKERRY_K3S=join", "K3S_URL=https://192.0.2.7:6443", "K3S_TOKEN=x"}, "edge")
			wantRun(t, out, code, 2, "joins this machine to https://192.0.2.1:6443; wanted https://192.0.2.7:6443")
			m.Same(before)
		})
	}
}

func TestUnderOpenRCK3sIsAServiceToo(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	m := NewMachine(t, nil)
	m.Write("/usr/local/bin/k3s", fakeK3s, 0o755)
	m.Write("/sbin/openrc-run", "#!/bin/sh\n. \"$1\"\n\"$command\" $command_args\n", 0o755)
	m.Write("/sbin/rc-service", "#!/bin/sh\ncase $* in *status*) [ -e /run/online ]; exit ;; esac\n/etc/init.d/$1 && : >/run/online\n", 0o755)
	m.Write("/sbin/rc-update", "#!/bin/sh\n[ $1 = show ] && { cat /run/runlevel 2>/dev/null; exit 0; }\necho \" $2 | $3\" >>/run/runlevel\n", 0o755)
	join := []string{"SKERRY_K3S=join", "K3S_URL=https://192.0.2.1:6443", "K3S_TOKEN=K10abc::server:s3cret"}
	out, code := m.install(d, shells[2], join)
	wantRun(t, out, code, 0, "init: openrc", "this machine has joined")
	m.wantFile("/var/lib/rancher/k3s/agent/client-kubelet.crt", "https://192.0.2.1:6443 K10abc::server:s3cret\n")
	m.wantMode("/etc/rancher/k3s/k3s-agent.env", "-rw-------")
	m.wantFile("/run/runlevel", " k3s-agent | default\n")
	before := m.Listing()
	out, code = m.install(d, shells[2], join)
	wantRun(t, out, code, 0, "nothing has changed")
	m.Same(before)
}

func TestAMachineThatCannotJoinK3sIsToldWhy(t *testing.T) {
	t.Parallel()
	d := NewDepot(t)
	d.Release("1.2.3", nil)
	good := map[string]string{"K3S_URL": "https://192.0.2.1:6443", "K3S_TOKEN": "K10abc::server:s3cret"}
	for _, c := range []struct {
		name, key, value, want string
		prepare                func(m *Machine)
	}{
		{"no k3s", "", "", "k3s is not on this machine, and this script fetches it from nowhere. Put the program of the server's version", func(m *Machine) { m.Remove("k3s") }},
		{"k3s of another kind", "", "", "/usr/local/bin/k3s does not run on this machine", func(m *Machine) { m.Write("/usr/local/bin/k3s", "#!/bin/sh\nexit 126\n", 0o755) }},
		{"no URL", "K3S_URL", "", "K3S_URL=; wanted the URL of a k3s server", nil},
		{"no TLS", "K3S_URL", "http://192.0.2.1:6443", "wanted the URL of a k3s server, such as https://192.0.2.1:6443", nil},
		{"no token", "K3S_TOKEN", "", "K3S_TOKEN is not set; wanted the token of the k3s server, which is there in /var/lib/rancher/k3s/server/node-token", nil},
		{"a token that ends the quote", "K3S_TOKEN", "a'; reboot; '", "K3S_TOKEN has a character that does not belong into one", nil},
		{"a server", "", "", "this machine is a k3s server", withK3s},
		{"joined by the agent", "", "", "skerry run k3s.leave --on NODE takes it out", func(m *Machine) { m.Write("/var/lib/skerry-edge/k3s/join.json", "{}", 0o600) }},
		{"a member of something", "", "", "k3s is a member of a cluster already", func(m *Machine) { m.Write("/var/lib/rancher/k3s/agent/client-kubelet.crt", "x", 0o600) }},
		{"too little memory", "", "", "this machine has 390 MiB of memory, and an agent of k3s wants 512", func(m *Machine) {
			m.Write("/root/meminfo", "MemTotal:         400000 kB\n", 0o644)
			m.Bind("/root/meminfo", "/proc/meminfo")
		}},
		{"no init system", "", "", "SKERRY_K3S=join takes systemd or OpenRC; here is: none", func(m *Machine) { m.Do(func() error { return os.RemoveAll(m.Path("/run/systemd")) }) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMachine(t, nil)
			m.Write("/run/systemd/system/x", "", 0o644)
			m.Write("/usr/bin/systemctl", joining, 0o755)
			m.Write("/usr/local/bin/k3s", fakeK3s, 0o755)
			if c.prepare != nil {
				c.prepare(m)
			}
			m.Write("/root/install.sh", d.Script, 0o644)
			before := m.Listing()
			env := []string{"SKERRY_K3S=join"}
			for key, value := range good {
				if key == c.key {
					value = c.value
				}
				env = append(env, fmt.Sprintf("%s=%s", key, value))
			}
			out, code := m.install(d, shells[0], env)
			wantRun(t, out, code, 2, c.want)
			if strings.Contains(out, "s3cret") {
				t.Errorf("it prints the token:\n%s", out)
			}
			m.Same(before)
		})
	}
	// What the server refuses is told with k3s's own words.
	m := NewMachine(t, nil)
	m.Write("/run/systemd/system/x", "", 0o644)
	m.Write("/usr/bin/systemctl", joining, 0o755)
	m.Write("/usr/bin/journalctl", "#!/bin/sh\necho \"journal of $2\"\n", 0o755)
	m.Write("/usr/local/bin/k3s", fakeK3s, 0o755)
	out, code := m.install(d, shells[0], []string{"SKERRY_K3S=join", "K3S_URL=https://192.0.2.1:6443", "K3S_TOKEN=K10wrong::x", "INSTALL_SKERRY_WAIT=2"})
	wantRun(t, out, code, 3, "k3s-agent is installed, and not online after 2 s", "journal of k3s-agent")
}
