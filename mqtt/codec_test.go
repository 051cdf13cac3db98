package mqtt

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/skerry-edge/skerry/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func testCodec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sample returns a message of kind with every field set.
func sample(kind Kind) Message {
	const at, boot = api.Millis(1764000000000), "0f0e7f3c-5a53-4c1e-9f5e-6b7c2d8c1a2b"
	hash := strings.Repeat("0f", 32)
	no := false
	low := 0.5
	switch kind {
	case KindState:
		return &api.State{State: api.StateSleeping, Epoch: 7, Boot: boot, At: at, Reason: "solar <night>", Wake: at + 3600000}
	case KindBirth:
		return &api.Birth{Node: "node-1", Cluster: "site-a", Epoch: 7, Boot: boot, At: at, TimeQuality: api.TimeHinted, Started: at - 5000,
			Version: "1.2.3", Host: api.Host{Hostname: "gw", OS: "Debian 13", Kernel: "6.12.0", Arch: "armv7", CPUs: 4, MemoryBytes: 1 << 30, Model: "Pi \"4\""},
			Labels: map[string]string{"rack": "b&c", "site": "x"}, Runtimes: []string{"process"},
			Sensors: []api.Sensor{{Kind: "camera", Model: "imx219"}}, Probes: []api.Probe{{Name: "cpu", IntervalMillis: 10000}, {Name: "file", IntervalMillis: 5000, Error: "no such file"}},
			Verbs: []api.Verb{{Name: "exec", Help: "Run a program.", Role: api.RoleAdmin, Stream: true, Args: api.Schema{
				Type: "object", Description: "d", Required: []string{"argv"},
				Properties: map[string]api.Schema{"argv": {Type: "array", Items: &api.Schema{Type: "string", MaxLength: 9, Pattern: "^a"}},
					"n": {Type: "number", Minimum: &low, Maximum: &low, Enum: []string{"a"}}}, AdditionalProperties: &no}}},
			Certificate: api.Certificate{SHA256: hash, NotAfter: at}, Key: []byte{1, 2, 3}, Backlog: api.Backlog{Batches: 3, Events: 2, Bytes: 4096, Oldest: at - 1,
				Dropped: api.Dropped{Alarms: 1, Events: 2, Batches: 3, Samples: 4, Downsampled: 5}},
			IntervalMillis: 10000, AutonomyMillis: 86400000, Desired: api.Revision{Generation: 9, Hash: hash}, OpenCommands: []string{"c1"}, Claim: &api.Claim{Term: 3, Owner: "a"}}
	case KindTele:
		b := typicalBatch(3, 2)
		b.Historical = true
		b.Rows[1].Values[0] = -2.5e-7
		return b
	case KindEvent:
		return &api.Event{Epoch: 7, Seq: 3, Prev: 2, Boot: boot, At: at, Mono: 5, TimeQuality: api.TimeSynced, Class: api.ClassAlarm,
			Kind: "probe.failed", Object: "file", Message: "no such file", Data: map[string]string{"path": "/x", "n\"": "1"}}
	case KindReported:
		return &api.Reported{Generation: 9, Hash: hash, Epoch: 7, At: at, Workloads: []api.WorkloadStatus{fullWorkloadStatus()},
			Policies: []api.PolicyStatus{{Name: "p", State: "active", Reason: "r"}}, Config: api.ConfigStatus{State: "applied", Hash: hash, Last: "rejected", Reason: "r"},
			Agent: &api.AgentStatus{Version: "1.3.0", Wanted: "1.4.0", Try: 8, State: api.AgentFailed, Reason: "r"}}
	case KindDesired:
		return &api.Desired{Node: "node-1", Generation: 9, Hash: hash, Epoch: 7, Issued: at, Expires: at + 1,
			Workloads: []api.Workload{fullWorkload()},
			Policies:  []api.Policy{{Name: "p", Kind: "rule", Spec: map[string]any{"above": 0.5}}}, Config: map[string]any{"log": map[string]any{"level": "info"}}, Claim: &api.Claim{Term: 3, Owner: "a"},
			Agent: &api.AgentWant{Version: "1.4.0", URL: "https://releases.example", Force: true, Window: "22:00-04:00", Try: 8}}
	case KindCmd:
		return &api.Command{ID: "c1", Node: "node-1", Epoch: 7, Verb: "exec", Args: map[string]any{"argv": []any{"true"}, "wait": true},
			By: "alice", Issued: at, Deadline: at + 30000, Claim: &api.Claim{Term: 3, Owner: "a"}}
	case KindCmdStatus, KindRequestStatus:
		exit := 2
		return &api.Status{ID: "c1", Phase: api.PhaseFailed, Epoch: 7, At: at, Reason: "exit 2", Progress: "1 of 2", Exit: &exit,
			Output: "line\n\ttab é", Truncated: 12, Result: map[string]any{"ok": false, "why": "x"}}
	case KindAck:
		return &api.Ack{Epoch: 7, Seq: 981, Events: 3, Commands: []string{"c1", "c2"}, Time: at}
	case KindStreamUp:
		return &api.Frame{Seq: 2, Kind: api.FrameData, Channel: api.ChannelStdout, Data: []byte{0, 1, 254, 255}}
	case KindStreamDown:
		return &api.Frame{Seq: 1, Kind: api.FrameCredit, Credit: 65536}
	case KindRequest:
		var d api.Deadline
		_ = d.UnmarshalText([]byte("30s")) // a constant
		return &api.Request{Verb: "ping", Args: map[string]any{"note": "hi"}, Deadline: d}
	case KindReplica:
		return &api.Replica{Cluster: "site-a", Replica: "a", Session: 7, Beat: 3, State: api.ReplicaLive, At: at, URL: "https://a:8443"}
	case KindAdmission:
		return &api.Admission{Node: "node-1", Cluster: "site-a", Revision: 2, KeySHA256: hash, Enrolled: at - 1, Admitted: at,
			Labels: map[string]string{"rack": "b"}, UserLabels: map[string]string{"tier": "x"}, Labelled: at, Certificates: []api.Issued{{Serial: "1f", SHA256: hash, Issued: at, NotAfter: at + 1}},
			Removed: at + 2, By: "alice"}
	}
	return nil
}

