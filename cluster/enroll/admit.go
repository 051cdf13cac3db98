package enroll

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// action is what an enrolment request leads to.
type action int

const (
	wait  action = iota + 1 // is known to wait for approval
	queue                   // begins to wait for approval
	again                   // is the node already: its reply went astray
	admit                   // becomes a node now
)

// applicant is a device that asks to be a node.
type applicant struct {
	request *api.EnrollRequest
	key     publicKey
	from    string // remote address
	now     time.Time
}

// plan is the decision about one applicant.
type plan struct {
	action action
	token  tokenRecord
	node   nodeRecord // again: as stored; admit, queue: as it would be
	rejoin bool       // a node of that id has another key
}

// decide says what becomes of an applicant. It only reads, so that the many questions of a waiting device cost no
// write.
func (s *Service) decide(tx *bbolt.Tx, a applicant) (plan, error) {
	token, err := tokenOf(tx, a.request.TokenID, a.request.Secret)
	if err != nil {
		return plan{}, err
	}
	owner, err := ownerOf(tx, a.key.sha256)
	if err != nil {
		return plan{}, err
	}
	if owner.ID != "" {
		if want := a.request.Node; want != "" && want != owner.ID {
			return plan{}, problem(http.StatusConflict, CodeKeyInUse, fmt.Sprintf("ask for node id %q, or delete "+
				"the device's key so that it makes a new one", owner.ID),
				"this key belongs to node %q already; it cannot be %q too", owner.ID, want)
		}
		if owner.Token == token.ID {
			return plan{action: again, token: token, node: owner}, nil // whatever became of the token: its use is paid for
		}
	}
	p := plan{token: token, node: owner}
	if owner.ID == "" {
		if p.node, p.rejoin, err = s.newcomer(tx, a); err != nil {
			return plan{}, err
		}
	}
	return s.weigh(tx, a, p)
}

// weigh decides between admission, the queue and a refusal for who is not let in yet.
func (s *Service) weigh(tx *bbolt.Tx, a applicant, p plan) (plan, error) {
	needsPerson := p.token.Approval || p.rejoin && s.cfg.ApproveRejoin
	if needsPerson {
		waiting, found, err := pendingOf(tx, pendingID(p.token.ID, a.key.sha256), a.now)
		if err != nil {
			return plan{}, err
		}
		if found && waiting.Denied != "" {
			return plan{}, denied(waiting)
		}
		if found {
			if p.action = wait; waiting.Node != p.node.ID { // another got the id that it waited for; it asked in time, all the same
				p.action = queue
			}
			return p, nil
		}
	}
	if err := p.token.usable(a.now); err != nil {
		return plan{}, err
	}
	switch {
	case needsPerson:
		p.action = queue
	case p.rejoin:
		return plan{}, nodeExists(p.node.ID)
	default:
		p.action = admit
	}
	return p, nil
}

// ownerOf returns the live node that has the key; its ID is empty when there is none.
func ownerOf(tx *bbolt.Tx, key string) (nodeRecord, error) {
	id := string(tx.Bucket([]byte(bucketKeys)).Get([]byte(key)))
	if id == "" {
		return nodeRecord{}, nil
	}
	n, found, err := get[nodeRecord](tx, bucketNodes, id)
	if err == nil && !found {
		err = fmt.Errorf("read %s: key %.12s… belongs to node %q, which has no record", bucketKeys, key, id)
	}
	return n, err
}

// newcomer chooses the id of a device whose key is new. Who names an id wants that one, and rejoins when it is taken.
// Who names none gets its host name when it is free, with part of the key's digest otherwise: many devices are called
// "raspberrypi", and none of them may pass for another. A replica cannot know what is free, for another may have given it away this
// moment, or while the two were cut off: the later of two devices would throw the first one out, and a device whose reply was lost would be
// called otherwise by whom it asks next. So where there are several, part of the digest is always in it.
func (s *Service) newcomer(tx *bbolt.Tx, a applicant) (n nodeRecord, rejoin bool, err error) {
	id, suffix := a.request.Node, a.key.sha256[:8]
	asked := id != ""
	if !asked {
		id = hostID(a.request.Host.Hostname)
	}
	switch {
	case id == "":
		id = "node-" + suffix
	case !asked && s.cfg.Replica != "":
		id = besideIt(id, suffix)
	}
	old, taken, err := get[nodeRecord](tx, bucketNodes, id)
	if err != nil {
		return n, false, err
	}
	taken = taken && old.Removed == 0
	if taken && !asked && s.cfg.Replica == "" {
		id = besideIt(id, suffix)
		if old, taken, err = get[nodeRecord](tx, bucketNodes, id); err != nil {
			return n, false, err
		}
		taken = taken && old.Removed == 0
	}
	return nodeRecord{ID: id}, taken, nil
}

