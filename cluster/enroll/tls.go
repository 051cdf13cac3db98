package enroll

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
)

// ServerTLS is the configuration of the HTTPS listener: TLS 1.3, with the client's certificate asked for but not
// verified by TLS, so that an expired one gets as far as the handler of renewals. Handler and Guard do verify it.
func (s *Service) ServerTLS(l *Listener) *tls.Config {
	c := s.tlsConfig(l, tls.RequestClientCert, []string{"h2", "http/1.1"}, nil)
	return s.hot(c, func(c *tls.Config) error {
		c.SessionTicketsDisabled = true // callers are few, and their certificates may have expired
		return nil
	})
}

// BrokerTLS is the configuration of the MQTT listener: TLS 1.3, mutual, and whoever Authorize refuses does not get a
// connection, with a session ticket as without. Tickets outlive this process, so that a fleet which comes back after a
// restart is spared half of its handshakes.
func (s *Service) BrokerTLS(l *Listener) *tls.Config {
	c := s.tlsConfig(l, tls.RequireAnyClientCert, nil, func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("no client certificate")
		}
		_, err := s.Authorize(cs.PeerCertificates[0])
		return err
	})
	return s.hot(c, func(c *tls.Config) error {
		keys, err := s.cfg.Authority.ticketKeys(s.now())
		if err != nil {
			return err
		}
		c.SetSessionTicketKeys(keys)
		return nil
	})
}

func (s *Service) tlsConfig(l *Listener, auth tls.ClientAuthType, protos []string,
	verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		GetCertificate:   l.GetCertificate,
		ClientAuth:       auth,
		NextProtos:       protos,
		VerifyConnection: verify,
	}
}

// hot returns base with what changes while the cluster agent runs set anew when the roots or the day are others: the client
// CAs tell clients which certificate to choose. All connections of that time share one configuration; each keeps its own as
// long as it lives.
func (s *Service) hot(base *tls.Config, set func(*tls.Config) error) *tls.Config {
	config := base.Clone()
	var (
		mu    sync.Mutex
		made  *tls.Config
		roots []*x509.Certificate // of made
		day   int64               // of made, since 1970
	)
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now, today := s.cfg.Authority.Roots(), ticketDay(s.now())
		mu.Lock()
		defer mu.Unlock()
		if made == nil || day != today || !slices.EqualFunc(roots, now, (*x509.Certificate).Equal) {
			c := base.Clone()
			c.ClientCAs = poolOf(now)
			if err := set(c); err != nil {
				return nil, err
			}
			roots, day, made = now, today, c
		}
		return made, nil
	}
	return config
}