// zero returns an empty message of the type of m.
func zero(m Message) Message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message) }

func TestEveryMessageIsEncodedAsItsGoldenSays(t *testing.T) {
	codec := testCodec(t)
	for _, e := range Contract() {
		for enc, ext := range map[Encoding]string{JSON: "json", CBOR: "cbor"} {
			want := sample(e.Kind)
			if want == nil || reflect.TypeOf(want).Elem() != reflect.TypeOf(e.Message) {
				t.Fatalf("%s: sample is %T", e.Name, want)
			}
			data, err := codec.Encode(enc, want)
			if err != nil {
				t.Fatalf("%s: %v", e.Name, err)
			}
			golden(t, e.Name+"."+ext, data)
			got := zero(want)
			if err := codec.Decode(e.Kind, data, got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s.%s: decoded %+v, %v; wanted %+v", e.Name, ext, got, err, want)
			}
		}
	}
}

func golden(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s is now\n%q\nwanted\n%q", path, data, want)
	}
}

func TestGoldenFilesAreThoseOfTheContract(t *testing.T) {
	want := map[string]bool{"Signed.json": true, "Signed.cbor": true}
	for _, e := range Contract() {
		want[e.Name+".json"], want[e.Name+".cbor"] = true, true
	}
	files, err := os.ReadDir(filepath.Join("testdata", "golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !want[f.Name()] {
			t.Errorf("golden file %s belongs to no message", f.Name())
		}
		delete(want, f.Name())
	}
	if len(want) > 0 {
		t.Errorf("no golden file for %v", want)
	}
}

