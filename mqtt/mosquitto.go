package mqtt

import (
	"fmt"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// Mosquitto is what the configuration of an external mosquitto is generated from. Paths are as that broker sees them.
type Mosquitto struct {
	Listen               string // port, or port and bind address
	CA, Certificate, Key string
	CRL                  string // optional; without it a removed node is kept out only by its certificate's end
	ACL                  string // where AccessList is stored
	User                 string // whom mosquitto becomes when root starts it; empty: mosquitto, its default
	Operators            []Identity
	Replicas             []string // names of several cluster agents; none: there is one, with the cluster's name
}

// Config returns a complete mosquitto.conf (mosquitto 2.0) with the manners of the embedded broker: TLS 1.3, client
// certificates, deny-all, nothing persisted, no delay of small packets (an unset TCP_NODELAY costs 40 ms a round trip).
//
// What mosquitto cannot do, the cluster agent has to live with: it acknowledges before anything is stored, it does not
// know which messages may be retained or how large each kind may be, and it ties the client id to the certificate for
// everybody, so an operator's certificate makes one connection at a time.
func (m Mosquitto) Config() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# mosquitto.conf for Skerry, generated from its contract. The access rules are in the file of acl_file.")
	line("per_listener_settings false")
	if m.User != "" {
		line("# Whom mosquitto becomes before it reads the key, when root starts it.")
		line("user %s", m.User)
	}
	line("listener %s", m.Listen)
	line("cafile %s", m.CA)
	line("certfile %s", m.Certificate)
	line("keyfile %s", m.Key)
	if m.CRL != "" {
		line("crlfile %s", m.CRL)
	}
	line("tls_version tlsv1.3")
	line("require_certificate true")
	line("use_identity_as_username true")
	line("# The client id is the certificate's common name too: nobody takes over a session that is not his own. So each")
	line("# certificate makes one connection at a time; give every foreign system one of its own.")
	line("use_username_as_clientid true")
	line("allow_anonymous false")
	line("acl_file %s", m.ACL)
	line("max_qos %d", QoS)
	line("set_tcp_nodelay true")
	line("persistence false")
	line("max_packet_size %d", MaxPacketBytes)
	line("max_keepalive 1800")
	line("max_inflight_messages 64")
	line("max_queued_messages 1000")
	line("sys_interval 0")
	return b.String()
}

// MaxPacketBytes is the largest MQTT packet that a broker has to take: a message of the largest kind, with room for its
// topic, header and MQTT 5 properties.
const MaxPacketBytes = api.MaxMessageBytes + 4<<10

// AccessList returns mosquitto's acl_file: May as mosquitto can say it. mosquitto 2.0 matches the messages of a
// subscription, not its filter, against the list: a node that subscribes to "#" is granted it and sent nothing but its
// own. The patterns apply to everybody; under an operator's or the cluster agent's common name, whose colon no node id
// has, nothing is ever published or read.
func (m Mosquitto) AccessList(t Topics) string {
	var b strings.Builder
	b.WriteString("# acl_file for Skerry, generated from its contract. %u is the common name of the client's certificate.\n")
	for _, e := range Contract() {
		switch e.Dir {
		case Up:
			fmt.Fprintf(&b, "pattern write %s\n", t.Filter(e.Kind, "%u"))
		case Down:
			fmt.Fprintf(&b, "pattern read %s\n", t.Filter(e.Kind, "%u"))
		}
	}
	agents := m.Replicas
	if len(agents) == 0 {
		agents = []string{t.Cluster}
	}
	for _, name := range agents {
		fmt.Fprintf(&b, "\nuser %s\ntopic readwrite %s\n", Identity{Kind: ClusterIdentity, Name: name}.CommonName(), t.All())
	}
	for _, op := range m.Operators {
		if op.Kind != OperatorIdentity || !op.Role.Includes(api.RoleViewer) {
			continue
		}
		fmt.Fprintf(&b, "\nuser %s\n", op.CommonName())
		for _, kind := range Readable(op.Role) {
			fmt.Fprintf(&b, "topic read %s\n", t.Filter(kind, "+"))
		}
		if op.Role.Includes(api.RoleOperator) {
			fmt.Fprintf(&b, "topic write %s\n", t.Filter(KindRequest, "+"))
		}
	}
	return b.String()
}
