package configs

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Cluster is the configuration of skerry-cluster; cluster.yaml documents the fields.
type Cluster struct {
	Cluster   string           `mapstructure:"cluster"`
	Mode      string           `mapstructure:"mode"`
	Dir       string           `mapstructure:"dir"`
	Advertise []string         `mapstructure:"advertise"`
	Log       Log              `mapstructure:"log"`
	MQTT      ClusterMQTT      `mapstructure:"mqtt"`
	Replica   Replica          `mapstructure:"replica"`
	Kube      Kube             `mapstructure:"kube"`
	HTTP      ClusterHTTP      `mapstructure:"http"`
	Enroll    Enroll           `mapstructure:"enroll"`
	Nodes     Nodes            `mapstructure:"nodes"`
	Commands  Commands         `mapstructure:"commands"`
	Events    Events           `mapstructure:"events"`
	Telemetry ClusterTelemetry `mapstructure:"telemetry"`
	Images    Images           `mapstructure:"images"`
}

// ClusterMQTT is the broker.
type ClusterMQTT struct {
	Root              string   `mapstructure:"root"`
	Listen            string   `mapstructure:"listen"`
	External          string   `mapstructure:"external"`
	MaxConnections    int      `mapstructure:"max_connections"`
	AcceptPerSecond   int      `mapstructure:"accept_per_second"`
	MessagesPerSecond int      `mapstructure:"messages_per_second"`
	NodeServers       []string `mapstructure:"node_servers"`
}

// Replica is this one of several cluster agents on one external broker; an empty Name means that there is one alone.
type Replica struct {
	Name    string        `mapstructure:"name"`
	Names   []string      `mapstructure:"names"`
	Timeout time.Duration `mapstructure:"timeout"`
}

// ClusterHTTP is the REST side.
type ClusterHTTP struct {
	Listen string `mapstructure:"listen"`
	OIDC   OIDC   `mapstructure:"oidc"`
}

// OIDC is an identity provider; an empty Issuer means that there is none. Roles are groups by the role they give.
type OIDC struct {
	Issuer        string    `mapstructure:"issuer"`
	ClientID      string    `mapstructure:"client_id"`
	UsernameClaim string    `mapstructure:"username_claim"`
	GroupsClaim   string    `mapstructure:"groups_claim"`
	CAFile        string    `mapstructure:"ca_file"`
	Roles         OIDCRoles `mapstructure:"roles"`
}

// OIDCRoles are the groups that have each role.
type OIDCRoles struct {
	Viewer   []string `mapstructure:"viewer"`
	Operator []string `mapstructure:"operator"`
	Admin    []string `mapstructure:"admin"`
}

// Enroll is how long certificates live.
type Enroll struct {
	CertificateLife time.Duration `mapstructure:"certificate_life"`
	RenewGrace      time.Duration `mapstructure:"renew_grace"`
}

// Nodes is when a node counts as lost.
type Nodes struct {
	LostAfter time.Duration `mapstructure:"lost_after"`
}

// Commands bounds the command journal.
type Commands struct {
	MaxDeadline time.Duration `mapstructure:"max_deadline"`
	Grace       time.Duration `mapstructure:"grace"`
	Keep        int           `mapstructure:"keep"`
	KeepFor     time.Duration `mapstructure:"keep_for"`
}

// Events bounds the event log.
type Events struct {
	Keep    int           `mapstructure:"keep"`
	KeepFor time.Duration `mapstructure:"keep_for"`
}

// ClusterTelemetry is the time series store.
type ClusterTelemetry struct {
	Retention      time.Duration `mapstructure:"retention"`
	RetentionBytes Bytes         `mapstructure:"retention_bytes"`
	OutOfOrder     time.Duration `mapstructure:"out_of_order"`
	Reserve        Bytes         `mapstructure:"reserve"`
	QueryTimeout   time.Duration `mapstructure:"query_timeout"`
	RemoteWrite    []RemoteWrite `mapstructure:"remote_write"`
}

// RemoteWrite is one receiver of copies.
type RemoteWrite struct {
	URL        string `mapstructure:"url"`
	BearerFile string `mapstructure:"bearer_file"`
}

// ClusterEnvPrefix begins the environment variables of skerry-cluster.
const ClusterEnvPrefix = "SKERRY_CLUSTER_"

// LoadCluster returns the configuration of skerry-cluster, or every fault in it.
func LoadCluster(src Source) (Cluster, error) {
	var cfg Cluster
	l, err := load(clusterDefaults, ClusterEnvPrefix, src, &cfg)
	if err != nil {
		return cfg, err
	}
	return cfg, l.finish(cfg.validate)
}

// Validate returns every fault of c.
func (c *Cluster) Validate() error {
	var bad faults
	c.validate(&bad)
	return bad.err()
}

