package mqtt

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// tickets keeps the TLS session of the last connections, so that the next one needs no signatures: a small device is
// spared some ten milliseconds, and a cluster agent half the cost of a fleet that comes back at once. The server looks at
// the certificate in it as at one that is shown.
type tickets struct {
	cache tls.ClientSessionCache
	leaf  []byte // the certificate that the sessions were begun with
}

// ticketServers is how many servers have their session kept: nodes are given a few.
const ticketServers = 4

// use has the handshake of cfg take up a session that was begun with the same certificate. Who chooses a certificate only
// during the handshake gets none.
func (t *tickets) use(cfg *tls.Config) {
	if cfg.ClientSessionCache != nil || len(cfg.Certificates) != 1 || len(cfg.Certificates[0].Certificate) == 0 {
		return
	}
	if leaf := cfg.Certificates[0].Certificate[0]; t.cache == nil || !bytes.Equal(leaf, t.leaf) { // renewed, or of a new key
		t.cache, t.leaf = tls.NewLRUClientSessionCache(ticketServers), leaf
	}
	cfg.ClientSessionCache = t.cache
}

// failed forgets the sessions after an error that they may be the cause of: whatever is not the network's. The next try
// shakes hands in full.
func (t *tickets) failed(err error) {
	var network net.Error
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) {
		if op := (*net.OpError)(nil); !errors.As(err, &op) || op.Op != "remote error" { // an alert of the server comes as one
			return
		}
	}
	t.cache = nil
}
