package v1

import (
	"encoding/json"
	"testing"
)

func TestOnAndOffAreReadAsWordsAndAsBooleans(t *testing.T) {
	for text, want := range map[string]string{`"on"`: `"on"`, `true`: `"on"`, `"off"`: `"off"`, `false`: `"off"`} {
		o := OnOff(want == `"off"`) // the other one
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got, err := json.Marshal(o); err != nil || string(got) != want {
			t.Errorf("%s is written as %s, %v; wanted %s", text, got, err, want)
		}
	}
	for _, text := range []string{`"ON"`, `"yes"`, `""`, `1`, `[]`, `{}`, `"true"`} {
		var o OnOff
		if err := json.Unmarshal([]byte(text), &o); err == nil {
			t.Errorf("%s is taken as %t", text, o)
		}
	}
}

func TestTheWrongSpellingMeansTheRightOne(t *testing.T) {
	for given, want := range map[PowerRelation]Relation{"lower_or_qqual": LowerOrEqual, "lower_or_equal": LowerOrEqual, "greater_than": GreaterThan} {
		if got := given.Relation(); got != want {
			t.Errorf("%s means %s; wanted %s", given, got, want)
		}
	}
}
