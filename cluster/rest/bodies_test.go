package rest

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skerry-edge/skerry/api"
)

func TestABadBodyIsToldFieldValueAndWhatWasWanted(t *testing.T) {
	th := open(t, &stage{})
	const kind = "application/json"
	deep := strings.Repeat(`{"a":`, 12) + "1" + strings.Repeat("}", 12)
	for name, c := range map[string]struct {
		body, kind string
		status     int
		code       string
		says       []string
		value      any
	}{
		"unknown field":       {`{"nodes":["n1"],"verb":"ping","deadline":"1s","dedline":"2s"}`, kind, 422, codeRequest, []string{"body.dedline", "unexpected"}, nil},
		"name in capitals":    {`{"nodes":["n1"],"Verb":"ping","deadline":"1s"}`, kind, 422, codeRequest, []string{"body.Verb", "unexpected"}, nil},
		"a name in two cases": {`{"nodes":["n1"],"verb":"ping","VERB":"reboot","deadline":"1s"}`, kind, 422, codeRequest, []string{"body.VERB", "unexpected"}, nil},
		"wrong type":          {`{"nodes":["n1"],"verb":7,"deadline":"1s"}`, kind, 422, codeRequest, []string{"body.verb", "string"}, float64(7)},
		"wrong type inside":   {`{"nodes":["n1",true],"verb":"ping","deadline":"1s"}`, kind, 422, codeRequest, []string{"body.nodes[1]", "string"}, true},
		"missing":             {`{"nodes":["n1"],"deadline":"1s"}`, kind, 422, codeRequest, []string{"verb", "required"}, nil},
		"nothing":             {"", kind, 400, codeRequest, []string{"body"}, nil},
		"null":                {"null", kind, 400, codeRequest, []string{"body", "object"}, nil},
		"a list":              {"[]", kind, 400, codeRequest, []string{"body", "object"}, nil},
		"no JSON":             {`{"nodes":`, kind, 400, codeRequest, []string{"body", "JSON"}, nil},
		"two":                 {`{} {}`, kind, 400, codeRequest, []string{"body", "JSON"}, nil},
		"a key twice":         {`{"verb":"ping","verb":"reboot"}`, kind, 400, codeRequest, []string{"verb", "twice"}, nil},
		"no UTF-8":            {"{\"verb\":\"\xff\"}", kind, 400, codeRequest, []string{"UTF-8"}, nil},
		"too deep":            {`{"nodes":["n1"],"verb":"ping","deadline":"1s","args":` + deep + "}", kind, 400, codeRequest, []string{"8 levels"}, nil},
		"too large":           {`{"verb":"` + strings.Repeat("x", maxBodyBytes) + `"}`, kind, 413, codeTooLarge, []string{"1048576"}, nil},
		"another media type":  {"verb: ping", "application/yaml", 415, codeMedia, []string{"application/json"}, nil},
		"a form":              {"verb=ping", "application/x-www-form-urlencoded", 415, codeMedia, []string{"application/json"}, nil},
	} {
		p := th.refused(t, request{"POST", "/v1/commands", c.body, c.kind, api.RoleOperator})
		text := p.Error()
		if p.Status != c.status || p.Code != c.code {
			t.Errorf("%s: %d %s %s; wanted %d %s", name, p.Status, p.Code, text, c.status, c.code)
		}
		for _, want := range c.says {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %.300q does not say %q", name, text, want)
			}
		}
		if c.value != nil && (len(p.Errors) == 0 || p.Errors[0].Value != c.value) {
			t.Errorf("%s: %+v; wanted the value %v", name, p.Errors, c.value)
		}
		if len(text) > 1000 {
			t.Errorf("%s: %d bytes of a refusal", name, len(text))
		}
		if e := th.entry(t); e.Action != "command.create" || e.By != "the-operator" || e.Result != text[:min(len(text), len(e.Result))] {
			t.Errorf("%s: audit entry %+v", name, e)
		}
	}
}

func TestGoodBodiesPass(t *testing.T) {
	seven := strings.Repeat(`{"a":`, 7) + "1" + strings.Repeat("}", 7)
	var got api.CommandRequest
	th := open(t, &stage{orderer: func(req api.CommandRequest) ([]api.CommandRecord, error) {
		got = req
		return []api.CommandRecord{{ID: "c1"}}, nil
	}})
	for _, body := range []string{`{"nodes":["n1"],"verb":"ping","deadline":"1s"}`, `{"selector":"a=b","verb":"ping","deadline":"1s","args":` + seven + "}"} {
		for _, kind := range []string{"application/json", "application/json; charset=utf-8", ""} {
			resp, text := th.do(t, request{"POST", "/v1/commands", body, kind, api.RoleOperator})
			if resp.StatusCode != http.StatusOK || !strings.Contains(text, `"c1"`) || got.Verb != "ping" {
				t.Errorf("%q as %q: %d %s", body, kind, resp.StatusCode, text)
			}
			if e := th.entry(t); e.Result != "ok" {
				t.Errorf("audit %+v", e)
			}
		}
	}
}

