package access

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// The codes of the problems that this package answers. They are stable.
const (
	CodeMissing   = "bearer_missing"
	CodeInvalid   = "bearer_invalid" // unknown, revoked or wrong: which of them is nobody's business
	CodeExpired   = "bearer_expired"
	CodeForbidden = "role_insufficient"
	CodeArguments = "access_arguments"
	CodeUnknown   = "access_unknown"
	CodeIssuer    = "oidc_unavailable" // the identity provider does not answer
	CodeClaims    = "oidc_claims"      // its token lacks what we need
	CodeGroups    = "oidc_groups"      // no group has a role here
)

// Ours reports whether a bearer has the form of an access token; others are an issuer's, or nonsense.
func Ours(bearer string) bool { return strings.HasPrefix(bearer, prefix) }

const (
	prefix       = "skat_"
	secretBytes  = 20 // 160 bits
	maxBearer    = 256
	maxTokens    = 10_000
	usedEvery    = time.Hour // how coarse the time of the last use is
	bucketTokens = "access.tokens"
	bucketMeta   = "access.meta"
	metaFirst    = "first" // set once the first token was made
)

// record is a token as stored. Hash is the SHA-256 of the secret, which is 160 random bits: there is no dictionary that
// a slow hash would slow down, and every request would pay for it.
type record struct {
	api.AccessToken
	Hash []byte     `json:"hash"`
	Used api.Millis `json:"used,omitempty"` // to the hour
}

// Tokens is the store of access tokens. Safe for concurrent use.
type Tokens struct {
	db  *bbolt.DB
	now func() time.Time
}

// OpenTokens creates what is missing of the store. now nil means time.Now.
func OpenTokens(db *bbolt.DB, now func() time.Time) (*Tokens, error) {
	if db == nil {
		return nil, errors.New("open access tokens: a store is needed")
	}
	if now == nil {
		now = time.Now
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{bucketTokens, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open access tokens: %w", err)
	}
	return &Tokens{db, now}, nil
}

// Create makes a token. ttl 0 means that it does not expire. The answer alone has the secret.
func (t *Tokens) Create(name string, role api.Role, ttl time.Duration) (api.AccessToken, error) {
	var out api.AccessToken
	err := t.db.Update(func(tx *bbolt.Tx) (err error) {
		out, err = t.create(tx, name, role, ttl)
		return err
	})
	if err != nil {
		return api.AccessToken{}, fmt.Errorf("create access token: %w", err)
	}
	return out, nil
}

func (t *Tokens) create(tx *bbolt.Tx, name string, role api.Role, ttl time.Duration) (api.AccessToken, error) {
	bad := func(format string, args ...any) (api.AccessToken, error) {
		return api.AccessToken{}, problem(http.StatusBadRequest, CodeArguments, "", format, args...)
	}
	if err := api.ValidID("name", name); err != nil {
		return bad("%v", err)
	}
	if !api.RoleAdmin.Includes(role) {
		return bad("role %.40q: wanted viewer, operator or admin", role)
	}
	if ttl < 0 {
		return bad("ttl %s: wanted no negative duration", ttl)
	}
	if n := tx.Bucket([]byte(bucketTokens)).Inspect().KeyN; n >= maxTokens {
		return bad("there are %d access tokens; wanted at most %d", n, maxTokens)
	}
	var raw [secretBytes]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	secret := strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
	now := t.now()
	out := api.AccessToken{ID: api.NewID(), Name: name, Role: role, Created: api.At(now)}
	if ttl > 0 {
		out.Expires = api.At(now.Add(ttl))
	}
	sum := sha256.Sum256([]byte(secret))
	if err := put(tx, record{AccessToken: out, Hash: sum[:]}); err != nil {
		return api.AccessToken{}, err
	}
	out.Secret = prefix + out.ID + "_" + secret
	return out, nil
}

// First makes the first administrator's token and hands it to save, once in the life of the store, also when the token
// is revoked later. The token is valid when First returns nil. When save fails, or the process dies on the way, there
// is no token and the next start tries again, so save must replace what an earlier attempt left.
func (t *Tokens) First(name string, save func(secret string) error) (created bool, err error) {
	err = t.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(bucketMeta))
		if meta.Get([]byte(metaFirst)) != nil {
			return nil
		}
		token, err := t.create(tx, name, api.RoleAdmin, 0)
		if err != nil {
			return err
		}
		if err := save(token.Secret); err != nil {
			return err
		}
		created = true
		return meta.Put([]byte(metaFirst), []byte(token.ID))
	})
	if err != nil {
		return false, fmt.Errorf("create first access token: %w", err)
	}
	return created, nil
}

