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
	return s.tlsConfig(l, tls.RequestClientCert, []string{"h2", "http/1.1"}, nil)
}

// BrokerTLS is the configuration of the MQTT listener: TLS 1.3, mutual, and whoever Authorize refuses does not get a
// connection.
func (s *Service) BrokerTLS(l *Listener) *tls.Config {
	return s.tlsConfig(l, tls.RequireAnyClientCert, nil, func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("no client certificate")
		}
		_, err := s.Authorize(cs.PeerCertificates[0])
		return err
	})
}

func (s *Service) tlsConfig(l *Listener, auth tls.ClientAuthType, protos []string,
	verify func(tls.ConnectionState) error) *tls.Config {
	base := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		GetCertificate:   l.GetCertificate,
		ClientAuth:       auth,
		NextProtos:       protos,
		VerifyConnection: verify,
		// A ticket would carry a certificate past its check; a handshake costs less than the thought.
		SessionTicketsDisabled: true,
	}
	config := base.Clone()
	var (
		mu    sync.Mutex
		roots []*x509.Certificate // of hot
		hot   *tls.Config         // one for all connections: each keeps its own as long as it lives
	)
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := s.cfg.Authority.Roots()
		mu.Lock()
		defer mu.Unlock()
		if hot == nil || !slices.EqualFunc(roots, now, (*x509.Certificate).Equal) {
			roots, hot = now, base.Clone()
			hot.ClientCAs = poolOf(now) // tells clients which certificate to choose
		}
		return hot, nil
	}
	return config
}
