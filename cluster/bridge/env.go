package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-edge/skerry/api"
)

// variable is one of an environment; sealed when it came from a Secret or ConfigMap, or contains one that did.
type variable struct {
	api.EnvVar
	sealed bool
}

// env resolves the environment of a container as a kubelet does: envFrom first, then env in order, $(NAME) by what came before.
// Variables that are sealed win over those that are not, so from the first sealed one of a name on that name is sealed.
func (t *translation) env(c *corev1.Container, out *api.Container) {
	var vars []variable
	put := func(v variable) {
		vars = slices.DeleteFunc(vars, func(have variable) bool { return have.Name == v.Name })
		vars = append(vars, v)
	}
	where := "container " + c.Name
	for _, from := range c.EnvFrom {
		for _, v := range t.envFrom(where, from) {
			put(v)
		}
	}
	for _, e := range c.Env {
		if v, ok := t.one(where, c, e, vars); ok {
			put(v)
		}
	}
	for _, v := range vars {
		if !v.sealed {
			// The node expands once more, for what it alone can know: to it every dollar here is one that is meant.
			v.Value = strings.ReplaceAll(v.Value, "$", "$$")
			out.Env = append(out.Env, v.EnvVar)
			continue
		}
		if t.out.Secrets.Env == nil {
			t.out.Secrets.Env = map[string][]api.EnvVar{}
		}
		t.out.Secrets.Env[c.Name] = append(t.out.Secrets.Env[c.Name], v.EnvVar)
	}
}

func (t *translation) envFrom(where string, from corev1.EnvFromSource) []variable {
	values := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		m := t.configMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		if m != nil {
			maps.Copy(values, m.Data)
		}
	case from.SecretRef != nil:
		if s := t.secret(from.SecretRef.Name, from.SecretRef.Optional); s != nil {
			for k, v := range s.Data {
				values[k] = string(v)
			}
		}
	default:
		t.no("%s.envFrom: a source that is not known", where)
	}
	var out []variable
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if strings.ContainsAny(from.Prefix+k, "=\x00") || from.Prefix+k == "" {
			t.otherwise("%s.envFrom: key %.63q cannot be a variable and is left out", where, k)
			continue
		}
		out = append(out, variable{api.EnvVar{Name: from.Prefix + k, Value: values[k]}, true})
	}
	return out
}

// one resolves one entry; ok is false when it is optional and not there, or could not be resolved.
func (t *translation) one(where string, c *corev1.Container, e corev1.EnvVar, before []variable) (variable, bool) {
	v := variable{EnvVar: api.EnvVar{Name: e.Name}}
	from := e.ValueFrom
	if from == nil {
		var known bool
		v.Value, v.sealed, known = expand(e.Value, before)
		// What it refers to may come from an optional source that is not there now. Where it stands in the workload must not change
		// with that: a variable that came out of the seal would be a change of the pod, which a kubelet's containers do not notice.
		v.sealed = v.sealed || !known && hasOptional(c)
		return v, true
	}
	switch {
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		m := t.configMap(r.Name, r.Optional)
		if m == nil {
			return v, false
		}
		value, ok := m.Data[r.Key]
		if !ok {
			t.lacks(fmt.Sprintf("couldn't find key %s in ConfigMap %s/%s", r.Key, t.pod.Namespace, r.Name), r.Optional)
			return v, false
		}
		v.Value, v.sealed = value, true
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		s := t.secret(r.Name, r.Optional)
		if s == nil {
			return v, false
		}
		value, ok := s.Data[r.Key]
		if !ok {
			t.lacks(fmt.Sprintf("couldn't find key %s in Secret %s/%s", r.Key, t.pod.Namespace, r.Name), r.Optional)
			return v, false
		}
		v.Value, v.sealed = string(value), true
	case from.FieldRef != nil:
		value, ok := t.field(from.FieldRef.FieldPath)
		if !ok {
			t.no("%s.env[%s]: field %s", where, e.Name, from.FieldRef.FieldPath)
			return v, false
		}
		v.Value = value
	case from.ResourceFieldRef != nil:
		value, err := t.resource(c, from.ResourceFieldRef)
		if err != nil {
			t.no("%s.env[%s]: %v", where, e.Name, err)
			return v, false
		}
		v.Value = value
	case from.FileKeyRef != nil:
		t.no("%s.env[%s]: fileKeyRef", where, e.Name)
		return v, false
	default:
		t.no("%s.env[%s]: a source that is not known", where, e.Name)
		return v, false
	}
	return v, true
}

