package registry

import "testing"

func TestSelector(t *testing.T) {
	labels := map[string]string{"site": "athens", "arch": "arm64", "empty": ""}
	for text, want := range map[string]bool{
		"": true, " ": true, "site=athens": true, "site==athens": true, "site=volos": false, "site!=volos": true, "site!=athens": false,
		"nope!=x": true, "site": true, "nope": false, "!nope": true, "!site": false, "empty=": true, "empty": true,
		"site in (volos, athens)": true, "site in (volos)": false, "site notin (volos)": true, "site notin (athens,volos)": false,
		"nope notin (a)": true, "nope in (a)": false, "site=athens,arch=arm64": true, "site=athens, arch=amd64": false,
		"site in (a,athens),!nope,arch!=x": true,
	} {
		sel, err := ParseSelector(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := sel.Matches(labels); got != want {
			t.Errorf("%q matches: %v; wanted %v", text, got, want)
		}
	}
	for _, text := range []string{"=x", "!", ",", "a,", "a in", "a in (b", "a within (b)", "a b", "a=b=c", "a in (b))", "!a=b", "(a)", "a<3=x("} {
		if sel, err := ParseSelector(text); err == nil {
			t.Errorf("%q was taken as %+v", text, sel)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{"a=b,c!=d", "a in (b,c),!d", "(((", ",,,", "a notin (b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if sel, err := ParseSelector(s); err == nil {
			sel.Matches(map[string]string{"a": "b"})
			for _, term := range sel.terms {
				if term.key == "" {
					t.Errorf("%q has a term without a key", s)
				}
			}
		}
	})
}
