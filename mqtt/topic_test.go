package mqtt

import (
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func testTopics(t testing.TB) Topics {
	t.Helper()
	topics, err := NewTopics("", "site-a")
	if err != nil {
		t.Fatal(err)
	}
	return topics
}

// hasID reports whether topics of kind end in an id.
func hasID(kind Kind) bool {
	e, _ := EntryOf(kind)
	return strings.Contains(e.Suffix, "{id}")
}

func TestParseIsTheInverseOfOf(t *testing.T) {
	for _, root := range []string{"", "x", "a/b/c"} {
		topics, err := NewTopics(root, "site-a")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range Contract() {
			want := Topic{Kind: e.Kind, Node: "node-1.lan"}
			if hasID(e.Kind) {
				want.ID = "c1"
			}
			name := topics.Of(want.Kind, want.Node, want.ID)
			got, err := topics.Parse(name)
			if err != nil || got != want {
				t.Errorf("%s: %+v, %v; wanted %+v", name, got, err, want)
			}
			for _, filter := range []string{topics.Filter(e.Kind, "+"), topics.Filter(e.Kind, want.Node), topics.All(), topics.Node(want.Node)} {
				if !matches(filter, name) {
					t.Errorf("filter %s does not cover %s", filter, name)
				}
			}
			for _, other := range Contract() {
				if other.Kind != e.Kind && matches(topics.Filter(other.Kind, "+"), name) {
					t.Errorf("filter of %s covers %s", other.Name, name)
				}
			}
		}
	}
}

func TestTopicStringsAreThoseOfTheDesign(t *testing.T) {
	topics := testTopics(t)
	for kind, want := range map[Kind]string{
		KindState: "skerry/v1/site-a/n/state", KindTele: "skerry/v1/site-a/n/tele", KindCmd: "skerry/v1/site-a/n/cmd/x",
		KindCmdStatus: "skerry/v1/site-a/n/cmd/x/status", KindStreamUp: "skerry/v1/site-a/n/stream/x/up",
		KindStreamDown: "skerry/v1/site-a/n/stream/x/down", KindRequest: "skerry/v1/site-a/n/request/x",
		KindRequestStatus: "skerry/v1/site-a/n/request/x/status",
	} {
		if got := topics.Of(kind, "n", "x"); got != want {
			t.Errorf("%s; wanted %s", got, want)
		}
	}
	if got := topics.Of(99, "n", "x"); got != "" {
		t.Errorf("topic of no kind is %s", got)
	}
}

func TestParseRefusesWhatIsNotInTheContract(t *testing.T) {
	topics := testTopics(t)
	for name, want := range map[string]string{
		"":                                   "wanted one under skerry/v1/site-a/",
		"skerry/v1/site-b/n/state":           "wanted one under",
		"skerry/v1/site-a":                   "wanted one under",
		"skerry/v1/site-a/n":                 "wanted a message kind after the node",
		"skerry/v1/site-a//state":            "node is empty",
		"skerry/v1/site-a/N/state":           "character 'N'",
		"skerry/v1/site-a/+/state":           "character '+'",
		"skerry/v1/site-a/n/":                "is no message",
		"skerry/v1/site-a/n/states":          "is no message",
		"skerry/v1/site-a/n/state/":          "is no message",
		"skerry/v1/site-a/n/cmd":             "is no message",
		"skerry/v1/site-a/n/cmd/":            "is no message",
		"skerry/v1/site-a/n/cmd/x/":          "is no message",
		"skerry/v1/site-a/n/cmd/x/state":     "is no message",
		"skerry/v1/site-a/n/cmd/x/status/":   "is no message",
		"skerry/v1/site-a/n/stream/x":        "is no message",
		"skerry/v1/site-a/n/request/#":       "character '#'",
		"skerry/v1/site-a/n/cmd/X/status":    "character 'X'",
		"skerry/v1/site-a/n/request//status": "is no message",
	} {
		if got, err := topics.Parse(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; wanted an error that says %q", name, got, err, want)
		}
	}
}

func TestNewTopicsRefusesWildcards(t *testing.T) {
	for _, root := range []string{"a//b", "/a", "a/", "a/+", "#", "$SYS", "a\x00", strings.Repeat("a", api.MaxIDLength+1)} {
		if _, err := NewTopics(root, "c"); err == nil || !strings.Contains(err.Error(), "topic root") {
			t.Errorf("root %q: %v", root, err)
		}
	}
	if _, err := NewTopics("", "Site"); err == nil || !strings.Contains(err.Error(), "cluster") {
		t.Errorf("cluster: %v", err)
	}
}

func FuzzTopicParse(f *testing.F) {
	topics := testTopics(f)
	for _, e := range Contract() {
		f.Add(topics.Of(e.Kind, "n", "x"))
		f.Add(topics.Of(e.Kind, "+", "") + "/")
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := topics.Parse(name)
		if err != nil {
			return
		}
		if back := topics.Of(got.Kind, got.Node, got.ID); back != name || hasID(got.Kind) != (got.ID != "") {
			t.Fatalf("%q was read as %+v, which is %q", name, got, back)
		}
	})
}
