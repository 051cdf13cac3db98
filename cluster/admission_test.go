package cluster

import (
	"net/http"
	"strings"
	"testing"
)

// What was asked for is not taken for the default: nothing would have become a day, a year or for ever.
func TestATTLOfNothingIsRefused(t *testing.T) {
	r := newRig(t, nil)
	for path, body := range map[string]string{"/v1/tokens": `{"maxUses":1,"ttl":`, "/v1/access-tokens": `{"name":"x","role":"viewer","ttl":`,
		"/v1/operators": `{"name":"x","role":"viewer","csr":"x","ttl":`} {
		for _, ttl := range []string{`"0s"`, `"-1h"`} {
			if code, p := r.problem("POST", path, body+ttl+"}"); code != http.StatusBadRequest || !strings.Contains(p.Detail, "ttl: "+ttl+"; wanted a duration above zero") {
				t.Errorf("%s, ttl %s: %d %s", path, ttl, code, p.Detail)
			}
		}
	}
}
