package mqtt_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// identities are one of each sort, all of cluster c1.
func identities() map[string]mqtt.Identity {
	return map[string]mqtt.Identity{
		"node":     {Kind: mqtt.NodeIdentity, Name: "n1", Cluster: "c1"},
		"viewer":   {Kind: mqtt.OperatorIdentity, Name: "eve", Role: api.RoleViewer, Cluster: "c1"},
		"operator": {Kind: mqtt.OperatorIdentity, Name: "bob", Role: api.RoleOperator, Cluster: "c1"},
		"admin":    {Kind: mqtt.OperatorIdentity, Name: "root", Role: api.RoleAdmin, Cluster: "c1"},
		"cluster":  {Kind: mqtt.ClusterIdentity, Name: "c1", Cluster: "c1"},
	}
}

func certify(t testing.TB, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = time.Unix(1_700_000_000, 0).UTC(), time.Unix(1_800_000_000, 0).UTC()
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestACertificateTellsTheIdentityItWasMadeFor(t *testing.T) {
	subjects := map[string]string{"node": "CN=n1,O=skerry:node", "viewer": "CN=operator:eve,O=skerry:viewer",
		"operator": "CN=operator:bob,O=skerry:operator", "admin": "CN=operator:root,O=skerry:admin", "cluster": "CN=cluster:c1,O=skerry:cluster"}
	uris := map[string]string{"node": "spiffe://c1/node/n1", "viewer": "spiffe://c1/operator/eve",
		"operator": "spiffe://c1/operator/bob", "admin": "spiffe://c1/operator/root", "cluster": "spiffe://c1/cluster/c1"}
	for name, id := range identities() {
		cert := certify(t, &x509.Certificate{Subject: id.Subject(), URIs: []*url.URL{id.URI()}})
		if cert.Subject.String() != subjects[name] || cert.URIs[0].String() != uris[name] {
			t.Errorf("%s: subject %s, URI %s; wanted %s, %s", name, cert.Subject, cert.URIs[0], subjects[name], uris[name])
		}
		got, err := mqtt.IdentityOf(cert)
		sum := sha256.Sum256(cert.Raw)
		id.SHA256, id.NotAfter = hex.EncodeToString(sum[:]), cert.NotAfter
		if err != nil || got != id {
			t.Errorf("%s: got %+v, %v; wanted %+v", name, got, err, id)
		}
	}
}

func TestACertificateThatTellsTwoThingsIsNobodys(t *testing.T) {
	uri := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	subject := func(cn string, o ...string) pkix.Name { return pkix.Name{CommonName: cn, Organization: o} }
	n1 := uri("spiffe://c1/node/n1")
	two := subject("n1", "skerry:node")
	two.ExtraNames = []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "n2"}, {Type: []int{2, 5, 4, 3}, Value: "n1"},
		{Type: []int{2, 5, 4, 10}, Value: "skerry:node"}}
	more := subject("n1", "skerry:node")
	more.OrganizationalUnit = []string{"x"}
	for name, c := range map[string]*x509.Certificate{
		"other name":           {Subject: subject("n2", "skerry:node"), URIs: n1},
		"node as operator":     {Subject: subject("operator:n1", "skerry:node"), URIs: n1},
		"operator without":     {Subject: subject("eve", "skerry:viewer"), URIs: uri("spiffe://c1/operator/eve")},
		"node's group":         {Subject: subject("operator:eve", "skerry:node"), URIs: uri("spiffe://c1/operator/eve")},
		"node with a role":     {Subject: subject("n1", "skerry:admin"), URIs: n1},
		"unknown role":         {Subject: subject("operator:eve", "skerry:god"), URIs: uri("spiffe://c1/operator/eve")},
		"no prefix":            {Subject: subject("n1", "node"), URIs: n1},
		"two organizations":    {Subject: subject("n1", "skerry:node", "skerry:admin"), URIs: n1},
		"no organization":      {Subject: subject("n1"), URIs: n1},
		"two common names":     {Subject: two, URIs: n1},
		"more in the subject":  {Subject: more, URIs: n1},
		"two URIs":             {Subject: subject("n1", "skerry:node"), URIs: append(uri("spiffe://c1/node/n2"), n1...)},
		"no URI":               {Subject: subject("n1", "skerry:node")},
		"other scheme":         {Subject: subject("n1", "skerry:node"), URIs: uri("https://c1/node/n1")},
		"port":                 {Subject: subject("n1", "skerry:node"), URIs: uri("spiffe://c1:1/node/n1")},
		"user":                 {Subject: subject("n1", "skerry:node"), URIs: uri("spiffe://x@c1/node/n1")},
		"query":                {Subject: subject("n1", "skerry:node"), URIs: uri("spiffe://c1/node/n1?x")},
		"longer path":          {Subject: subject("n1", "skerry:node"), URIs: uri("spiffe://c1/node/n1/x")},
		"name with a wildcard": {Subject: subject("+", "skerry:node"), URIs: uri("spiffe://c1/node/+")},
		"name with a slash":    {Subject: subject("n1/x", "skerry:node"), URIs: uri("spiffe://c1/node/n1%2Fx")},
		"no cluster":           {Subject: subject("n1", "skerry:node"), URIs: uri("spiffe:///node/n1")},
		"other cluster agent":  {Subject: subject("cluster:c1", "skerry:cluster"), URIs: uri("spiffe://c1/cluster/c2")},
		"unknown kind":         {Subject: subject("robot:r", "skerry:robot"), URIs: uri("spiffe://c1/robot/r")},
		"an authority":         {Subject: subject("n1", "skerry:node"), URIs: n1, IsCA: true, BasicConstraintsValid: true},
	} {
		if id, err := mqtt.IdentityOf(certify(t, c)); err == nil {
			t.Errorf("%s: taken for %s", name, id.CommonName())
		}
	}
}

