package configs

import (
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The modes of the cluster agent.
const (
	ModeStandalone = "standalone"
	ModeKube       = "kube"
	ModeK3s        = "k3s"
)

// Kube is the bridge to a Kubernetes API server; it counts in the modes kube and k3s.
type Kube struct {
	Kubeconfig  string        `mapstructure:"kubeconfig"`
	Namespace   string        `mapstructure:"namespace"`
	InstallCRDs bool          `mapstructure:"install_crds"`
	Layer       string        `mapstructure:"layer"`
	CommandRole string        `mapstructure:"command_role"`
	Refresh     time.Duration `mapstructure:"refresh"`

	VirtualNodes  bool   `mapstructure:"virtual_nodes"`
	MaxNodes      int    `mapstructure:"max_nodes"`
	HostNetwork   string `mapstructure:"host_network"`
	KubeletListen string `mapstructure:"kubelet_listen"`
	KubeletPorts  int    `mapstructure:"kubelet_ports"`
	KubeletVia    string `mapstructure:"kubelet_via"`
	Address       string `mapstructure:"address"`
}

// Whether a pod says that it has the network of its device.
const (
	HostNetworkRequired = "required"
	HostNetworkImplied  = "implied"
)

// How the API server reaches the kubelet API.
const (
	ViaAuto   = "auto"
	ViaK3s    = "k3s"
	ViaDirect = "direct"
)

// kubeletPort is a real kubelet's. k3s dials it on its own loopback when a tunnel session breaks off in the middle of a request.
const kubeletPort = 10250

func (k Kube) validate(bad *faults, mode, cluster string) {
	bad.need(slices.Contains([]string{ModeStandalone, ModeKube, ModeK3s}, mode), "mode", mode, "standalone, kube or k3s")
	bad.need(k.Kubeconfig == "" || filepath.IsAbs(k.Kubeconfig), "kube.kubeconfig", k.Kubeconfig, "an absolute path")
	bad.need(k.Kubeconfig == "" || mode != ModeStandalone, "kube.kubeconfig", k.Kubeconfig, "mode kube or k3s with it; standalone reads none")
	bad.need(api.ValidDNSLabel(k.Namespace), "kube.namespace", k.Namespace, "at most 63 of a-z, 0-9 and '-', first and last a letter or digit")
	bad.need(slices.Contains([]string{"cloud", "edge_infrastructure", "edge", "far_edge"}, k.Layer), "kube.layer", k.Layer,
		"cloud, edge_infrastructure, edge or far_edge")
	bad.need(slices.Contains([]string{string(api.RoleViewer), string(api.RoleOperator), string(api.RoleAdmin)}, k.CommandRole), "kube.command_role", k.CommandRole,
		"viewer (NodeCommands are refused), operator or admin")
	bad.need(k.Refresh >= time.Minute, "kube.refresh", k.Refresh, "at least 1m")
	bad.need(k.MaxNodes >= 0 && k.MaxNodes <= 50000, "kube.max_nodes", k.MaxNodes, "1 to 50000, or 0: as many as the pod network has room for")
	bad.need(slices.Contains([]string{HostNetworkRequired, HostNetworkImplied}, k.HostNetwork), "kube.host_network", k.HostNetwork, "required or implied")
	host, port, err := net.SplitHostPort(k.KubeletListen)
	n, _ := strconv.Atoi(port)
	bad.need(err == nil && n > 0 && n+k.KubeletPorts <= 65536 && (host == "" || net.ParseIP(host) != nil), "kube.kubelet_listen", k.KubeletListen,
		"an address and the first of kube.kubelet_ports ports, as in :10300")
	bad.need(k.KubeletPorts >= 1 && k.KubeletPorts <= 50000, "kube.kubelet_ports", k.KubeletPorts, "1 to 50000, one for each device that runs workloads")
	bad.need(n > kubeletPort || n+k.KubeletPorts <= kubeletPort, "kube.kubelet_listen", k.KubeletListen,
		"ports other than 10250, which is that of the machine's own kubelet")
	bad.need(slices.Contains([]string{ViaAuto, ViaK3s, ViaDirect}, k.KubeletVia), "kube.kubelet_via", k.KubeletVia, "auto, k3s or direct")
	bad.need(k.Address == "" || net.ParseIP(k.Address) != nil || api.ValidDNSName(k.Address), "kube.address", k.Address, "an IP address or a DNS name")
	bad.need(k.KubeletVia != ViaK3s || net.ParseIP(k.Address) == nil, "kube.address", k.Address,
		"a DNS name or nothing with kube.kubelet_via: k3s, which looks for a node's tunnel by the node's IP address")
	bad.need(mode != ModeKube && mode != ModeK3s || api.ValidID("cluster", cluster) != nil || api.ValidDNSName(cluster), "cluster", cluster, "a DNS name in the modes kube and k3s: no part of it empty, or with '-' first or last")
}
