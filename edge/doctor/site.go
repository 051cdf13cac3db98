package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/mqtt"
)

// site is the far end of the walk: the first of its URLs that answers is the one examined.
type site struct {
	p          *Patient
	urls       []string
	port       string  // when a URL has none
	places     []place // what the names resolve to
	host, addr string  // the place that answered
	rest       []place // those after it
}

// place is an address, and the name that led to it: the one TLS must show.
type place struct{ host, addr string }

func (s *site) dns(ctx context.Context) Finding {
	var why error
	var found []string
	for _, raw := range s.urls {
		host, port, err := hostPort(raw, s.port)
		if err != nil {
			why = err
			continue
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			why = err
			continue
		}
		found = append(found, host+" is "+strings.Join(ips, ", "))
		for _, ip := range ips {
			s.places = append(s.places, place{host, net.JoinHostPort(ip, port)})
		}
	}
	if len(s.places) > 0 {
		return Finding{Detail: strings.Join(found, "; ")}
	}
	return Finding{Exit: ExitDNS, Detail: "no server name resolves", Seen: fmt.Sprint(why), Wanted: "an address for " + strings.Join(s.urls, ", "),
		Cure: "check /etc/resolv.conf, or advertise an IP address on the cluster: skerry-cluster --set advertise=IP"}
}

// tcp takes the first place that answers, in the order in which the agent would try them.
func (s *site) tcp(ctx context.Context) Finding {
	var why error
	var tried []string
	share := stepTimeout / time.Duration(len(s.places)+1)
	for i, p := range s.places {
		tried = append(tried, p.addr)
		conn, err := (&net.Dialer{Timeout: share}).DialContext(ctx, "tcp", p.addr)
		if err == nil {
			err = conn.Close()
		}
		if err != nil {
			why = err
			continue
		}
		s.host, s.addr, s.rest = p.host, p.addr, s.places[i+1:]
		return Finding{Detail: "connected to " + p.addr}
	}
	f := Finding{Exit: ExitTCP, Detail: "no server accepts a connection", Seen: fmt.Sprint(why),
		Wanted: "a connection to " + strings.Join(tried, " or ")}
	var timeout net.Error
	switch {
	case errors.Is(why, syscall.ECONNREFUSED):
		f.Cure = "nothing listens there: is skerry-cluster running, and is the port right?"
	case errors.Is(why, syscall.ENETUNREACH), errors.Is(why, syscall.EHOSTUNREACH):
		f.Cure = "no route: check the default gateway (ip route) and the cable"
	case errors.As(why, &timeout) && timeout.Timeout():
		f.Cure = "no answer: a firewall drops the packets, or the host is down"
	default:
		f.Cure = "check the network between this device and the server"
	}
	return f
}

func (s *site) tlsPinned(ctx context.Context) Finding {
	return s.handshakes(ctx, func(host string) *tls.Config { return identity.PinnedTLS(host, s.p.Join.CASHA256, s.p.Clock) })
}

func (s *site) tlsTrusted(ctx context.Context) Finding {
	return s.handshakes(ctx, func(host string) *tls.Config { return s.p.Identity.BrokerTLS(host, s.p.Clock) })
}

// handshakes goes on to the next place when one does not hold, as the agent does. What it tells when none does is what was
// wrong with the first.
func (s *site) handshakes(ctx context.Context, trust func(host string) *tls.Config) Finding {
	first := place{s.host, s.addr}
	failed := s.handshake(ctx, trust(s.host))
	if failed.Exit == ExitOK {
		return failed
	}
	for _, p := range s.rest {
		s.host, s.addr = p.host, p.addr
		if f := s.handshake(ctx, trust(p.host)); f.Exit == ExitOK {
			f.Detail += "; but not with " + first.addr + ": " + failed.Detail
			return f
		}
	}
	s.host, s.addr = first.host, first.addr
	return failed
}

func (s *site) handshake(ctx context.Context, cfg *tls.Config) Finding {
	conn, err := s.dial(ctx, cfg)
	if err != nil {
		return s.distrust(err)
	}
	return closing(conn, Finding{Detail: "TLS 1.3 with " + s.host + " at " + s.addr + ", chain trusted"})
}

func (s *site) dial(ctx context.Context, cfg *tls.Config) (net.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: stepTimeout / 2}, Config: cfg}
	return d.DialContext(ctx, "tcp", s.addr)
}

