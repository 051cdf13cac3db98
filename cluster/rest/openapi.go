package rest

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skerry-edge/skerry/api"
)

const problemType = "application/problem+json"

// describeErrors has the OpenAPI document tell the errors as they are: the framework would describe its own, which
// explain replaces, and says nothing of those of the routes that are described by hand.
func (s *Server) describeErrors() {
	doc := s.api.OpenAPI()
	ref := doc.Components.Schemas.Schema(reflect.TypeFor[api.Problem](), true, "Problem")
	all := doc.Components.Schemas.Map()
	all["Problem"].Required = []string{"status", "title", "code", "cure"} // whole sees to it
	delete(all, "ErrorModel")
	delete(all, "ErrorDetail")
	content := map[string]*huma.MediaType{problemType: {Schema: ref}}
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			if op.Responses == nil {
				op.Responses = map[string]*huma.Response{}
			}
			for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
				if key := strconv.Itoa(status); op.Responses[key] == nil {
					op.Responses[key] = &huma.Response{Description: http.StatusText(status)}
				}
			}
			op.Responses["default"] = &huma.Response{Description: "Any other error: code tells programs which, cure tells people what to do"}
			for status, r := range op.Responses {
				if status == "default" || status >= "400" {
					r.Content = content
				}
			}
		}
	}
}
