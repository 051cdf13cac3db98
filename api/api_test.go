package api

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestPhasesGoForwardOnlyAndEndOnce(t *testing.T) {
	order := []Phase{PhaseQueued, PhaseDelivered, PhaseAccepted, PhaseRunning, PhaseInterrupted}
	finals := []Phase{PhaseSucceeded, PhaseFailed, PhaseRejected, PhaseCancelled, PhaseTimedOut, PhaseExpired}
	for i, from := range order {
		if !from.Valid() || from.Final() {
			t.Errorf("%s: valid %v, final %v", from, from.Valid(), from.Final())
		}
		for j, to := range order {
			want := j > i || from == PhaseInterrupted && to == PhaseRunning
			if from.CanBecome(to) != want {
				t.Errorf("%s to %s: %v; wanted %v", from, to, !want, want)
			}
		}
		for _, to := range finals {
			if !from.CanBecome(to) || to.CanBecome(from) {
				t.Errorf("%s to final %s and back: %v, %v", from, to, from.CanBecome(to), to.CanBecome(from))
			}
		}
	}
	for _, a := range finals {
		for _, b := range finals {
			if !a.Final() || a.CanBecome(b) {
				t.Errorf("final %s became %s", a, b)
			}
		}
	}
	if p := Phase("done"); p.Valid() || p.Final() || PhaseQueued.CanBecome(p) {
		t.Errorf("%q passes for a phase", p)
	}
}

func TestDeadlineIsADurationOrAnInstant(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"30s": now.Add(30 * time.Second), "1h30m0s": now.Add(90 * time.Minute), "2026-11-25T00:00:00Z": now.Add(12 * time.Hour),
	} {
		var d Deadline
		if err := d.UnmarshalText([]byte(text)); err != nil || !d.Resolve(now).Equal(want) {
			t.Errorf("%s: %v, %v; wanted %v", text, d.Resolve(now), err, want)
			continue
		}
		if back, err := d.MarshalText(); err != nil || string(back) != text {
			t.Errorf("%s became %s, %v", text, back, err)
		}
	}
	for _, text := range []string{"", "0s", "-1s", "tomorrow", "2026-11-25", "30"} {
		var d Deadline
		if err := d.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "wanted a duration") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := (&Request{Verb: "ping"}).Validate(); err == nil || !strings.Contains(err.Error(), "deadline is missing") {
		t.Errorf("no deadline: %v", err)
	}
}

func TestValidIDNamesTheFault(t *testing.T) {
	long := strings.Repeat("a", MaxIDLength)
	for _, id := range []string{"a", "0", "a-b.c", long} {
		if err := ValidID("node", id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for id, want := range map[string]string{"": "node is empty", long + "a": "has 64 characters", "-a": "character '-' at 0", "A": "character 'A' at 0",
		"a/b": "character '/' at 1", "a+": "character '+'", "a b": "character ' '", "é": "at 0", "a\x00": `character '\x00'`, "a_b": "character '_'"} {
		if err := ValidID("node", id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; wanted an error that says %q", id, err, want)
		}
	}
	seen := make(map[string]bool)
	for range 1000 {
		id := NewID()
		if err := ValidID("id", id); err != nil || seen[id] || len(id) != 16 {
			t.Fatalf("new id %s: %v, seen %v", id, err, seen[id])
		}
		seen[id] = true
	}
}

func testJoin() Join {
	return Join{Endpoints: []string{"https://10.0.0.1:8443", "https://site.example:8443"}, CASHA256: strings.Repeat("0f", 32), ID: "tok1",
		Secret: "s3cret", Issued: 1764000000000, Expires: 1764003600000}
}

func TestJoinStringRoundTrip(t *testing.T) {
	j := testJoin()
	got, err := ParseJoin("  " + j.String() + "\n")
	if err != nil || !reflect.DeepEqual(got, j) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParseJoinNamesTheFaultAndKeepsTheSecret(t *testing.T) {
	with := func(change func(*Join)) string {
		j := testJoin()
		change(&j)
		return j.String()
	}
	whole := testJoin().String()
	for text, want := range map[string]string{
		"":                                     "wanted one that begins with",
		"k10abc::secret":                       "wanted one that begins with",
		joinPrefix + strings.Repeat("a", 5000): "wanted at most 4096",
		whole[:len(whole)-2]:                   "was it copied whole?",
		whole + "!":                            "was it copied whole?",
		with(func(j *Join) { j.Endpoints = nil }):                         "0 endpoints",
		with(func(j *Join) { j.Endpoints = []string{"http://10.0.0.1"} }): "wanted https://host:port",
		with(func(j *Join) { j.CASHA256 = "abc" }):                        "wanted 64 hex digits",
		with(func(j *Join) { j.Secret = "" }):                             "lacks its secret",
		with(func(j *Join) { j.Expires = j.Issued }):                      "lifetime",
		with(func(j *Join) { j.ID = "Upper" }):                            "join string token id",
	} {
		_, err := ParseJoin(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v; wanted an error that says %q", text, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), whole[20:])) {
			t.Errorf("error repeats the secret: %v", err)
		}
	}
}

func FuzzParseJoin(f *testing.F) {
	f.Add(testJoin().String())
	f.Add(joinPrefix)
	f.Add(joinPrefix + base64.RawURLEncoding.EncodeToString([]byte(`{"e":["https://h"],"ca":null}`)))
	f.Fuzz(func(t *testing.T, s string) {
		j, err := ParseJoin(s)
		if err != nil {
			return
		}
		back, err := ParseJoin(j.String())
		if err != nil || !reflect.DeepEqual(back, j) {
			t.Fatalf("%+v became %+v, %v", j, back, err)
		}
	})
}

func TestMillisZeroIsUnset(t *testing.T) {
	if At(time.Time{}) != 0 || !Millis(0).Time().IsZero() {
		t.Error("the zero time is not 0")
	}
	now := time.UnixMilli(1764000000123).UTC()
	if At(now) != 1764000000123 || !Millis(1764000000123).Time().Equal(now) {
		t.Errorf("%d, %v", At(now), Millis(1764000000123).Time())
	}
}

func TestRolesInclude(t *testing.T) {
	order := []Role{RoleViewer, RoleOperator, RoleAdmin}
	for i, r := range order {
		for j, least := range order {
			if r.Includes(least) != (i >= j) {
				t.Errorf("%s includes %s: %v", r, least, i < j)
			}
		}
		if r.Includes("root") || Role("root").Includes(r) || Role("").Includes("") {
			t.Errorf("an unknown role passes beside %s", r)
		}
	}
}

func TestBase64URLTakesNoPadding(t *testing.T) {
	for text, ok := range map[string]bool{`"-_8"`: true, `""`: true, `"+/8"`: false, `"-_8="`: false} {
		var b Base64URL
		if err := json.Unmarshal([]byte(text), &b); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