// distrust tells what a failed handshake means.
func (s *site) distrust(err error) Finding {
	if pin, ok := errors.AsType[*identity.PinError](err); ok {
		return Finding{Exit: ExitPin, Detail: "the server is not the one of the join string", Seen: pin.Error(), Wanted: "CA sha256 " + pin.Wanted,
			Cure: "take a new join string from that cluster (skerry token create), or find out who answers at " + s.addr}
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return s.disagree(invalid.Cert)
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return Finding{Exit: ExitTLS, Detail: "the server's certificate is not for this name", Seen: "certificate for " + names(name.Certificate),
			Wanted: s.host, Cure: "on the cluster add the name to those it has: advertise: [" + strings.Join(append(reachable(name.Certificate), s.host), ", ") +
				"], and restart skerry-cluster (the certificate is issued anew)"}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return Finding{Exit: ExitPin, Detail: "the server's certificate is from another CA", Seen: err.Error(), Wanted: "this cluster's CA",
			Cure: "find out who answers at " + s.addr + "; if the cluster was set up anew, remove identity.json and join again"}
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return Finding{Exit: ExitTLS, Detail: "what answers does not speak TLS", Seen: err.Error(), Wanted: "TLS 1.3 at " + s.addr,
			Cure: "check the port; a proxy in between must pass TLS through"}
	}
	return Finding{Exit: ExitTLS, Detail: "TLS handshake failed", Seen: err.Error(), Wanted: "TLS 1.3 with " + s.host,
		Cure: "a proxy in between must pass TLS 1.3 through unopened"}
}

// disagree tells of a certificate that is not good at this device's time.
func (s *site) disagree(cert *x509.Certificate) Finding {
	now := s.p.Clock.Now()
	f := Finding{Exit: ExitClock, Detail: "this device's clock is ahead of the server's certificate",
		Seen:   "this device says " + now.UTC().Format(time.RFC3339),
		Wanted: fmt.Sprintf("a time from %s to %s", cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339)),
		Cure:   "set the clock (date -s, or start an NTP client); if it is right, the server's certificate has expired: restart skerry-cluster"}
	if now.Before(cert.NotBefore) {
		f.Detail = "this device's clock is behind the server's certificate"
		f.Cure = "set the clock (date -s, or start an NTP client); if it is right, set that of the cluster agent's machine"
	}
	return f
}

func names(cert *x509.Certificate) string {
	out := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		out = append(out, ip.String())
	}
	return strings.Join(out, ", ")
}

// reachable are the names that a cluster agent was told to advertise: all but those of its own machine, which it adds
// itself.
func reachable(cert *x509.Certificate) []string {
	var out []string
	for _, name := range cert.DNSNames {
		if name != "localhost" {
			out = append(out, name)
		}
	}
	for _, ip := range cert.IPAddresses {
		if !ip.IsLoopback() {
			out = append(out, ip.String())
		}
	}
	return out
}

// broker says CONNECT, or, while an agent holds the session, only waits for the verdict on the certificate: TLS 1.3
// tells a client that its certificate is refused after the handshake, on the first read (RFC 8446 §4.4.2.4).
func (s *site) broker(ctx context.Context) Finding {
	conn, err := s.dial(ctx, s.p.Identity.BrokerTLS(s.host, s.p.Clock))
	if err != nil {
		return s.distrust(err)
	}
	if !s.p.Running {
		err = mqtt.Greet(ctx, conn, s.p.Identity.Node)
	} else if err = conn.SetReadDeadline(time.Now().Add(time.Second)); err == nil {
		_, err = conn.Read(make([]byte, 1))
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			err = nil
		}
	}
	if err == nil {
		return closing(conn, Finding{Detail: "takes " + s.p.Identity.Node + " at " + s.addr})
	}
	return closing(conn, Finding{Exit: ExitBroker, Detail: "the broker refuses this node", Seen: err.Error(), Wanted: "CONNACK, accepted",
		Cure: "on the cluster: skerry describe node " + s.p.Identity.Node + " (removed or revoked? then remove identity.json here and join again)"})
}

// closing closes conn; what matters is known by then.
func closing(conn net.Conn, f Finding) Finding {
	if err := conn.Close(); err != nil && f.Exit != ExitOK {
		f.Seen += "; close: " + err.Error()
	}
	return f
}

// refused tells what the enrolment service has against the token.
func refused(err error, join *api.Join) Finding {
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok { // too busy, failing, or not ours: it says nothing about the token
		return Finding{Exit: ExitToken, Detail: "the join token could not be checked", Seen: err.Error(), Wanted: "a verdict from the enrolment service",
			Cure: "wait a minute and ask again; then see the log of skerry-cluster"}
	}
	f := Finding{Exit: ExitToken, Detail: "the join token is not accepted", Seen: fmt.Sprintf("%s (token %s)", problem.Title, join.ID),
		Wanted: "a token that is known, unused and in time", Cure: "on the cluster: skerry token create"}
	if problem.Detail != "" {
		f.Seen = fmt.Sprintf("%s (token %s)", problem.Detail, join.ID)
	}
	if problem.Cure != "" {
		f.Cure = problem.Cure
	}
	return f
}
