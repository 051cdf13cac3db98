package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-edge/skerry/api"
)

// tokenVolume begins the name of the volume that the API server gives every pod: the service account's token, the CA (of the ConfigMap
// rootCA) and the namespace.
const (
	tokenVolume = "kube-api-access-"
	rootCA      = "kube-root-ca.crt"
)

func (t *translation) volumes() {
	for i := range t.pod.Spec.Volumes {
		t.volume(&t.pod.Spec.Volumes[i])
	}
}

// token reports whether a volume is the API server's: by its name alone it may be somebody else's.
func token(v *corev1.Volume) bool {
	given := false
	for _, s := range v.Projected.Sources {
		given = given || s.ServiceAccountToken != nil
		if s.ServiceAccountToken == nil && s.DownwardAPI == nil && (s.ConfigMap == nil || s.ConfigMap.Name != rootCA) {
			return false
		}
	}
	return given && strings.HasPrefix(v.Name, tokenVolume)
}

func (t *translation) volume(v *corev1.Volume) {
	out := api.Volume{Name: v.Name}
	mode := func(m *int32) uint32 {
		if m != nil {
			return uint32(*m) & 0o777
		}
		return 0o644
	}
	where := "volume " + v.Name
	switch s := v.VolumeSource; {
	case s.EmptyDir != nil:
		e := &api.EmptyVolume{Memory: s.EmptyDir.Medium == corev1.StorageMediumMemory}
		if s.EmptyDir.SizeLimit != nil {
			e.SizeBytes = s.EmptyDir.SizeLimit.Value()
		}
		if m := s.EmptyDir.Medium; m != corev1.StorageMediumDefault && m != corev1.StorageMediumMemory {
			t.no("%s: emptyDir.medium %s", where, m)
		}
		if s.EmptyDir.Mode != nil {
			t.no("%s: emptyDir.mode", where)
		}
		out.Empty = e
	case s.HostPath != nil:
		h := &api.HostVolume{Path: s.HostPath.Path}
		if s.HostPath.Type != nil {
			h.Type = string(*s.HostPath.Type)
		}
		out.Host = h
	case s.ConfigMap != nil:
		t.owner(where, s.ConfigMap.DefaultUser)
		out.Files = &api.FilesVolume{}
		t.files(v.Name, where, []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: s.ConfigMap.LocalObjectReference,
			Items: s.ConfigMap.Items, Optional: s.ConfigMap.Optional}}}, mode(s.ConfigMap.DefaultMode))
	case s.Secret != nil:
		t.owner(where, s.Secret.DefaultUser)
		out.Files = &api.FilesVolume{}
		t.files(v.Name, where, []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: s.Secret.SecretName},
			Items: s.Secret.Items, Optional: s.Secret.Optional}}}, mode(s.Secret.DefaultMode))
	case s.DownwardAPI != nil:
		t.owner(where, s.DownwardAPI.DefaultUser)
		out.Files = &api.FilesVolume{}
		t.files(v.Name, where, []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{Items: s.DownwardAPI.Items}}}, mode(s.DownwardAPI.DefaultMode))
	case s.Projected != nil:
		if token(v) {
			t.left = append(t.left, v.Name)
			t.notice(ConditionToken, "NotDelivered",
				"a device does not reach the API server and Services: the service account's token and the variables of Services (KUBERNETES_SERVICE_HOST) are not given to it")
			return
		}
		out.Files = &api.FilesVolume{}
		t.owner(where, s.Projected.DefaultUser)
		t.files(v.Name, where, s.Projected.Sources, mode(s.Projected.DefaultMode))
	default:
		t.no("%s: a kind that a device cannot have; wanted emptyDir, hostPath, configMap, secret, downwardAPI or projected", where)
		return
	}
	t.out.Volumes = append(t.out.Volumes, out)
}