// hasOptional reports whether variables of c may come and go with a ConfigMap or Secret.
func hasOptional(c *corev1.Container) bool {
	is := func(o *bool) bool { return o != nil && *o }
	return slices.ContainsFunc(c.EnvFrom, func(f corev1.EnvFromSource) bool {
		return f.ConfigMapRef != nil && is(f.ConfigMapRef.Optional) || f.SecretRef != nil && is(f.SecretRef.Optional)
	}) || slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
		f := e.ValueFrom
		return f != nil && (f.ConfigMapKeyRef != nil && is(f.ConfigMapKeyRef.Optional) || f.SecretKeyRef != nil && is(f.SecretKeyRef.Optional))
	})
}

// expand replaces $(NAME) as Kubernetes does: $$ is a dollar, a name that is not known stays as it is.
func expand(text string, vars []variable) (value string, sealed, known bool) {
	var b strings.Builder
	known = true
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		switch text[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(text[i+2:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := text[i+2 : i+2+end]
			at := slices.IndexFunc(vars, func(v variable) bool { return v.Name == name })
			if at < 0 {
				b.WriteString("$(" + name + ")")
				known = false
			} else {
				b.WriteString(vars[at].Value)
				sealed = sealed || vars[at].sealed
			}
			i += 2 + end
		default:
			b.WriteByte('$')
		}
	}
	return b.String(), sealed, known
}

// field resolves a path of the downward API.
func (t *translation) field(path string) (string, bool) {
	p := t.pod
	if name, key, ok := subscript(path); ok {
		switch name {
		case "metadata.labels":
			return p.Labels[key], true
		case "metadata.annotations":
			return p.Annotations[key], true
		}
		return "", false
	}
	switch path {
	case "metadata.name":
		return p.Name, true
	case "metadata.namespace":
		return p.Namespace, true
	case "metadata.uid":
		return string(p.UID), true
	case "spec.nodeName":
		return t.target.Node, true
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, true
	case "metadata.labels":
		return formatMap(p.Labels), true
	case "metadata.annotations":
		return formatMap(p.Annotations), true
	}
	return "", false // the addresses: a pod on a device has none
}

// subscript takes metadata.labels['key'] apart.
func subscript(path string) (name, key string, ok bool) {
	name, rest, ok := strings.Cut(path, "['")
	if !ok || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return name, strings.TrimSuffix(rest, "']"), true
}

// formatMap writes labels as the downward API does: key="value" lines, sorted.
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", k, m[k]))
	}
	return strings.Join(lines, "\n")
}

// resource resolves limits and requests of c, or of the container that the reference names. A limit that is not set is the node's
// capacity, as with a kubelet.
func (t *translation) resource(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" {
		i := slices.IndexFunc(t.pod.Spec.Containers, func(o corev1.Container) bool { return o.Name == ref.ContainerName })
		if i < 0 {
			return "", fmt.Errorf("resource of container %.63q, which is not there", ref.ContainerName)
		}
		c = &t.pod.Spec.Containers[i]
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	list := c.Resources.Limits
	if kind == "requests" {
		list = c.Resources.Requests
	} else if kind != "limits" {
		return "", fmt.Errorf("resource %.63q", ref.Resource)
	}
	amount, ok := list[corev1.ResourceName(name)]
	if !ok && kind == "limits" {
		amount = t.target.Capacity[corev1.ResourceName(name)]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return fmt.Sprint(ceil(amount.MilliValue(), divisor.MilliValue())), nil
	}
	return fmt.Sprint(ceil(amount.Value(), divisor.Value())), nil
}

func ceil(a, b int64) int64 {
	if b <= 0 {
		return a
	}
	return (a + b - 1) / b
}
