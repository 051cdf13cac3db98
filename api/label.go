package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The limits of a label, those of Kubernetes: labels of nodes become labels of its Nodes.
const (
	maxLabelName   = 63
	maxLabelPrefix = 253
	maxLabelKey    = maxLabelPrefix + 1 + maxLabelName
	maxLabelValue  = 63
)

// ValidLabel reports why key and value cannot be a label as Kubernetes has them: a name of at most 63 letters, digits, '-',
// '_' and '.', first and last a letter or digit, after an optional DNS name and a slash; and a value of the same form that
// may be empty. field names the labels in the error.
func ValidLabel(field, key, value string) error {
	prefix, name, prefixed := strings.Cut(key, "/")
	if !prefixed {
		prefix, name = "", key
	}
	if !labelText(name) || prefixed && !dnsName(prefix) {
		return fmt.Errorf("%s: key %.80q; wanted a name of 1 to %d letters, digits, '-', '_' and '.', first and last a letter or digit, "+
			"after an optional DNS name and '/'", field, key, maxLabelName)
	}
	if value != "" && !labelText(value) {
		return fmt.Errorf("%s[%s]: value %.80q; wanted at most %d letters, digits, '-', '_' and '.', first and last a letter or digit",
			field, key, value, maxLabelValue)
	}
	return nil
}

// GoodLabels returns those of labels that are, and the faults of the others. labels is not changed.
func GoodLabels(field string, labels map[string]string) (good map[string]string, faults error) {
	var errs []error
	good = maps.Clone(labels)
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if err := ValidLabel(field, k, labels[k]); err != nil {
			errs = append(errs, err)
			delete(good, k)
		}
	}
	return good, errors.Join(errs...)
}

// kubeletLabels are the names under kubernetes.io that Kubernetes lets a node give to itself (its admission plugin NodeRestriction).
var kubeletLabels = []string{"kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os", "beta.kubernetes.io/arch", "beta.kubernetes.io/os",
	"beta.kubernetes.io/instance-type", "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
	"topology.kubernetes.io/region", "topology.kubernetes.io/zone"}

// OwnLabel reports whether a device may give itself a label. Workloads with their secrets are steered by the labels of Kubernetes and by ours, so
// those are for people, tokens and the cluster agent, as they are not for a kubelet.
func OwnLabel(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	within := func(zones ...string) bool {
		return slices.ContainsFunc(zones, func(z string) bool { return domain == z || strings.HasSuffix(domain, "."+z) })
	}
	switch {
	case !strings.Contains(key, "/"):
		return true
	case within("mlsysops.eu"):
		return key == "mlsysops.eu/layer"
	case within("kubernetes.io", "k8s.io"):
		return within("kubelet.kubernetes.io", "node.kubernetes.io") || slices.Contains(kubeletLabels, key)
	}
	return true
}

// OwnLabels is GoodLabels of what a device says of itself.
func OwnLabels(field string, labels map[string]string) (good map[string]string, faults error) {
	good, faults = GoodLabels(field, labels)
	errs := []error{faults}
	for _, k := range slices.Sorted(maps.Keys(good)) {
		if !OwnLabel(k) {
			errs = append(errs, fmt.Errorf("%s: key %.80q; a device may not give itself that, but a person (skerry label) and a token may", field, k))
			delete(good, k)
		}
	}
	return good, errors.Join(errs...)
}

func labelText(s string) bool {
	if s == "" || len(s) > maxLabelName || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return true
}

// ValidDNSName reports whether s can be the name of most objects in Kubernetes: a DNS subdomain as of RFC 1123.
func ValidDNSName(s string) bool { return dnsName(s) }

// ValidDNSLabel reports whether s can be the name of a namespace: a DNS label as of RFC 1123.
func ValidDNSLabel(s string) bool {
	return len(s) <= maxLabelName && dnsName(s) && !strings.Contains(s, ".")
}

// dnsName is a DNS subdomain as of RFC 1123, in lower case.
func dnsName(s string) bool {
	if s == "" || len(s) > maxLabelPrefix || s != strings.ToLower(s) {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || !alnum(part[0]) || !alnum(part[len(part)-1]) {
			return false
		}
		for i := range len(part) {
			if !alnum(part[i]) && part[i] != '-' {
				return false
			}
		}
	}
	return true
}

func alnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
