package enroll

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// The buckets. Values are JSON but in bucketKeys.
const (
	bucketTokens    = "enroll.tokens"    // token id → tokenRecord
	bucketNodes     = "enroll.nodes"     // node id → nodeRecord
	bucketKeys      = "enroll.keys"      // SHA-256 of a live node's key, hex → node id
	bucketPending   = "enroll.pending"   // enrolment id → pendingRecord
	bucketOperators = "enroll.operators" // serial number, hex → operatorRecord
	bucketRevoked   = "enroll.revoked"   // serial, hex → revokedRecord
	bucketMeta      = "enroll.meta"      // metaRoots
)

// metaRoots is the key of the rootsRecord: the roots that this store's certificates were issued by.
const metaRoots = "roots"

func allBuckets() []string {
	return []string{bucketTokens, bucketNodes, bucketKeys, bucketPending, bucketOperators, bucketRevoked, bucketMeta}
}

// tokenRecord is a join token. Hash is the SHA-256 of the secret. A slow hash would add nothing: the secret is 160
// random bits, so there is no dictionary to slow down, and a device's enrolment would pay for it.
type tokenRecord struct {
	api.Token
	Hash []byte `json:"hash"`
}

// nodeRecord is a node's identity. Token and Admitted tell by what and when its present key was let in.
type nodeRecord struct {
	ID       string            `json:"id"`
	Key      string            `json:"key"` // SHA-256 of SubjectPublicKeyInfo, hex
	Token    string            `json:"token"`
	Enrolled api.Millis        `json:"enrolled"` // the first key of this id
	Admitted api.Millis        `json:"admitted"` // the present key
	By       string            `json:"by,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	User     map[string]string `json:"user,omitempty"` // labels that people gave it
	Labelled api.Millis        `json:"labelled,omitempty"`
	Host     api.Host          `json:"host"`
	Certs    []certRecord      `json:"certs,omitempty"` // oldest first
	Removed  api.Millis        `json:"removed,omitempty"`
	Revision uint64            `json:"revision,omitempty"` // tells several cluster agents whether the broker keeps the newest record
}

// certRecord is an issued certificate. DER is kept of the newest only.
type certRecord struct {
	Serial   string     `json:"serial"`
	SHA256   string     `json:"sha256"`
	Issued   api.Millis `json:"issued"`
	NotAfter api.Millis `json:"notAfter"`
	DER      []byte     `json:"der,omitempty"`
}

// pendingRecord is a device that waits for a person.
type pendingRecord struct {
	api.Enrollment
	Labels map[string]string `json:"labels,omitempty"`
	Denied string            `json:"denied,omitempty"` // by whom
	Reason string            `json:"reason,omitempty"`
}

// operatorRecord is an operator's certificate, without its PEM.
type operatorRecord struct {
	api.Operator
	Issued api.Millis `json:"issued"`
	By     string     `json:"by,omitempty"`
}

// revokedRecord is a certificate that must not be accepted although its time is not over.
type revokedRecord struct {
	Subject  string     `json:"subject"`
	At       api.Millis `json:"at"`
	NotAfter api.Millis `json:"notAfter"`
	Reason   string     `json:"reason"`
}

// rootsRecord lists digests of roots.
type rootsRecord struct {
	SHA256 []string `json:"sha256"`
}

// errStop ends a walk without an error.
var errStop = errors.New("stop")

// get reads one record; found is false when there is none.
func get[T any](tx *bbolt.Tx, bucket, key string) (v T, found bool, err error) {
	raw := tx.Bucket([]byte(bucket)).Get([]byte(key))
	if raw == nil {
		return v, false, nil
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, false, fmt.Errorf("read %s %s: stored record is damaged: %w", bucket, key, err)
	}
	return v, true, nil
}

func put(tx *bbolt.Tx, bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s %s: %w", bucket, key, err)
	}
	if err := tx.Bucket([]byte(bucket)).Put([]byte(key), raw); err != nil {
		return fmt.Errorf("write %s %s: %w", bucket, key, err)
	}
	return nil
}

func remove(tx *bbolt.Tx, bucket, key string) error {
	if err := tx.Bucket([]byte(bucket)).Delete([]byte(key)); err != nil {
		return fmt.Errorf("delete %s %s: %w", bucket, key, err)
	}
	return nil
}

// each calls f for every record in order of the keys until it returns errStop.
func each[T any](tx *bbolt.Tx, bucket string, f func(key string, v T) error) error {
	err := tx.Bucket([]byte(bucket)).ForEach(func(k, raw []byte) error {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("read %s %s: stored record is damaged: %w", bucket, k, err)
		}
		return f(string(k), v)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// sweep deletes every record that gone says may go.
func sweep[T any](tx *bbolt.Tx, bucket string, gone func(v T) bool) (int, error) {
	var keys []string
	err := each(tx, bucket, func(key string, v T) error {
		if gone(v) {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := remove(tx, bucket, key); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}
