package system

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// natsServer starts a NATS server as an MQTT broker with the certificates that broker-config wrote. NATS takes the URI in a
// client's certificate for its user name and knows no patterns, so every node has an entry of its own.
func natsServer(p *pair, conf string) {
	p.t.Helper()
	program, err := Program("nats-server")
	if err != nil {
		p.t.Fatal(err)
	}
	var users strings.Builder
	for _, replica := range []string{"a", "b"} {
		fmt.Fprintf(&users, "    {user: \"spiffe://test/cluster/%s\", permissions: {publish: \"skerry.v1.test.>\", subscribe: [\"skerry.v1.test.>\", \"$MQTT.sub.>\"]}}\n", replica)
	}
	for i := range replicaNodes {
		own := fmt.Sprintf("skerry.v1.test.n%d.", i+1)
		subjects := func(names ...string) string {
			return `"` + own + strings.Join(names, `", "`+own) + `"`
		}
		fmt.Fprintf(&users, "    {user: \"spiffe://test/node/n%d\", permissions: {publish: [%s], subscribe: [%s, \"$MQTT.sub.>\"]}}\n", i+1,
			subjects("state", "birth", "tele", "event", "reported", "cmd.*.status", "stream.*.up"), subjects("desired", "cmd.*", "ack", "stream.*.down"))
	}
	file := filepath.Join(conf, "nats.conf")
	text := fmt.Sprintf(`server_name: skerry
listen: "127.0.0.1:-1"
max_payload: 139264
jetstream: {store_dir: %q}
mqtt: {
  listen: %q
  max_ack_pending: 64
  tls: {cert_file: %q, key_file: %q, ca_file: %q, verify_and_map: true}
}
authorization: {
  users: [
%s  ]
}
`, filepath.Join(p.dir, "jetstream"), p.broker, filepath.Join(conf, "broker.crt"), filepath.Join(conf, "broker.key"), filepath.Join(conf, "ca.crt"), users.String())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	s := &Process{Name: "nats-server", Log: filepath.Join(p.dir, "nats-server.log"), Program: program, Args: []string{"-DV", "-c", file}}
	cleanup(p.t, s)
	start(p.t, s)
	poll(p.t, 20*time.Second, "NATS listens", func() error {
		conn, err := net.Dial("tcp", p.broker)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}
