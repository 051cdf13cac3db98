package mqtt

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// previous are the golden files of the release before: they are written by nobody but the release that follows it, by copying.
const previous = "previous"

func previousFile(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", previous, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestMessagesOfTheVersionBeforeAreReadWhole decodes what the version before sends, and finds every value of it again in what
// today's program makes of it. So an agent one version older is understood, and nothing was renamed.
func TestMessagesOfTheVersionBeforeAreReadWhole(t *testing.T) {
	codec := testCodec(t)
	found := 0
	for _, e := range Contract() {
		path := filepath.Join("testdata", previous, e.Name+".json")
		if _, err := os.Stat(path); os.IsNotExist(err) {
			continue // a message that the version before does not know
		}
		found++
		want := asMap(t, previousFile(t, e.Name+".json"))
		for _, ext := range []string{"json", "cbor"} {
			got := zero(sample(e.Kind))
			if err := codec.Decode(e.Kind, previousFile(t, e.Name+"."+ext), got); err != nil {
				t.Errorf("%s.%s: %v", e.Name, ext, err)
				continue
			}
			again, err := codec.Encode(JSON, got)
			if err != nil {
				t.Fatal(err)
			}
			missing(t, e.Name+"."+ext, want, asMap(t, again))
		}
	}
	if found < 15 {
		t.Errorf("%d messages of the version before; the test is broken", found)
	}
	for _, ext := range []string{"json", "cbor"} {
		var cmd api.Command
		if err := codec.Open([]ed25519.PublicKey{publicOf(testKey(1))}, KindCmd, previousFile(t, "Signed."+ext), &cmd); err != nil || cmd.ID != "c1" {
			t.Errorf("Signed.%s: %+v, %v", ext, cmd, err)
		}
	}
}

func asMap(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// missing tells which values of want are not in got.
func missing(t *testing.T, at string, want, got any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for k, v := range w {
			missing(t, at+"."+k, v, g[k])
		}
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			t.Errorf("%s: %v; the version before said %v", at, got, want)
			return
		}
		for i := range w {
			missing(t, at, w[i], g[i])
		}
	default:
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s: %v; the version before said %v", at, got, want)
		}
	}
}

// TestMessagesWithoutFieldsThatMayBeLeftOutAreRead leaves out, one after the other, each field that a version before may not know yet: all that
// are added are such.
func TestMessagesWithoutFieldsThatMayBeLeftOutAreRead(t *testing.T) {
	codec := testCodec(t)
	tried := 0
	for _, e := range Contract() {
		m := sample(e.Kind)
		typ := reflect.TypeOf(m).Elem()
		raw, err := codec.Encode(JSON, m)
		if err != nil {
			t.Fatal(err)
		}
		for i := range typ.NumField() {
			name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(options, "omit") || e.Kind == KindStreamUp || e.Kind == KindStreamDown {
				continue // which fields a frame has is said by its kind
			}
			tried++
			old := asMap(t, raw)
			delete(old, name)
			text, err := json.Marshal(old)
			if err != nil {
				t.Fatal(err)
			}
			got := zero(m)
			if err := codec.Decode(e.Kind, text, got); err != nil {
				t.Errorf("%s without %s: %v", e.Name, name, err)
			} else if v := reflect.ValueOf(got).Elem().Field(i); !v.IsZero() {
				t.Errorf("%s without %s: it is %v", e.Name, name, v)
			}
		}
	}
	if tried < 20 {
		t.Errorf("%d fields were left out; the test is broken", tried)
	}
}

// TestMessagesOfALaterVersionAreRead adds a field that nobody knows to each message, and to what is inside.
func TestMessagesOfALaterVersionAreRead(t *testing.T) {
	codec := testCodec(t)
	for _, e := range Contract() {
		if e.Kind == KindRequest {
			continue // written by people: what is unknown is a mistake, and refused
		}
		want := sample(e.Kind)
		raw, err := codec.Encode(JSON, want)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(raw), "{", `{"fromTomorrow":{"a":[1]},`, 1)
		got := zero(want)
		if err := codec.Decode(e.Kind, []byte(text), got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; wanted %+v", e.Name, got, err, want)
		}
	}
}
