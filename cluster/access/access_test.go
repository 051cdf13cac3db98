package access

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 24, 12, 30, 0, 0, time.UTC)} }

func openDB(t *testing.T, path string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openTokens(t *testing.T) (*Tokens, *clock, *bbolt.DB) {
	t.Helper()
	db, c := openDB(t, filepath.Join(t.TempDir(), "store.db")), newClock()
	tokens, err := OpenTokens(db, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, c, db
}

func codeOf(t *testing.T, err error) string {
	t.Helper()
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		t.Fatalf("error is %v; wanted a problem", err)
	}
	return p.Code
}

func TestATokenAuthenticatesWithItsRole(t *testing.T) {
	tokens, _, _ := openTokens(t)
	for _, role := range []api.Role{api.RoleViewer, api.RoleOperator, api.RoleAdmin} {
		made, err := tokens.Create("grafana", role, 0)
		if err != nil {
			t.Fatal(err)
		}
		who, err := tokens.Authenticate(made.Secret)
		if err != nil || who != (Principal{"grafana", role, ViaREST}) {
			t.Fatalf("Authenticate = %+v, %v; wanted grafana as %s", who, err, role)
		}
		if err := who.Require(role); err != nil {
			t.Errorf("%s is refused what takes %s: %v", role, role, err)
		}
		if err := who.Require(api.RoleAdmin); (err == nil) != (role == api.RoleAdmin) {
			t.Errorf("%s asking for admin: %v", role, err)
		}
	}
}

func TestEachFaultOfABearerHasItsCode(t *testing.T) {
	tokens, c, _ := openTokens(t)
	good, err := tokens.Create("ci", api.RoleOperator, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := tokens.Create("old", api.RoleOperator, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Revoke(gone.ID); err != nil {
		t.Fatal(err)
	}
	if err := tokens.Revoke(gone.ID); codeOf(t, err) != CodeUnknown {
		t.Errorf("second revocation: %v", err)
	}
	last := good.Secret[len(good.Secret)-1]
	other := map[bool]string{true: "b", false: "a"}[last == 'a']
	for name, tc := range map[string]struct{ bearer, want string }{
		"none":         {"", CodeMissing},
		"another kind": {"ghp_abc_def", CodeInvalid},
		"no secret":    {"skat_" + good.ID, CodeInvalid},
		"unknown id":   {"skat_0000_aaaa", CodeInvalid},
		"wrong secret": {good.Secret[:len(good.Secret)-1] + other, CodeInvalid},
		"cut short":    {good.Secret[:len(good.Secret)-1], CodeInvalid},
		"revoked":      {gone.Secret, CodeInvalid},
		"huge":         {good.Secret + strings.Repeat("a", maxBearer), CodeInvalid},
	} {
		if _, err := tokens.Authenticate(tc.bearer); codeOf(t, err) != tc.want {
			t.Errorf("%s: %v; wanted code %s", name, err, tc.want)
		}
	}
	c.add(time.Hour + time.Second)
	if _, err := tokens.Authenticate(good.Secret); codeOf(t, err) != CodeExpired {
		t.Errorf("expired: %v", err)
	}
}

func TestTheSecretIsNotInTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db := openDB(t, path)
	tokens, err := OpenTokens(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := tokens.Create("ci", api.RoleAdmin, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, secret, _ := strings.Cut(strings.TrimPrefix(made.Secret, prefix), "_")
	if len(secret) < 32 || strings.Contains(string(raw), secret) {
		t.Errorf("secret of %d characters, found in the store: %v", len(secret), strings.Contains(string(raw), secret))
	}
	list, err := tokens.List()
	if err != nil || len(list) != 1 || list[0].Secret != "" {
		t.Errorf("List = %+v, %v; wanted one token without a secret", list, err)
	}
}

func TestTheFirstAdministratorIsMadeOnce(t *testing.T) {
	tokens, _, _ := openTokens(t)
	full := errors.New("disk full")
	if created, err := tokens.First("admin", func(string) error { return full }); created || !errors.Is(err, full) {
		t.Fatalf("First with a failing save = %v, %v", created, err)
	}
	if list, _ := tokens.List(); len(list) != 0 {
		t.Fatalf("a token that nobody knows was kept: %+v", list)
	}
	var secret string
	save := func(s string) error { secret = s; return nil }
	if created, err := tokens.First("admin", save); !created || err != nil {
		t.Fatalf("First = %v, %v", created, err)
	}
	who, err := tokens.Authenticate(secret)
	if err != nil || who.Role != api.RoleAdmin {
		t.Fatalf("Authenticate = %+v, %v", who, err)
	}
	list, err := tokens.List()
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Revoke(list[0].ID); err != nil {
		t.Fatal(err)
	}
	if created, err := tokens.First("admin", save); created || err != nil {
		t.Errorf("First after the revocation = %v, %v; wanted none", created, err)
	}
}

func TestLastUseIsKeptToTheHour(t *testing.T) {
	tokens, c, db := openTokens(t)
	made, err := tokens.Create("ci", api.RoleViewer, 0)
	if err != nil {
		t.Fatal(err)
	}
	writes := func() int64 { stats := db.Stats(); return stats.TxStats.GetWrite() }
	use := func() {
		t.Helper()
		if _, err := tokens.Authenticate(made.Secret); err != nil {
			t.Fatal(err)
		}
	}
	use()
	before := writes()
	for range 100 {
		use()
	}
	if writes() != before {
		t.Errorf("100 uses within the hour wrote %d times; wanted none", writes()-before)
	}
	c.add(2 * time.Hour)
	use()
	used, err := tokens.LastUsed()
	if want := c.now().Truncate(time.Hour); err != nil || !used[made.ID].Equal(want) {
		t.Errorf("LastUsed = %v, %v; wanted %s", used, err, want)
	}
}

func TestArgumentsOfATokenAreChecked(t *testing.T) {
	tokens, _, _ := openTokens(t)
	for _, tc := range []struct {
		name string
		role api.Role
		ttl  time.Duration
	}{{"", api.RoleAdmin, 0}, {"Upper", api.RoleAdmin, 0}, {"ok", "root", 0}, {"ok", "", 0}, {"ok", api.RoleAdmin, -1}} {
		if _, err := tokens.Create(tc.name, tc.role, tc.ttl); codeOf(t, err) != CodeArguments {
			t.Errorf("Create(%q, %q, %s): %v", tc.name, tc.role, tc.ttl, err)
		}
	}
}

func TestOnlyOperatorsCertificatesArePrincipals(t *testing.T) {
	who, err := Certified(mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: "ann", Role: api.RoleViewer}, ViaMQTT)
	if err != nil || who != (Principal{"ann", api.RoleViewer, ViaMQTT}) {
		t.Errorf("Certified = %+v, %v", who, err)
	}
	for _, kind := range []mqtt.IdentityKind{mqtt.NodeIdentity, mqtt.ClusterIdentity} {
		_, err := Certified(mqtt.Identity{Kind: kind, Name: "n1", Role: api.RoleAdmin}, ViaREST)
		if codeOf(t, err) != CodeForbidden {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func FuzzAuthenticate(f *testing.F) {
	db, err := bbolt.Open(filepath.Join(f.TempDir(), "store.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	tokens, err := OpenTokens(db, nil)
	if err != nil {
		f.Fatal(err)
	}
	made, err := tokens.Create("ci", api.RoleAdmin, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made.Secret)
	f.Add("skat__")
	f.Add("skat_" + made.ID + "_")
	f.Fuzz(func(t *testing.T, bearer string) {
		if _, err := tokens.Authenticate(bearer); (err == nil) != (bearer == made.Secret) {
			t.Errorf("Authenticate(%q): %v", bearer, err)
		}
	})
}