func (c *Cluster) validate(bad *faults) {
	bad.need(api.ValidID("cluster", c.Cluster) == nil, "cluster", c.Cluster, "[a-z0-9][a-z0-9.-]{0,62}")
	c.Kube.validate(bad, c.Mode, c.Cluster)
	bad.need(filepath.IsAbs(c.Dir), "dir", c.Dir, "an absolute path")
	for _, a := range c.Advertise {
		bad.need(a != "" && !strings.ContainsAny(a, "/ :") || net.ParseIP(a) != nil, "advertise", a, "a host name or IP address without a port")
	}
	c.Log.validate(bad)
	c.MQTT.validate(bad)
	c.Replica.validate(bad, c.MQTT.External != "")
	bad.need(validListen(c.HTTP.Listen), "http.listen", c.HTTP.Listen, "host:port or :port")
	c.HTTP.OIDC.validate(bad)
	bad.need(c.Enroll.CertificateLife >= time.Hour, "enroll.certificate_life", c.Enroll.CertificateLife, "at least 1h")
	bad.need(c.Enroll.RenewGrace >= 0, "enroll.renew_grace", c.Enroll.RenewGrace, "no negative value")
	bad.need(c.Nodes.LostAfter >= time.Minute, "nodes.lost_after", c.Nodes.LostAfter, "at least 1m")
	bad.need(c.Commands.MaxDeadline >= time.Second, "commands.max_deadline", c.Commands.MaxDeadline, "at least 1s")
	bad.need(c.Commands.Grace >= time.Second, "commands.grace", c.Commands.Grace, "at least 1s")
	bad.need(c.Commands.Keep >= 100, "commands.keep", c.Commands.Keep, "at least 100")
	bad.need(c.Events.Keep >= 100, "events.keep", c.Events.Keep, "at least 100")
	bad.need(c.Telemetry.Retention >= time.Hour, "telemetry.retention", c.Telemetry.Retention, "at least 1h")
	bad.need(c.Telemetry.OutOfOrder >= 0, "telemetry.out_of_order", c.Telemetry.OutOfOrder, "no negative value")
	for i, r := range c.Telemetry.RemoteWrite {
		u, err := url.Parse(r.URL)
		bad.need(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "", fmt.Sprintf("telemetry.remote_write[%d].url", i),
			r.URL, "http(s)://host/path")
	}
	c.Images.validate(bad)
}

func (m ClusterMQTT) validate(bad *faults) {
	bad.need(m.External != "" || validListen(m.Listen), "mqtt.listen", m.Listen, "host:port or :port")
	if m.External != "" {
		u, err := url.Parse(m.External)
		bad.need(err == nil && slices.Contains([]string{"mqtts", "ssl", "tls"}, u.Scheme) && u.Host != "", "mqtt.external", m.External,
			"mqtts://host:port")
	}
	bad.need(m.MaxConnections >= 1, "mqtt.max_connections", m.MaxConnections, "at least 1")
	bad.need(m.AcceptPerSecond >= 1, "mqtt.accept_per_second", m.AcceptPerSecond, "at least 1")
	bad.need(m.MessagesPerSecond >= 1, "mqtt.messages_per_second", m.MessagesPerSecond, "at least 1")
}

func (r Replica) validate(bad *faults, external bool) {
	for _, name := range r.Names {
		bad.need(api.ValidID("replica", name) == nil, "replica.names", name, "[a-z0-9][a-z0-9.-]{0,62}")
	}
	bad.need(r.Timeout >= 4*time.Second, "replica.timeout", r.Timeout, "at least 4s")
	if r.Name == "" {
		return
	}
	bad.need(slices.Contains(r.Names, r.Name), "replica.name", r.Name, "one of replica.names")
	bad.need(external, "replica.name", r.Name, "an external broker (mqtt.external) that the replicas share; the embedded one has one cluster agent")
}

func (o OIDC) validate(bad *faults) {
	groups := slices.Concat(o.Roles.Viewer, o.Roles.Operator, o.Roles.Admin)
	if o.Issuer == "" {
		bad.need(o.ClientID == "" && o.CAFile == "" && len(groups) == 0, "http.oidc.issuer", "", "https://host/path, as other keys of http.oidc are set")
		return
	}
	u, err := url.Parse(o.Issuer)
	bad.need(err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "", "http.oidc.issuer", o.Issuer,
		"https://host/path, exactly as the issuer writes it into its tokens")
	bad.need(o.ClientID != "", "http.oidc.client_id", "", "the client id that tokens have in their audience")
	bad.need(o.UsernameClaim != "", "http.oidc.username_claim", "", "the name of a claim, such as sub or email")
	bad.need(o.GroupsClaim != "", "http.oidc.groups_claim", "", "the name of a claim, such as groups")
	bad.need(o.CAFile == "" || filepath.IsAbs(o.CAFile), "http.oidc.ca_file", o.CAFile, "an absolute path")
	bad.need(len(groups) > 0, "http.oidc.roles", "", "a group for at least one of viewer, operator and admin; without, nobody gets in")
	slices.Sort(groups)
	for i, g := range groups {
		bad.need(g != "", "http.oidc.roles", g, "no empty group")
		bad.need(i == 0 || g != groups[i-1], "http.oidc.roles", g, "each group under one role")
	}
}

func validListen(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	return err == nil && validPort(port)
}

// validPort reports whether port is a number up to 65535, or the name of one.
func validPort(port string) bool {
	_, err := net.LookupPort("tcp", port)
	return port != "" && err == nil
}