func TestParametersAreChecked(t *testing.T) {
	th := open(t, &stage{})
	for path, says := range map[string]string{
		"/v1/commands?limit=0":                            "query.limit",
		"/v1/commands?limit=10001":                        "query.limit",
		"/v1/commands?limit=ten":                          `"ten"`,
		"/v1/commands?open=maybe":                         "query.open",
		"/v1/commands?node=" + strings.Repeat("x", 64):    "query.node",
		"/v1/events?limit=10001":                          "query.limit",
		"/v1/audit?limit=-1":                              "query.limit",
		"/v1/nodes?selector=" + strings.Repeat("x", 1025): "query.selector",
		"/v1/nodes/" + strings.Repeat("x", 129):           "path.id",
		"/v1/nodes/n1/logs?lines=many":                    "query.lines",
		"/v1/watch?kind=moon":                             `query.kind "moon": wanted node, command or event`,
	} {
		if p := th.refused(t, request{"GET", path, "", "", api.RoleAdmin}); p.Status != 422 && p.Status != 400 || !strings.Contains(p.Error(), says) {
			t.Errorf("%.60s: %d %s; wanted %q", path, p.Status, p.Error(), says)
		}
	}
}

func TestARefusalQuotesLittleOfTheRequest(t *testing.T) {
	th := open(t, &stage{orderer: func(req api.CommandRequest) ([]api.CommandRecord, error) {
		return nil, &api.Problem{Status: 400, Detail: "no", Errors: []api.ProblemError{{Message: req.Verb, Location: req.Verb, Value: req.Verb}}}
	}})
	long := strings.Repeat("x", 40_000)
	for name, body := range map[string]string{
		"value":         `{"nodes":["n1"],"verb":["` + long + `"],"deadline":"1s"}`,
		"unknown field": `{"nodes":["n1"],"verb":"ping","deadline":"1s","` + long + `":1}`,
		"a key twice":   `{"` + long + `":1,"` + long + `":2}`,
		"no JSON":       `{"nodes":["n1"],"verb":"` + long,
		"text":          `"` + long + `"`,
		"its own words": `{"nodes":["n1"],"verb":"` + long + `","deadline":"1s"}`,
		"object":        `{"nodes":[{"a":"` + long + `"}],"verb":"ping","deadline":"1s"}`,
	} {
		resp, text := th.do(t, request{"POST", "/v1/commands", body, "application/json", api.RoleOperator})
		if resp.StatusCode < 400 || strings.Contains(text, long[:201]) || len(text) > 2000 {
			t.Errorf("%s: %d, %d bytes: %.600s", name, resp.StatusCode, len(text), text)
		}
	}
	for _, path := range []string{"/" + long[:8000], "/v1/nodes/" + long[:8000], "/v1/commands?limit=" + long[:8000], "/v1/watch?kind=" + long[:8000]} {
		if p := th.refused(t, request{"GET", path, "", "", api.RoleAdmin}); strings.Contains(p.Error(), long[:201]) {
			t.Errorf("%.40s: %.600s", path, p.Error())
		}
	}
}

func TestTheDocumentTellsErrorsAsTheyAre(t *testing.T) {
	th := open(t, &stage{})
	raw, err := th.server.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	if strings.Contains(text, "ErrorModel") || strings.Contains(text, "ErrorDetail") {
		t.Error("the document has the framework's errors; wanted ours")
	}
	for path, item := range th.server.api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			for _, status := range []string{"401", "403", "default"} {
				r := op.Responses[status]
				if r == nil || r.Content[problemType] == nil || r.Content[problemType].Schema.Ref != "#/components/schemas/Problem" {
					t.Errorf("%s %s: %s is not a Problem", op.Method, path, status)
				}
			}
		}
	}
	if required := th.server.api.OpenAPI().Components.Schemas.Map()["Problem"].Required; !slices.Contains(required, "code") || !slices.Contains(required, "cure") {
		t.Errorf("a problem requires %v; wanted code and cure", required)
	}
}

func TestATokenNeedsNoWordOnApproval(t *testing.T) {
	th := open(t, &stage{})
	if _, text := th.do(t, request{"POST", "/v1/tokens", `{"ttl":"1h","maxUses":1}`, "application/json", api.RoleAdmin}); !strings.Contains(text, "stage") {
		t.Errorf("%s; wanted it to get as far as the site", text)
	}
}

func TestAnOrderThatIsWatchedHasItsMembersByTheirExactNames(t *testing.T) {
	for body, want := range map[string]string{
		`{"verb":"ping","deadline":"1s","args":{"Verb":"x"}}`: "",
		`{"Verb":"ping","deadline":"1s"}`:                     `"Verb" is not a member; wanted args, deadline, id, nodes, selector, verb`,
		`{"verb":"ping","deadline":"1s","dedline":"2s"}`:      `"dedline" is not a member`,
		`{"verb":"ping","verb":"reboot","deadline":"1s"}`:     `"verb" appears twice`,
		`{"verb":"ping","deadline":"1s"} {"verb":"reboot"}`:   "not one valid JSON value",
		`{"verb":7,"deadline":"1s"}`:                          "verb",
		`{"verb":"ping","deadline":"1s","nodes":["n2"]}`:      "the path names the node",
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.SetPathValue("id", "n1")
		req, err := readOrder(httptest.NewRecorder(), r)
		if want == "" && (err != nil || req.Verb != "ping" || !slices.Equal(req.Nodes, []string{"n1"})) {
			t.Errorf("%s: %+v, %v", body, req, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; wanted %q", body, err, want)
		}
	}
}
