package enroll

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"time"
)

// ticketEvery is how often the key changes that seals session tickets. One that is older than two of them is not
// opened any more: its bearer shakes hands in full.
const ticketEvery = 24 * time.Hour

// ticketKeys returns the keys for session tickets at now, the one that seals first. They follow from the root's key and
// the day, so a restart changes nothing and nothing is stored. Who has one can make tickets with any certificate in them,
// which who has the root's key can do anyway.
func (a *Authority) ticketKeys(now time.Time) ([][32]byte, error) {
	secret, err := a.serverRoot().key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("derive ticket key: %w", err)
	}
	day := ticketDay(now)
	var out [][32]byte
	for _, d := range []int64{day, day - 1} {
		key, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("skerry session tickets %d", d), 32)
		if err != nil {
			return nil, fmt.Errorf("derive ticket key: %w", err)
		}
		out = append(out, [32]byte(key))
	}
	return out, nil
}

// ticketDay is the number of the time in which one key seals.
func ticketDay(now time.Time) int64 { return now.Unix() / int64(ticketEvery/time.Second) }
