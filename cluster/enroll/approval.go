package enroll

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Pending lists the devices that wait for approval, longest waiting first.
func (s *Service) Pending() ([]api.Enrollment, error) {
	now := s.now()
	var out []api.Enrollment
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		return each(tx, bucketPending, func(id string, p pendingRecord) error {
			if p.Denied != "" || now.After(p.Requested.Time().Add(pendingLife)) {
				return nil
			}
			old, found, err := get[nodeRecord](tx, bucketNodes, p.Node)
			p.Rejoin = found && old.Removed == 0 && old.Key != p.KeySHA256 // as of now, not of when it asked
			out = append(out, p.Enrollment)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list pending enrolments: %w", err)
	}
	for i, e := range out {
		if e.Rejoin {
			out[i].Presence = s.presence(e.Node)
		}
	}
	slices.SortStableFunc(out, func(a, b api.Enrollment) int { return cmp.Compare(a.Requested, b.Requested) })
	return out, nil
}

// Approve lets a waiting device in. which is the enrolment's id, or the node's when one device alone waits for it. The
// token's use, the node's new key and the revocation of the old one are one transaction; the device gets its
// certificate when it asks next.
func (s *Service) Approve(which, by string) (api.Enrollment, error) {
	now := s.now()
	s.tell.Lock()
	defer s.tell.Unlock()
	var p pendingRecord
	var rekeyed bool
	err := s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		var err error
		if p, err = s.findPending(tx, which); err != nil {
			return err
		}
		t, found, err := get[tokenRecord](tx, bucketTokens, p.TokenID)
		if err != nil {
			return err
		}
		if !found || t.Revoked {
			return problem(http.StatusConflict, CodeTokenRevoked, cureNewToken, "the join token %s of this device was revoked",
				p.TokenID)
		}
		if err := t.unused(); err != nil {
			return err
		}
		if err := s.unchanged(tx, p); err != nil {
			return err
		}
		n, changed, err := s.install(tx, p.Node, p.KeySHA256, t, now)
		if err != nil {
			return err
		}
		rekeyed = changed
		n.Labels, n.Host, n.By = t.labelled(p.Labels), p.Host, by
		if err := put(tx, bucketNodes, n.ID, n); err != nil {
			return err
		}
		return remove(tx, bucketPending, p.ID)
	})
	if err != nil {
		return api.Enrollment{}, fmt.Errorf("approve: %w", err)
	}
	s.cfg.Log.Info("device approved", agent.KeyNode, p.Node, agent.KeyBy, by)
	if rekeyed {
		s.cfg.Nodes.Revoked(s.identity(p.Node))
	}
	return p.Enrollment, nil
}

// unchanged makes sure that the person saw what approval would do: a node that came to be while the device waited, or
// one that this key became meanwhile, is news.
func (s *Service) unchanged(tx *bbolt.Tx, p pendingRecord) error {
	old, found, err := get[nodeRecord](tx, bucketNodes, p.Node)
	if err != nil {
		return err
	}
	if rejoin := found && old.Removed == 0 && old.Key != p.KeySHA256; rejoin && !p.Rejoin {
		return problem(http.StatusConflict, CodePendingChanged,
			fmt.Sprintf("look again in a minute: a device without an id of its own waits under another by then; else deny it, or "+
				"`skerry node remove %s` first when it shall replace that node", p.Node),
			"node %q joined with another key while this device waited", p.Node)
	}
	owner, err := ownerOf(tx, p.KeySHA256)
	if err != nil {
		return err
	}
	if owner.ID != "" && owner.ID != p.Node {
		return problem(http.StatusConflict, CodePendingChanged, "deny it",
			"this key became node %q while the device waited as %q", owner.ID, p.Node)
	}
	return nil
}

// Deny refuses a waiting device: its questions are answered with who denied it, and why, until it would have waited
// for a week. Approve changes that.
func (s *Service) Deny(which, by, reason string) (api.Enrollment, error) {
	if len(reason) > api.MaxReasonBytes {
		return api.Enrollment{}, problem(http.StatusBadRequest, CodeBody, "", "reason has %d bytes; wanted at most %d",
			len(reason), api.MaxReasonBytes)
	}
	if by == "" {
		by = "an administrator" // an empty name would mean that nobody denied it
	}
	var p pendingRecord
	err := s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		var err error
		if p, err = s.findPending(tx, which); err != nil {
			return err
		}
		p.Denied, p.Reason = by, reason
		return put(tx, bucketPending, p.ID, p)
	})
	if err != nil {
		return api.Enrollment{}, fmt.Errorf("deny: %w", err)
	}
	s.cfg.Log.Info("device denied", agent.KeyNode, p.Node, agent.KeyBy, by)
	return p.Enrollment, nil
}

// findPending finds an enrolment by its id, or by its node when that is unambiguous.
func (s *Service) findPending(tx *bbolt.Tx, which string) (pendingRecord, error) {
	p, found, err := pendingOf(tx, which, s.now())
	if err != nil || found {
		return p, err
	}
	var ids []string
	err = each(tx, bucketPending, func(id string, one pendingRecord) error {
		if one.Node == which && !s.now().After(one.Requested.Time().Add(pendingLife)) {
			p, ids = one, append(ids, id)
		}
		return nil
	})
	switch {
	case err != nil:
		return pendingRecord{}, err
	case len(ids) == 0:
		return pendingRecord{}, notFound(CodePendingUnknown, "pending enrolment", "enrollments", which)
	case len(ids) > 1:
		return pendingRecord{}, problem(http.StatusConflict, CodePendingChanged, "name one of them by its id",
			"%d devices wait to be node %q: %s", len(ids), which, strings.Join(ids, ", "))
	}
	return p, nil
}
