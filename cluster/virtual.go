package cluster

import (
	"net"
	"strconv"

	"github.com/skerry-edge/skerry/cluster/kube"
	"github.com/skerry-edge/skerry/configs"
)

// virtual is what makes devices nodes, nil when the configuration wants none.
func (a *Agent) virtual() *kube.Virtual {
	k := a.cfg.Kube
	if !k.VirtualNodes {
		return nil
	}
	host, port, _ := net.SplitHostPort(k.KubeletListen) // validated, as is the port
	first, _ := strconv.Atoi(port)
	advertised := ""
	if names, err := a.advertised(); err == nil && len(names) > 0 {
		advertised = names[0]
	}
	reach := inside{a.streams}
	return &kube.Virtual{Devices: devices{a, &pressures{agent: a}}, Documents: a, Inside: reach, Gauges: reach,
		HostNetworkImplied: k.HostNetwork == configs.HostNetworkImplied, Via: k.KubeletVia, Address: k.Address,
		Advertised: advertised, Host: host, FirstPort: first, Ports: k.KubeletPorts, MaxNodes: k.MaxNodes}
}