// files fills a volume from its sources. All of it is sealed: even the names of a Secret's keys are nobody's business.
func (t *translation) files(volume, where string, sources []corev1.VolumeProjection, mode uint32) {
	var out []api.File
	put := func(f api.File) {
		out = slices.DeleteFunc(out, func(have api.File) bool { return have.Path == f.Path }) // a later source wins, as with a kubelet
		out = append(out, f)
	}
	for _, s := range sources {
		switch {
		case s.ConfigMap != nil:
			m := t.configMap(s.ConfigMap.Name, s.ConfigMap.Optional)
			if m == nil {
				continue
			}
			data := maps.Clone(m.BinaryData)
			if data == nil {
				data = map[string][]byte{}
			}
			for k, v := range m.Data {
				data[k] = []byte(v)
			}
			t.items(where, keyed{"ConfigMap " + t.pod.Namespace + "/" + s.ConfigMap.Name, data, s.ConfigMap.Optional}, s.ConfigMap.Items, mode, put)
		case s.Secret != nil:
			if m := t.secret(s.Secret.Name, s.Secret.Optional); m != nil {
				t.items(where, keyed{"Secret " + t.pod.Namespace + "/" + s.Secret.Name, m.Data, s.Secret.Optional}, s.Secret.Items, mode, put)
			}
		case s.DownwardAPI != nil:
			t.downward(where, s.DownwardAPI.Items, mode, put)
		case s.ServiceAccountToken != nil:
			t.no("%s: serviceAccountToken: a device does not reach the API server", where)
		case s.ClusterTrustBundle != nil:
			t.no("%s: clusterTrustBundle", where)
		case s.PodCertificate != nil:
			t.no("%s: podCertificate", where)
		default:
			t.no("%s: a projected source that is not known", where)
		}
	}
	if len(out) == 0 {
		return
	}
	if t.out.Secrets.Files == nil {
		t.out.Secrets.Files = map[string][]api.File{}
	}
	slices.SortFunc(out, func(a, b api.File) int { return strings.Compare(a.Path, b.Path) })
	t.out.Secrets.Files[volume] = out
}

// owner refuses files of another user than root.
func (t *translation) owner(where string, user *int64) {
	if user != nil && *user != 0 {
		t.no("%s: user %d: its files are root's", where, *user)
	}
}

// keyed is the content of a ConfigMap or Secret, and whether it may lack keys.
type keyed struct {
	what     string
	data     map[string][]byte
	optional *bool
}

// items puts the keys that items name, or all of them, each under its own name.
func (t *translation) items(where string, from keyed, items []corev1.KeyToPath, mode uint32, put func(api.File)) {
	if len(items) == 0 {
		for _, k := range slices.Sorted(maps.Keys(from.data)) {
			put(api.File{Path: k, Mode: mode, Data: from.data[k]})
		}
		return
	}
	for _, item := range items {
		t.owner(where, item.User)
		value, ok := from.data[item.Key]
		if !ok {
			t.lacks(fmt.Sprintf("%s has no key %s", from.what, item.Key), from.optional)
			continue
		}
		m := mode
		if item.Mode != nil {
			m = uint32(*item.Mode) & 0o777
		}
		put(api.File{Path: item.Path, Mode: m, Data: value})
	}
}

func (t *translation) downward(where string, items []corev1.DownwardAPIVolumeFile, mode uint32, put func(api.File)) {
	for _, item := range items {
		t.owner(where, item.User)
		m := mode
		if item.Mode != nil {
			m = uint32(*item.Mode) & 0o777
		}
		var value string
		switch {
		case item.FieldRef != nil:
			v, ok := t.field(item.FieldRef.FieldPath)
			if !ok {
				t.no("%s: field %s", where, item.FieldRef.FieldPath)
				continue
			}
			value = v
		case item.ResourceFieldRef != nil:
			v, err := t.resource(&corev1.Container{}, item.ResourceFieldRef)
			if err != nil {
				t.no("%s: %v", where, err)
				continue
			}
			value = v
		}
		put(api.File{Path: item.Path, Mode: m, Data: []byte(value)})
	}
}

func (t *translation) configMap(name string, optional *bool) *corev1.ConfigMap {
	m, err := t.refs.ConfigMap(t.pod.Namespace, name)
	t.failed(fmt.Sprintf("configmap %q", name), err)
	if m == nil && err == nil {
		t.lacks(fmt.Sprintf("configmap %q not found", name), optional)
	}
	return m
}

func (t *translation) secret(name string, optional *bool) *corev1.Secret {
	s, err := t.refs.Secret(t.pod.Namespace, name)
	t.failed(fmt.Sprintf("secret %q", name), err)
	if s == nil && err == nil {
		t.lacks(fmt.Sprintf("secret %q not found", name), optional)
	}
	return s
}

// failed notes the error of a look-up. What may not be read is missing, be it optional or not, as to a kubelet.
func (t *translation) failed(what string, err error) {
	if denied, ok := errors.AsType[*Denied](err); ok {
		t.lacks(fmt.Sprintf("%s may not be read: %s", what, denied.Why), nil)
	} else if t.err == nil {
		t.err = err
	}
}

// lacks notes what has to be there and is not.
func (t *translation) lacks(what string, optional *bool) {
	if optional != nil && *optional || slices.Contains(t.missing, what) {
		return
	}
	t.missing = append(t.missing, what)
}