func TestDecodeNamesTheFault(t *testing.T) {
	codec := testCodec(t)
	const state = `{"state":"online","epoch":1,"boot":"b","at":5`
	deep := strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9)
	many := `{"k0":0`
	for i := range 300 {
		many += fmt.Sprintf(`,"k%d":0`, i+1)
	}
	cborOf := func(v any) string {
		raw, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for _, c := range []struct {
		name string
		kind Kind
		data string
		want string
	}{
		{"kind", 99, "{}", "message kind 99: no such kind"},
		{"empty", KindState, "", "decode State: empty payload"},
		{"oversize", KindState, strings.Repeat(" ", 5000), "decode State: 5000 bytes; wanted at most 4096"},
		{"array", KindState, "[]", `begins with '['; wanted a JSON object`},
		{"text", KindState, "hello", "not one valid JSON value"},
		{"truncated", KindState, state, "not one valid JSON value"},
		{"trailing", KindState, state + "} {}", "not one valid JSON value"},
		{"twice", KindState, state + `,"epoch":2}`, `key "epoch" appears twice`},
		{"twice, escaped", KindState, state + `,"\u0065poch":2}`, `key "epoch" appears twice`},
		{"twice, within", KindBirth, `{"labels":{"a":"1","a":"2"}}`, `key "a" appears twice`},
		{"deep", KindState, deep, "nested deeper than 8 levels"},
		{"many keys", KindState, many + "}", "more than 256 keys"},
		{"not UTF-8", KindState, state + ",\"reason\":\"\xff\"}", "not valid UTF-8"},
		{"type", KindState, `{"epoch":"1"}`, "cannot unmarshal string"},
		{"validation", KindState, `{"state":"happy","epoch":1}`, `state "happy": wanted online`},
		{"epoch", KindState, `{"state":"online"}`, "epoch is 0"},
		{"unknown in request", KindRequest, `{"verb":"ping","deadline":"1s","dead_line":1}`, `unknown field "dead_line"`},
		{"deadline", KindRequest, `{"verb":"ping","deadline":"soon"}`, `deadline "soon": wanted a duration`},
		{"row", KindTele, `{"epoch":1,"seq":1,"t0":1,"series":["a"],"rows":[[0.5,1]]}`, "wanted whole milliseconds"},
		{"row length", KindTele, `{"epoch":1,"seq":1,"t0":1,"series":["a"],"rows":[[0,1,2]]}`, "rows[0] has 2 values; wanted 1"},
		{"no rows", KindTele, `{"epoch":1,"seq":1,"t0":1,"series":["a"],"rows":[]}`, "batch has 0 rows"},
		{"cbor trailing", KindState, cborOf(map[string]any{"state": "online"}) + "\x00", "extraneous data"},
		{"cbor truncated", KindState, "\xa1\x65state", "unexpected EOF"},
		{"cbor twice", KindState, "\xa2\x65epoch\x01\x65epoch\x02", "duplicate map key"},
		{"cbor deep", KindState, strings.Repeat("\xa1\x61a", 9) + "\x01", "nested level"},
		{"cbor not UTF-8", KindState, "\xa1\x66reason\x61\xff", "UTF-8"},
		{"cbor indefinite", KindState, "\xbf\x65epoch\x01\xff", "indefinite"},
		{"cbor tag", KindState, "\xa1\x65epoch\xc1\x01", "tag"},
		{"cbor unknown in request", KindRequest, cborOf(map[string]any{"verb": "ping", "deadline": "1s", "x": 1}), `unknown field "x"`},
		{"cbor offset", KindTele, cborOf(map[string]any{"rows": []any{[]any{nil, 1}}}), "rows[0]: row has no offset"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Message = &api.State{}
			if e, ok := EntryOf(c.kind); ok {
				m = reflect.New(reflect.TypeOf(e.Message)).Interface().(Message)
			}
			err := codec.Decode(c.kind, []byte(c.data), m)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; wanted an error that says %q", err, c.want)
			}
		})
	}
}

