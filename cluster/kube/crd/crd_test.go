package crd

import "testing"

func TestACRDIsNeverTakenBackToAnOlderRevision(t *testing.T) {
	for name, c := range map[string]struct {
		have Installed
		want Verdict
	}{
		"not there":                   {Installed{}, Install},
		"by hand or by the framework": {Installed{Exists: true}, Upgrade},
		"older":                       {Installed{Exists: true, Revision: "4", Digest: "d"}, Upgrade},
		"the same":                    {Installed{Exists: true, Revision: "5", Digest: "d"}, Keep},
		"another build":               {Installed{Exists: true, Revision: "5", Digest: "x"}, Upgrade},
		"newer":                       {Installed{Exists: true, Revision: "6", Digest: "x"}, Newer},
		"much newer":                  {Installed{Exists: true, Revision: "10", Digest: "d"}, Newer},
		"an annotation of nothing":    {Installed{Exists: true, Revision: "v9"}, Upgrade},
	} {
		if got := Decide(c.have, 5, "d"); got != c.want {
			t.Errorf("%s: %s; wanted %s", name, got, c.want)
		}
	}
}
