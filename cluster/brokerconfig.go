package cluster

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/mqtt"
)

// brokerConfig writes what mosquitto needs to stand in for the embedded broker. The cluster agent must be stopped: it
// holds its store. Certificates for mosquitto live as long as the listener's own, so it is run again from a timer.
func (d *Door) brokerConfig(ctx context.Context, cfg configs.Cluster, dir, owner string) error {
	who, err := ownerOf(owner)
	if err != nil {
		return err
	}
	a, err := New(cfg, d.Err)
	if err != nil {
		return err
	}
	db, err := openStore(cfg.Dir)
	if err != nil {
		return err
	}
	defer db.Close()
	if a.authority, err = enroll.OpenAuthority(ctx, enroll.AuthorityConfig{Dir: cfg.Dir, Cluster: cfg.Cluster}); err != nil {
		return err
	}
	if a.enroll, err = enroll.Open(enroll.Config{Cluster: cfg.Cluster, Root: a.topics.Root, DB: db, Authority: a.authority, Nodes: nobody{}, Log: a.log,
		Endpoints: a.urls("https", ":8443"), MQTT: a.urls("mqtts", ":8883")}); err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil { // the broker may start elsewhere
		return fmt.Errorf("write broker configuration: %w", err)
	}
	files, err := a.brokerFiles(dir, who.name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write broker configuration: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := who.write(filepath.Join(dir, name), files[name]); err != nil {
			return fmt.Errorf("write broker configuration: %w", err)
		}
		d.printf(d.Out, "wrote %s\n", filepath.Join(dir, name))
	}
	if who.note != "" {
		d.printf(d.Err, "skerry-cluster: %s\n", who.note)
	}
	return nil
}

// brokerUser is who mosquitto becomes when root starts it, before it reads its key.
const brokerUser = "mosquitto"

// errOwner is wrapped when the files cannot be given to the user that was asked for.
var errOwner = errors.New("--owner")

// fileOwner is who has to read the broker's files.
type fileOwner struct {
	name     string // empty: whoever runs this
	uid, gid int    // -1: as they are
	note     string // for whoever runs this
}

// ownerOf finds the user that the broker runs as: name, or mosquitto's own when name is empty and there is one.
func ownerOf(name string) (fileOwner, error) {
	self := fileOwner{uid: -1, gid: -1}
	asked := name != ""
	if !asked {
		name = brokerUser
	}
	u, err := user.Lookup(name)
	switch {
	case err != nil && asked:
		return self, fmt.Errorf("%w %q: wanted a user of this machine: %w", errOwner, name, err)
	case err != nil:
		self.note = "there is no user " + brokerUser + " here: broker.key and acl can be read by you alone; give them to the user that the broker runs as"
		return self, nil
	}
	uid, err := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if err != nil || gerr != nil {
		return self, fmt.Errorf("%w %q: ids %s and %s; wanted numbers", errOwner, name, u.Uid, u.Gid)
	}
	if me := os.Geteuid(); me != 0 && me != uid {
		if asked {
			return self, fmt.Errorf("%w %q: only root can give files away; run this as root, or as %s", errOwner, name, name)
		}
		self.note = "not root: broker.key and acl can be read by you alone; run this as root, or start the broker as yourself"
		return self, nil
	}
	return fileOwner{name: name, uid: uid, gid: gid}, nil
}

// write replaces a file whole. The key and the access list are for the broker alone; mosquitto warns of others.
func (o fileOwner) write(path string, text []byte) (err error) {
	private := strings.HasSuffix(path, ".key") || filepath.Base(path) == "acl"
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	mode := os.FileMode(0o644)
	if private {
		mode = 0o600
		if err == nil && o.uid >= 0 {
			err = tmp.Chown(o.uid, o.gid)
		}
	}
	if err == nil {
		err = tmp.Chmod(mode)
	}
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// nobody is told of enrolments: there are none here.
type nobody struct{ enroll.Nodes }

// brokerFiles are mosquitto's files by name; dir is where they will lie, user who will read them.
func (a *Agent) brokerFiles(dir, user string) (map[string][]byte, error) {
	names, err := a.advertised()
	if err != nil {
		return nil, err
	}
	listener, err := enroll.NewListener(a.authority, append(names, "localhost", "127.0.0.1")...)
	if err != nil {
		return nil, err
	}
	cert, err := listener.GetCertificate(nil)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode broker key: %w", err)
	}
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	crl, err := a.enroll.CRL()
	if err != nil {
		return nil, err
	}
	operators, err := a.enroll.ListOperators()
	if err != nil {
		return nil, err
	}
	var ids []mqtt.Identity
	for _, op := range operators {
		if !op.Revoked {
			ids = append(ids, mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: op.Name, Role: op.Role, Cluster: a.cfg.Cluster})
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	port := "8883"
	if u, err := url.Parse(a.cfg.MQTT.External); err == nil && u.Port() != "" {
		port = u.Port()
	}
	m := mqtt.Mosquitto{Listen: port, CA: at("ca.crt"), Certificate: at("broker.crt"), Key: at("broker.key"), CRL: at("crl.pem"),
		ACL: at("acl"), User: user, Operators: ids, Replicas: a.cfg.Replica.Names}
	return map[string][]byte{"mosquitto.conf": []byte(m.Config()), "acl": []byte(m.AccessList(a.topics)), "ca.crt": a.authority.BundlePEM(),
		"broker.crt": chain, "broker.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "crl.pem": crl}, nil
}