func TestDecodeIgnoresFieldsOfALaterVersion(t *testing.T) {
	codec := testCodec(t)
	later := map[string]any{"state": "online", "epoch": 1, "mood": map[string]any{"good": true}}
	for _, enc := range []Encoding{JSON, CBOR} {
		data, err := codec.Encode(enc, later)
		if err != nil {
			t.Fatal(err)
		}
		var s api.State
		if err := codec.Decode(KindState, data, &s); err != nil || s.State != api.StateOnline {
			t.Errorf("encoding %d: %+v, %v", enc, s, err)
		}
	}
}

func TestEncodingIsTheSameEveryTime(t *testing.T) {
	codec := testCodec(t)
	labels := make(map[string]string)
	for i := range 60 {
		labels[fmt.Sprintf("k%d<&>", i)] = "v"
	}
	b := sample(KindBirth).(*api.Birth)
	b.Labels = labels
	for _, enc := range []Encoding{JSON, CBOR} {
		once, err := codec.Encode(enc, b)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if again, err := codec.Encode(enc, b); err != nil || !bytes.Equal(once, again) {
				t.Fatalf("encoding %d differs from one time to the next (%v)", enc, err)
			}
		}
		var got api.Birth
		if err := codec.Decode(KindBirth, once, &got); err != nil || !reflect.DeepEqual(&got, b) {
			t.Errorf("encoding %d: %v", enc, err)
		}
	}
}

func TestParseEncoding(t *testing.T) {
	for text, want := range map[string]Encoding{"json": JSON, "cbor": CBOR} {
		if got, err := ParseEncoding(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	if _, err := ParseEncoding("xml"); err == nil || !strings.Contains(err.Error(), `encoding "xml": wanted json or cbor`) {
		t.Errorf("xml: %v", err)
	}
}

func TestAFullFrameFitsItsMessage(t *testing.T) {
	codec := testCodec(t)
	f := &api.Frame{Seq: 1 << 62, Kind: api.FrameData, Channel: 15, Data: bytes.Repeat([]byte{0xff}, api.MaxFrameData)}
	data, err := codec.Encode(CBOR, f) // the encoding of frames: base64 would not fit
	if err != nil {
		t.Fatal(err)
	}
	if err := codec.Decode(KindStreamUp, data, &api.Frame{}); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeJSON(f *testing.F) { fuzzDecode(f, JSON) }
func FuzzDecodeCBOR(f *testing.F) { fuzzDecode(f, CBOR) }

// fuzzDecode holds that what decodes is encoded to something that decodes to the same.
func fuzzDecode(f *testing.F, enc Encoding) {
	codec := testCodec(f)
	for _, e := range Contract() {
		data, err := codec.Encode(enc, sample(e.Kind))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(e.Kind), data)
	}
	f.Add(uint8(KindState), []byte(`{"state":"online","epoch":1,"\u0065poch":2}`))
	f.Add(uint8(KindCmd), []byte("\xa1\x64args\xa1\x61a\xf9\x7e\x00"))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		e, ok := EntryOf(Kind(kind))
		if !ok || enc == JSON && len(data) > 0 && data[0]>>5 == 5 {
			return
		}
		first := reflect.New(reflect.TypeOf(e.Message)).Interface().(Message)
		if codec.Decode(e.Kind, data, first) != nil {
			return
		}
		again, err := codec.Encode(enc, first)
		if err != nil {
			return // a CBOR NaN in free-form arguments has no JSON form
		}
		if len(again) > e.MaxBytes { // escapes and base64 may lengthen it
			return
		}
		second := zero(first)
		if err := codec.Decode(e.Kind, again, second); err != nil {
			t.Fatalf("%s: %q decodes, but encoded again as %q: %v", e.Name, data, again, err)
		}
		third, err := codec.Encode(enc, second)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s: %q became %q (%v)", e.Name, again, third, err)
		}
	})
}
