package cluster

import (
	"fmt"
	"net"
	"os"
)

// advertised are the names and addresses under which nodes reach this machine: the one that it listens on, when that is one.
func (a *Agent) advertised() ([]string, error) {
	if len(a.cfg.Advertise) > 0 {
		return a.cfg.Advertise, nil
	}
	if host, _, err := net.SplitHostPort(a.cfg.HTTP.Listen); err == nil && host != "" && !net.ParseIP(host).IsUnspecified() {
		return []string{host}, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find host name: %w; set advertise", err)
	}
	names := []string{host}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("find addresses: %w; set advertise", err)
	}
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			names = append(names, ip.IP.String())
		}
	}
	return names, nil
}

// endpoints are the https URLs of this agent, one per advertised name.
func (a *Agent) endpoints(addr net.Addr) []string {
	return a.urls("https", addr.String())
}

func (a *Agent) urls(scheme, addr string) []string {
	_, port, err := net.SplitHostPort(addr)
	names, nerr := a.advertised()
	if err != nil || nerr != nil {
		return nil
	}
	var out []string
	for _, n := range names {
		out = append(out, scheme+"://"+net.JoinHostPort(n, port))
	}
	return out[:min(len(out), 8)] // as many as a join string takes
}
