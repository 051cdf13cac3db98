package crd

import (
	"testing"

	"github.com/skerry-edge/skerry/install/kube"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/yaml"
)

// readCRDs returns what install/kube embeds, by kind.
func readCRDs(t testing.TB) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := kube.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, f := range files {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(f.YAML, crd); err != nil {
			t.Fatalf("%s: %v", f.File, err)
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinition(crd)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
		out[crd.Spec.Names.Kind] = crd
	}
	return out
}

// server does to objects of one kind what an API server does: it prunes, sets defaults, resets what the caller may not
// set, and validates. Nothing but storage and the checks of metadata are missing.
type server struct {
	kind       runtimeschema.GroupVersionKind
	structural *schema.Structural
	create     interface {
		rest.RESTCreateStrategy
		rest.RESTUpdateStrategy
	}
	status rest.RESTUpdateStrategy
}

// newServer serves kind by its schema, with a status subresource where the schema has a status.
func newServer(t testing.TB, kind runtimeschema.GroupVersionKind, v1schema *apiextensionsv1.JSONSchemaProps) *server {
	t.Helper()
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1schema, internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(internal)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(internal)
	if err != nil {
		t.Fatal(err)
	}
	var subresource *apiextensions.CustomResourceSubresourceStatus
	var statusValidator validation.SchemaValidator
	if status, has := internal.Properties["status"]; has {
		subresource = &apiextensions.CustomResourceSubresourceStatus{}
		if statusValidator, _, err = validation.NewSchemaValidator(&status); err != nil {
			t.Fatal(err)
		}
	}
	strategy := customresource.NewStrategy(nil, true, kind, validator, statusValidator, structural, subresource, nil, nil)
	return &server{kind: kind, structural: structural, create: strategy, status: customresource.NewStatusStrategy(strategy)}
}

// servers returns one for each kind that install/kube holds.
func servers(t testing.TB) map[string]*server {
	t.Helper()
	out := map[string]*server{}
	for kind, crd := range readCRDs(t) {
		version := crd.Spec.Versions[0]
		gvk := runtimeschema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: kind}
		out[kind] = newServer(t, gvk, version.Schema.OpenAPIV3Schema)
	}
	return out
}

// decode reads an object as the API server does and returns what it keeps, with the paths that it drops.
func (s *server) decode(t testing.TB, raw []byte) (*unstructured.Unstructured, []string) {
	t.Helper()
	content := map[string]any{}
	if err := json.Unmarshal(raw, &content); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	content["apiVersion"], content["kind"] = s.kind.GroupVersion().String(), s.kind.Kind
	if content["metadata"] == nil {
		content["metadata"] = map[string]any{"name": "sample", "namespace": "mlsysops"}
	}
	pruned := pruning.PruneWithOptions(content, s.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(content, s.structural)
	defaulting.Default(content, s.structural)
	return &unstructured.Unstructured{Object: content}, pruned
}

// created is a POST.
func (s *server) created(t testing.TB, raw []byte) (*unstructured.Unstructured, []string, field.ErrorList) {
	t.Helper()
	obj, pruned := s.decode(t, raw)
	s.create.PrepareForCreate(t.Context(), obj)
	obj.SetResourceVersion("1") // the storage's part
	return obj, pruned, s.create.Validate(t.Context(), obj)
}

// updated is a PUT to the object.
func (s *server) updated(t testing.TB, old *unstructured.Unstructured, raw []byte) (*unstructured.Unstructured, field.ErrorList) {
	t.Helper()
	obj, _ := s.decode(t, raw)
	obj.SetResourceVersion(old.GetResourceVersion())
	obj.SetGeneration(old.GetGeneration())
	s.create.PrepareForUpdate(t.Context(), obj, old)
	return obj, s.create.ValidateUpdate(t.Context(), obj, old)
}

// reported is a PUT to the object's status.
func (s *server) reported(t testing.TB, old *unstructured.Unstructured, status string) (*unstructured.Unstructured, field.ErrorList) {
	t.Helper()
	content := old.DeepCopy()
	delete(content.Object, "status")
	if status != "" {
		value := map[string]any{}
		if err := json.Unmarshal([]byte(status), &value); err != nil {
			t.Fatalf("%s: %v", status, err)
		}
		content.Object["status"] = value
	}
	raw, err := json.Marshal(content.Object)
	if err != nil {
		t.Fatal(err)
	}
	obj, _ := s.decode(t, raw)
	s.status.PrepareForUpdate(t.Context(), obj, old)
	return obj, s.status.ValidateUpdate(t.Context(), obj, old)
}
