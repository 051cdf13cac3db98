package api

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
)

// ValidID reports why id cannot name a node, cluster, command or stream: such names match [a-z0-9][a-z0-9.-]{0,62} and
// so are safe as an MQTT topic level, a file name, a label value and a certificate's common name. field names the
// value in the error.
func ValidID(field, id string) error {
	if id == "" {
		return fmt.Errorf("%s is empty; wanted [a-z0-9][a-z0-9.-]{0,62}", field)
	}
	if len(id) > MaxIDLength {
		return fmt.Errorf("%s %.20q… has %d characters; wanted at most %d", field, id, len(id), MaxIDLength)
	}
	for i := range len(id) {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("%s %q: character %q at %d; wanted [a-z0-9][a-z0-9.-]{0,62}", field, id, c, i)
		}
	}
	return nil
}

// NewID returns a random id of 16 characters (80 bits), valid as ValidID says.
func NewID() string {
	var raw [10]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:]))
}

// maxLen checks a free text field against its limit.
func maxLen(field, value string, limit int) error {
	if len(value) > limit {
		return fmt.Errorf("%s has %d bytes; wanted at most %d", field, len(value), limit)
	}
	return nil
}

// validLabels only bounds what arrives: what is wrong with the form of a label is not worth a whole message.
func validLabels(field string, labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("%s has %d entries; wanted at most %d", field, len(labels), MaxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelKey || len(v) > MaxLabelBytes {
			return fmt.Errorf("%s[%.20q]: wanted a key of 1 to %d bytes and a value of at most %d", field, k, maxLabelKey, MaxLabelBytes)
		}
	}
	return nil
}