func TestAReplicaOfTheClusterAgentHasANameOfItsOwn(t *testing.T) {
	a := mqtt.Identity{Kind: mqtt.ClusterIdentity, Name: "a", Cluster: "c1"}
	if got, err := mqtt.IdentityOf(certify(t, &x509.Certificate{Subject: a.Subject(), URIs: []*url.URL{a.URI()}})); err != nil || got.Name != "a" || got.Cluster != "c1" {
		t.Errorf("%+v, %v", got, err)
	}
	topics := aclTopics(t)
	list := mqtt.Mosquitto{Replicas: []string{"a", "b"}}.AccessList(topics)
	for _, name := range []string{"a", "b"} {
		if !strings.Contains(list, "user cluster:"+name+"\ntopic readwrite "+topics.All()+"\n") {
			t.Errorf("the access list does not let replica %s in:\n%s", name, list)
		}
	}
	if strings.Contains(list, "cluster:c1") {
		t.Error("the access list lets in who is none of the replicas")
	}
}

func FuzzIdentityOf(f *testing.F) {
	for _, id := range identities() {
		f.Add(id.CommonName(), id.Subject().Organization[0], id.URI().String())
	}
	f.Add("n1", "skerry:node", "spiffe://c1/node/%6e1")
	f.Add("operator:", "skerry:admin", "spiffe://c1/operator/")
	f.Fuzz(func(t *testing.T, cn, o, uri string) {
		u, err := url.Parse(uri)
		if err != nil {
			t.Skip()
		}
		names := []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: cn}, {Type: []int{2, 5, 4, 10}, Value: o}}
		id, err := mqtt.IdentityOf(&x509.Certificate{URIs: []*url.URL{u},
			Subject: pkix.Name{CommonName: cn, Organization: []string{o}, Names: names}})
		if err != nil {
			return
		}
		if s := id.Subject(); s.CommonName != cn || s.Organization[0] != o {
			t.Errorf("%q, %q was read as %+v", cn, o, id)
		}
		if id.Kind == mqtt.NodeIdentity == strings.Contains(cn, ":") || strings.ContainsAny(cn, "+#/\x00") {
			t.Errorf("common name %q passes for %s", cn, id.Kind)
		}
	})
}
