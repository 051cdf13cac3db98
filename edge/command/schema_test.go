package command

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func TestTheCheckNamesPathValueAndWanted(t *testing.T) {
	schema := api.Schema{Type: "object", AdditionalProperties: new(false), Required: []string{"name"}, Properties: map[string]api.Schema{
		"name": {Type: "string", MaxLength: 4, Pattern: "^[a-z]+$"},
		"mode": {Type: "string", Enum: []string{"fast", "slow"}},
		"n":    {Type: "integer", Minimum: new(1.0), Maximum: new(5.0)},
		"x":    {Type: "number"},
		"on":   {Type: "boolean"},
		"list": {Type: "array", Items: &api.Schema{Type: "array", Items: &api.Schema{Type: "integer"}}},
		"open": {Type: "object", Properties: map[string]api.Schema{"a": {Type: "string"}}},
		"any":  {},
	}}
	for args, wanted := range map[string]string{
		`{"name":"ab"}`: "",
		`{"name":"ab","mode":"fast","n":5,"x":1.5,"on":true,"list":[[1],[2,3]],"open":{"b":1},"any":null}`: "",
		`{}`:                              "args.name is missing",
		`{"name":null}`:                   "args.name is null; wanted string",
		`{"name":"abcde"}`:                "args.name has 5 characters; wanted at most 4",
		`{"name":"éééé"}`:                 "args.name is \"éééé\"; wanted to match ^[a-z]+$",
		`{"name":"a","mode":"x"}`:         `args.mode is "x"; wanted one of fast, slow`,
		`{"name":"a","n":0}`:              "args.n is 0; wanted at least 1",
		`{"name":"a","n":6}`:              "args.n is 6; wanted at most 5",
		`{"name":"a","n":99999999}`:       "args.n is 99999999; wanted at most 5",
		`{"name":"a","n":1.5}`:            "args.n is 1.5; wanted integer",
		`{"name":"a","n":1e300}`:          "args.n is 1e+300; wanted integer",
		`{"name":"a","n":"1"}`:            `args.n is "1"; wanted integer`,
		`{"name":"a","x":"1"}`:            `args.x is "1"; wanted number`,
		`{"name":"a","on":"true"}`:        `args.on is "true"; wanted boolean`,
		`{"name":"a","list":{}}`:          "args.list is an object; wanted array",
		`{"name":"a","list":[[1],["x"]]}`: `args.list[1][0] is "x"; wanted integer`,
		`{"name":"a","open":{"a":[]}}`:    "args.open.a is an array; wanted string",
		`{"name":"a","more":1}`:           "args.more is unknown; wanted any, list, mode, n, name, on, open, x",
	} {
		var doc map[string]any
		if err := json.Unmarshal([]byte(args), &doc); err != nil {
			t.Fatal(err)
		}
		err := Check(schema, doc)
		if wanted == "" && err != nil || wanted != "" && (err == nil || err.Error() != wanted) {
			t.Errorf("%s: %v; wanted %q", args, err, wanted)
		}
	}
	many := map[string]any{}
	for _, name := range strings.Split("abcdefghijklmnop", "") {
		many[name] = 1
	}
	if err := Check(schema, many); err == nil || strings.Count(err.Error(), "\n") != maxFaults-1 {
		t.Errorf("wanted %d faults: %v", maxFaults, err)
	}
	if err := Check(api.Schema{Type: "object", Properties: map[string]api.Schema{"n": {Type: "integer"}}}, map[string]any{"n": uint64(7)}); err != nil {
		t.Errorf("a number as CBOR decodes it: %v", err)
	}
}

func TestASchemaWithFaultsIsNotTaken(t *testing.T) {
	for name, s := range map[string]api.Schema{
		"type":     {Type: "text"},
		"pattern":  {Type: "string", Pattern: "("},
		"nested":   {Type: "array", Items: &api.Schema{Type: "object", Properties: map[string]api.Schema{"a": {Type: "x"}}}},
		"required": {Type: "object", Required: []string{"a"}},
	} {
		if err := Check(s, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzCheckAgreesWithDecode(f *testing.F) {
	f.Add(`{"type":"object","additionalProperties":false,"properties":{"n":{"type":"integer"}}}`, `{"n":1}`)
	f.Add(`{"type":"object","required":["a"],"properties":{"a":{"type":"array","items":{"type":"string","pattern":"^a"}}}}`, `{"a":["b"]}`)
	f.Add(`{"type":"object","properties":{"a":{"enum":["x"],"maxLength":1},"b":{"minimum":1,"maximum":0}}}`, `{"a":"xy","b":1e999}`)
	closed := api.Schema{Type: "object", AdditionalProperties: new(false), Properties: map[string]api.Schema{
		"n": {Type: "integer"}, "s": {Type: "string"}, "l": {Type: "array", Items: &api.Schema{Type: "string"}}, "b": {Type: "boolean"}}}
	type fields struct {
		N int64    `json:"n"`
		S string   `json:"s"`
		L []string `json:"l"`
		B bool     `json:"b"`
	}
	f.Fuzz(func(t *testing.T, schema, args string) {
		var doc map[string]any
		if json.Unmarshal([]byte(args), &doc) != nil {
			return
		}
		if Check(closed, doc) == nil {
			if _, err := Decode[fields](doc); err != nil {
				t.Fatalf("%s passes the check and does not decode: %v", args, err)
			}
		}
		var s api.Schema
		if json.Unmarshal([]byte(schema), &s) == nil {
			_ = Check(s, doc) // must end, whatever the schema
		}
	})
}

func TestNoArgumentsAreReadWithoutGarbage(t *testing.T) {
	type fields struct {
		N int64 `json:"n"`
	}
	for name, args := range map[string]map[string]any{"absent": nil, "empty": {}} {
		n := testing.AllocsPerRun(100, func() {
			if out, err := Decode[fields](args); err != nil || out != (fields{}) {
				t.Fatalf("%s: %+v, %v; wanted nothing", name, out, err)
			}
		})
		if n != 0 {
			t.Errorf("%s: allocates %v times; wanted none", name, n)
		}
	}
}