// besideIt is the id of a device whose host name another has.
func besideIt(id, suffix string) string {
	return strings.TrimRight(id[:min(len(id), api.MaxIDLength-1-len(suffix))], ".-") + "-" + suffix
}

// beside tells a device without an id of its own that it did not get its host name for one; empty: it did. It may be the
// device that had it, wiped: nobody but a person can know. Of a replica no device gets that.
func (s *Service) beside(a applicant, id string) string {
	host := hostID(a.request.Host.Hostname)
	if a.request.Node != "" || s.cfg.Replica != "" || host == "" || id != besideIt(host, a.key.sha256[:8]) {
		return ""
	}
	return fmt.Sprintf("its host name %s is the id of another node, so this one is %s; when it is the same device, wiped, end the old node: skerry node remove %s",
		host, id, host)
}

// hostID makes a node id of a host name; empty when nothing useful is left of it.
func hostID(hostname string) string {
	name, _, _ := strings.Cut(strings.ToLower(hostname), ".")
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteByte(c)
		case b.Len() > 0:
			b.WriteByte('-')
		}
	}
	id := strings.TrimRight(b.String()[:min(b.Len(), api.MaxIDLength)], "-")
	if id == "localhost" {
		return ""
	}
	return id
}

// install makes key the node's key in one transaction with the use of the token: whoever had the id before loses it.
// It returns whether certificates of another key were revoked.
func (s *Service) install(tx *bbolt.Tx, id, key string, t tokenRecord, now time.Time) (n nodeRecord, rekeyed bool,
	err error) {
	old, found, err := get[nodeRecord](tx, bucketNodes, id)
	if err != nil {
		return n, false, err
	}
	// After whatever it takes the place of, also by a clock that is behind another replica's.
	n = nodeRecord{ID: id, Key: key, Enrolled: api.At(now), Admitted: max(api.At(now), old.Admitted+1, old.Removed+1), Revision: old.Revision + 1}
	if found && old.Removed == 0 {
		n.User, n.Labelled = old.User, old.Labelled
	}
	if found && old.Removed == 0 {
		n.Enrolled = old.Enrolled
		if old.Key == key {
			n.Certs = old.Certs
		} else {
			rekeyed = true
			if err := s.revokeAll(tx, old, now, "key replaced"); err != nil {
				return n, false, err
			}
		}
	}
	n.Token = t.ID
	t.Uses++
	if err := put(tx, bucketTokens, t.ID, t); err != nil {
		return n, false, err
	}
	if err := tx.Bucket([]byte(bucketKeys)).Put([]byte(key), []byte(id)); err != nil {
		return n, false, fmt.Errorf("write %s: %w", bucketKeys, err)
	}
	return n, rekeyed, nil
}

// pendingID is the same for every question of one device with one token.
func pendingID(token, key string) string {
	sum := sha256.Sum256([]byte(token + " " + key))
	return hex.EncodeToString(sum[:6])
}

// pendingOf returns a device that waits and has not waited for too long.
func pendingOf(tx *bbolt.Tx, id string, now time.Time) (pendingRecord, bool, error) {
	p, found, err := get[pendingRecord](tx, bucketPending, id)
	if err != nil || !found || now.After(p.Requested.Time().Add(pendingLife)) {
		return pendingRecord{}, false, err
	}
	return p, true, nil
}

func denied(p pendingRecord) error {
	detail := fmt.Sprintf("node %q was denied by %s", p.Node, p.Denied)
	if p.Reason != "" {
		detail += ": " + p.Reason
	}
	return problem(http.StatusForbidden, CodeDenied, fmt.Sprintf("ask %s; `skerry approve %s` lets it in after all",
		p.Denied, p.ID), "%s", detail)
}
