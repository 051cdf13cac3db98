package crd

import (
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/runtime"
)

// TestTheAPIServerTakesEveryCRD holds that the schemas are structural and that their rules compile within the API server's
// limits of cost.
func TestTheAPIServerTakesEveryCRD(t *testing.T) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	check := func(crd *apiextensionsv1.CustomResourceDefinition) []string {
		internal := &apiextensions.CustomResourceDefinition{}
		if err := scheme.Convert(crd, internal, nil); err != nil {
			t.Fatal(err)
		}
		internal.Status.StoredVersions = []string{internal.Spec.Versions[0].Name}
		var out []string
		for _, err := range validation.ValidateCustomResourceDefinition(t.Context(), internal) {
			out = append(out, err.Error())
		}
		return out
	}
	for kind, crd := range readCRDs(t) {
		for _, err := range check(crd) {
			t.Errorf("%s: %s", kind, err)
		}
		root := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		hold := root.Properties["status"]
		root.Properties["status"] = apiextensionsv1.JSONSchemaProps{Description: "has no type"}
		if len(check(crd)) == 0 {
			t.Errorf("%s: a schema that is not structural is taken; the check is broken", kind)
		}
		root.Properties["status"] = hold
	}
}

func TestNamesAreThoseOfTheFramework(t *testing.T) {
	want := map[string][4]string{ // CRD, plural, singular, short
		"MLSysOpsApp":        {"mlsysopsapps.mlsysops.eu", "mlsysopsapps", "mlsysopsapp", "mlsapp"},
		"MLSysOpsNode":       {"mlsysopsnodes.mlsysops.eu", "mlsysopsnodes", "mlsysopsnode", "mlsnode"},
		"MLSysOpsCluster":    {"mlsysopsclusters.mlsysops.eu", "mlsysopsclusters", "mlsysopscluster", "mlscluster"},
		"MLSysOpsContinuum":  {"mlsysopscontinuums.mlsysops.eu", "mlsysopscontinuums", "mlsysopscontinuum", "mlscontinuum"},
		"MLSysOpsDatacenter": {"mlsysopsdatacenters.mlsysops.eu", "mlsysopsdatacenters", "mlsysopsdatacenter", "mlsdatacenter"},
		"NodeCommand":        {"nodecommands.edge.mlsysops.eu", "nodecommands", "nodecommand", "ncmd"},
		"Rollout":            {"rollouts.edge.mlsysops.eu", "rollouts", "rollout", "nro"},
	}
	crds := readCRDs(t)
	if len(crds) != len(want) {
		t.Errorf("%d CRDs; wanted %d", len(crds), len(want))
	}
	for kind, names := range want {
		crd := crds[kind]
		if crd == nil {
			t.Errorf("%s: no CRD", kind)
			continue
		}
		short := ""
		if len(crd.Spec.Names.ShortNames) == 1 {
			short = crd.Spec.Names.ShortNames[0]
		}
		if got := [4]string{crd.Name, crd.Spec.Names.Plural, crd.Spec.Names.Singular, short}; got != names {
			t.Errorf("%s: %v; wanted %v", kind, got, names)
		}
		v := crd.Spec.Versions[0]
		if crd.Spec.Scope != apiextensionsv1.NamespaceScoped || len(crd.Spec.Versions) != 1 || !v.Served || !v.Storage {
			t.Errorf("%s: wanted namespaced, with one version, served and stored", kind)
		}
		if v.Subresources == nil || v.Subresources.Status == nil || v.Schema.OpenAPIV3Schema.Properties["status"].Properties["conditions"].Type != "array" {
			t.Errorf("%s: wanted a status subresource with conditions", kind)
		}
	}
}
