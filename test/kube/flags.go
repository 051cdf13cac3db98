package kube

import (
	"fmt"
	"path/filepath"
	"time"
)

// Where k3s has its pods and services.
const (
	podRange     = "10.42.0.0/16"
	serviceRange = "10.43.0.0/16"
	issuer       = "https://kubernetes.default.svc.cluster.local"
)

func (p *ControlPlane) kineArgs() ([]string, error) {
	return []string{"--listen-address=unix://" + p.socket(), "--metrics-bind-address=0",
		"--endpoint=sqlite://" + filepath.Join(p.Dir, "state.db") + "?_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate"}, nil
}

// apiArgs are k3s's, but for what a test on loopback needs: no reconciler of endpoints (a loopback address may not be in an
// Endpoints object) and a port that is shared with the socket that holds it.
func (p *ControlPlane) apiArgs() ([]string, error) {
	c := p.papers
	args := []string{
		"--etcd-servers=unix://" + p.socket(),
		"--bind-address=" + p.options.Address, fmt.Sprintf("--secure-port=%d", p.port.number), "--permit-port-sharing=true",
		"--advertise-address=" + p.options.Address, "--endpoint-reconciler-type=none",
		"--cert-dir=" + filepath.Join(p.Dir, "tls"), "--tls-cert-file=" + c.apiServer.cert, "--tls-private-key-file=" + c.apiServer.key,
		"--client-ca-file=" + c.clients.file, "--anonymous-auth=false", "--enable-bootstrap-token-auth=true",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--profiling=false",
		"--service-cluster-ip-range=" + serviceRange,
		"--service-account-issuer=" + issuer, "--api-audiences=" + issuer + ",k3s",
		"--service-account-key-file=" + c.accountKey, "--service-account-signing-key-file=" + c.accountKey,
		"--kubelet-certificate-authority=" + c.servers.file, "--kubelet-client-certificate=" + c.kubeletClient.cert,
		"--kubelet-client-key=" + c.kubeletClient.key, "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--requestheader-client-ca-file=" + c.proxies.file, "--requestheader-allowed-names=" + frontProxy,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.frontProxy.cert, "--proxy-client-key-file=" + c.frontProxy.key, "--enable-aggregator-routing=true",
	}
	if p.Tunnel != nil {
		file, err := p.Tunnel.egressConfig()
		if err != nil {
			return nil, err
		}
		args = append(args, "--egress-selector-config-file="+file)
	}
	return append(args, p.options.APIServer...), nil
}

func (p *ControlPlane) managerArgs() ([]string, error) {
	c := p.papers
	config, err := p.component("kube-controller-manager")
	if err != nil {
		return nil, err
	}
	args := []string{
		"--kubeconfig=" + config, "--secure-port=0", "--leader-elect=false", "--profiling=false", "--use-service-account-credentials=true",
		"--controllers=*,token-cleaner-controller",
		"--allocate-node-cidrs=true", "--cluster-cidr=" + podRange, "--configure-cloud-routes=false",
		"--root-ca-file=" + c.servers.file, "--service-account-private-key-file=" + c.accountKey,
	}
	for signer, ca := range map[string]*authority{"kube-apiserver-client": c.clients, "kubelet-client": c.clients,
		"kubelet-serving": c.servers, "legacy-unknown": c.servers} {
		args = append(args, fmt.Sprintf("--cluster-signing-%s-cert-file=%s", signer, ca.file), fmt.Sprintf("--cluster-signing-%s-key-file=%s", signer, ca.keyFile()))
	}
	if grace := p.options.NodeGrace; grace > 0 {
		args = append(args, "--node-monitor-grace-period="+grace.String(), "--node-monitor-period="+max(grace/8, 100*time.Millisecond).String())
	}
	return append(args, p.options.ControllerManager...), nil
}

func (p *ControlPlane) schedulerArgs() ([]string, error) {
	config, err := p.component("kube-scheduler")
	return []string{"--kubeconfig=" + config, "--secure-port=0", "--leader-elect=false", "--profiling=false"}, err
}

// component writes the kubeconfig of a part of the control plane; it goes to the API server itself, never through a tunnel.
func (p *ControlPlane) component(name string) (string, error) {
	cert, err := p.papers.clients.client(p.papers.dir, name, "system:"+name)
	if err != nil {
		return "", err
	}
	file := filepath.Join(p.Dir, name+".kubeconfig")
	return file, writeKubeconfig(file, p.direct(), p.papers.servers.file, cert)
}