// List lists the tokens without their secrets, newest first. Expired ones are listed until they are revoked.
func (t *Tokens) List() ([]api.AccessToken, error) {
	var out []api.AccessToken
	err := t.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketTokens)).ForEach(func(k, raw []byte) error {
			r, err := parse(string(k), raw)
			out = append(out, r.AccessToken)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list access tokens: %w", err)
	}
	slices.SortStableFunc(out, func(a, b api.AccessToken) int { return cmp.Compare(b.Created, a.Created) })
	return out, nil
}

// LastUsed returns when each token was last used, to the hour, by id; one that never was is not in it.
func (t *Tokens) LastUsed() (map[string]time.Time, error) {
	out := make(map[string]time.Time)
	err := t.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketTokens)).ForEach(func(k, raw []byte) error {
			r, err := parse(string(k), raw)
			if r.Used != 0 {
				out[r.ID] = r.Used.Time()
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list access tokens: %w", err)
	}
	return out, nil
}

// Revoke deletes a token: from now on it is unknown.
func (t *Tokens) Revoke(id string) error {
	err := t.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketTokens))
		if b.Get([]byte(id)) == nil {
			return problem(http.StatusNotFound, CodeUnknown, "", "access token %.80q does not exist", id)
		}
		return b.Delete([]byte(id))
	})
	if err != nil {
		return fmt.Errorf("revoke access token: %w", err)
	}
	return nil
}

// Authenticate finds out who bears a token, given without "Bearer". An error is an *api.Problem, or a fault of the
// store.
func (t *Tokens) Authenticate(bearer string) (Principal, error) {
	if bearer == "" {
		return Principal{}, problem(http.StatusUnauthorized, CodeMissing,
			"send `Authorization: Bearer skat_…`, or connect with an operator's certificate",
			"no access token was sent")
	}
	id, secret, ok := strings.Cut(strings.TrimPrefix(bearer, prefix), "_")
	if !ok || len(bearer) > maxBearer || !strings.HasPrefix(bearer, prefix) {
		return Principal{}, invalid()
	}
	var r record
	var found bool
	err := t.db.View(func(tx *bbolt.Tx) (err error) {
		raw := tx.Bucket([]byte(bucketTokens)).Get([]byte(id))
		if found = raw != nil; found {
			r, err = parse(id, raw)
		}
		return err
	})
	if err != nil {
		return Principal{}, fmt.Errorf("authenticate: %w", err)
	}
	hash := r.Hash
	if !found {
		hash = make([]byte, sha256.Size) // compared all the same, so that time does not tell an unknown id
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], hash) != 1 || !found {
		return Principal{}, invalid()
	}
	now := t.now()
	if r.Expires != 0 && now.After(r.Expires.Time()) {
		return Principal{}, problem(http.StatusUnauthorized, CodeExpired, "ask an administrator for a new one",
			"access token %s expired at %s",
			r.ID, r.Expires.Time().Format(time.RFC3339))
	}
	if since := now.Sub(r.Used.Time()); since >= usedEvery || since < 0 {
		// A full disk must not lock out who comes to free it: only a token that is gone is a reason to refuse.
		if err := t.used(id, now); errors.Is(err, errGone) {
			return Principal{}, invalid()
		}
	}
	return Principal{Name: r.Name, Role: r.Role, Via: ViaREST}, nil
}

var errGone = errors.New("revoked a moment ago")

// used notes the hour of use.
func (t *Tokens) used(id string, now time.Time) error {
	return t.db.Update(func(tx *bbolt.Tx) error {
		raw := tx.Bucket([]byte(bucketTokens)).Get([]byte(id))
		if raw == nil {
			return errGone
		}
		r, err := parse(id, raw)
		if err != nil {
			return err
		}
		r.Used = api.At(now.Truncate(usedEvery))
		return put(tx, r)
	})
}

func invalid() *api.Problem {
	return problem(http.StatusUnauthorized, CodeInvalid, "copy the token again, or ask an administrator for a new one",
		"access token is not known here, or was revoked")
}

func problem(status int, code, cure, detail string, args ...any) *api.Problem {
	return &api.Problem{Status: status, Title: http.StatusText(status), Detail: fmt.Sprintf(detail, args...), Code: code,
		Cure: cure}
}

func parse(id string, raw []byte) (r record, err error) {
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("read access token %s: stored record is damaged: %w", id, err)
	}
	return r, nil
}

func put(tx *bbolt.Tx, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write access token %s: %w", r.ID, err)
	}
	return tx.Bucket([]byte(bucketTokens)).Put([]byte(r.ID), raw)
}
