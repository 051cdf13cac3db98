package enroll

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

const (
	secretBytes = 20 // 160 bits
	defaultTTL  = 24 * time.Hour
	maxTTL      = 366 * 24 * time.Hour
	maxTokens   = 10_000
	maxUses     = 1_000_000
)

// TokenSpec is what a token shall be. TTL 0 means 24 hours. MaxUses 0 means that uses are not limited.
type TokenSpec struct {
	TTL      time.Duration
	MaxUses  int
	Approval bool
	Labels   map[string]string
	By       string
}

func (t *TokenSpec) complete() error {
	if t.TTL == 0 {
		t.TTL = defaultTTL
	}
	bad := func(format string, args ...any) error {
		return problem(http.StatusBadRequest, CodeTokenArgs, "", format, args...)
	}
	if t.TTL < time.Second || t.TTL > maxTTL {
		return bad("ttl %s: wanted 1s to %s", t.TTL, maxTTL)
	}
	if t.MaxUses < 0 || t.MaxUses > maxUses {
		return bad("maxUses %d: wanted 0 (not limited) to %d", t.MaxUses, maxUses)
	}
	if len(t.Labels) > api.MaxLabels {
		return bad("labels has %d entries; wanted at most %d", len(t.Labels), api.MaxLabels)
	}
	if _, err := api.GoodLabels("labels", t.Labels); err != nil {
		return bad("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if len(t.By) > api.MaxLabelBytes {
		return bad("by has %d bytes; wanted at most %d", len(t.By), api.MaxLabelBytes)
	}
	return nil
}

// CreateToken makes a join token. The answer alone has its join string; only a digest of the secret is stored.
func (s *Service) CreateToken(spec TokenSpec) (api.Token, error) {
	if err := spec.complete(); err != nil {
		return api.Token{}, err
	}
	var raw [secretBytes]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	secret := base64.RawURLEncoding.EncodeToString(raw[:])
	now := s.now()
	token := api.Token{ID: api.NewID(), Created: api.At(now), Expires: api.At(now.Add(spec.TTL)), MaxUses: spec.MaxUses,
		Approval: spec.Approval, By: spec.By, Labels: spec.Labels}
	sum := sha256.Sum256([]byte(secret))
	err := s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		if n := tx.Bucket([]byte(bucketTokens)).Inspect().KeyN; n >= maxTokens {
			return problem(http.StatusConflict, CodeTokenArgs, "revoke or await the expiry of old ones",
				"there are %d tokens; wanted at most %d", n, maxTokens)
		}
		return put(tx, bucketTokens, token.ID, tokenRecord{token, sum[:]})
	})
	if err != nil {
		return api.Token{}, fmt.Errorf("create token: %w", err)
	}
	endpoints, _ := s.addresses()
	token.Join = api.Join{Endpoints: endpoints, CASHA256: s.cfg.Authority.SHA256(), ID: token.ID, Secret: secret,
		Issued: token.Created, Expires: token.Expires}.String()
	return token, nil
}

// Tokens lists the tokens, newest first; expired ones stay for a week.
func (s *Service) Tokens() ([]api.Token, error) {
	var out []api.Token
	err := s.cfg.DB.View(func(tx *bbolt.Tx) error {
		return each(tx, bucketTokens, func(_ string, t tokenRecord) error {
			out = append(out, t.Token)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	slices.SortStableFunc(out, func(a, b api.Token) int { return cmp.Compare(b.Created, a.Created) })
	return out, nil
}

// RevokeToken ends a token at once, also for devices that wait for approval with it. Nodes that joined with it stay.
// Revoking it again changes nothing.
func (s *Service) RevokeToken(id string) error {
	err := s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		t, found, err := get[tokenRecord](tx, bucketTokens, id)
		if err != nil {
			return err
		}
		if !found {
			return notFound(CodeTokenUnknown, "token", "tokens", id)
		}
		t.Revoked = true
		return put(tx, bucketTokens, id, t)
	})
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// tokenOf finds the token that a device presents and checks the secret in constant time. What is wrong with a token is
// told only to who knows its secret.
func tokenOf(tx *bbolt.Tx, id, secret string) (tokenRecord, error) {
	t, found, err := get[tokenRecord](tx, bucketTokens, id)
	if err != nil {
		return t, err
	}
	hash := t.Hash
	if !found {
		hash = make([]byte, sha256.Size) // compared all the same, so that time does not tell an unknown id
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], hash) != 1 || !found {
		return tokenRecord{}, tokenInvalid()
	}
	if t.Revoked {
		return tokenRecord{}, problem(http.StatusForbidden, CodeTokenRevoked, cureNewToken, "join token %s was revoked", id)
	}
	return t, nil
}

// usable reports why a token admits nobody more.
func (t *tokenRecord) usable(now time.Time) error {
	if now.After(t.Expires.Time()) {
		return problem(http.StatusForbidden, CodeTokenExpired, cureNewToken, "join token %s expired at %s, %s ago",
			t.ID, t.Expires.Time().Format(time.RFC3339), now.Sub(t.Expires.Time()).Round(time.Second))
	}
	return t.unused()
}

func (t *tokenRecord) unused() error {
	if t.MaxUses > 0 && t.Uses >= t.MaxUses {
		return problem(http.StatusForbidden, CodeTokenUsedUp, cureNewToken, "join token %s was used %d of %d times", t.ID,
			t.Uses, t.MaxUses)
	}
	return nil
}

// labelled merges a token's labels over those a device asks for, as far as it may have them.
func (t *tokenRecord) labelled(asked map[string]string) map[string]string {
	out, _ := api.OwnLabels("labels", asked) // the faults were told when the device asked
	if out == nil && len(t.Labels) > 0 {
		out = make(map[string]string, len(t.Labels))
	}
	maps.Copy(out, t.Labels)
	return out
}
