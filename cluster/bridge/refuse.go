package bridge

import (
	corev1 "k8s.io/api/core/v1"
)

// refuse looks for what a pod as a whole may not want.
func (t *translation) refuse() {
	s := &t.pod.Spec
	if !s.HostNetwork && !t.target.HostNetworkImplied {
		t.no("set hostNetwork: true: a device has no pod network")
	}
	for _, f := range []struct {
		set  bool
		name string
	}{
		{s.HostPID, "hostPID"}, {s.HostIPC, "hostIPC"}, {s.HostUsers != nil && !*s.HostUsers, "hostUsers: false"},
		{s.ShareProcessNamespace != nil && *s.ShareProcessNamespace, "shareProcessNamespace"},
		{len(s.ResourceClaims) > 0, "resourceClaims"},
		{len(s.HostAliases) > 0, "hostAliases"},
		{s.DNSConfig != nil && (len(s.DNSConfig.Nameservers) > 0 || len(s.DNSConfig.Searches) > 0 || len(s.DNSConfig.Options) > 0), "dnsConfig"},
		{s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN, "setHostnameAsFQDN"},
		{s.HostnameOverride != nil && *s.HostnameOverride != "", "hostnameOverride"},
		{s.Subdomain != "", "subdomain"},
		{s.Resources != nil && (len(s.Resources.Limits) > 0 || len(s.Resources.Requests) > 0), "resources of the pod as a whole"},
		{s.OS != nil && s.OS.Name != corev1.Linux, "os: other than linux"},
	} {
		if f.set {
			t.no("%s", f.name)
		}
	}
	sc := s.SecurityContext
	if sc == nil {
		return
	}
	for _, f := range []struct {
		set  bool
		name string
	}{
		{sc.SELinuxOptions != nil, "seLinuxOptions"}, {sc.WindowsOptions != nil, "windowsOptions"}, {len(sc.Sysctls) > 0, "sysctls"},
		{sc.FSGroup != nil, "fsGroup"},
		{sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy != corev1.SupplementalGroupsPolicyMerge, "supplementalGroupsPolicy: Strict"},
	} {
		if f.set {
			t.no("securityContext.%s", f.name)
		}
	}
}

// restarts: a device goes by the pod's policy alone.
func (t *translation) restarts(where string, c *corev1.Container) {
	if len(c.RestartPolicyRules) > 0 {
		t.no("%s.restartPolicyRules", where)
	}
	if p := c.RestartPolicy; p != nil && string(*p) != string(t.pod.Spec.RestartPolicy) {
		t.no("%s.restartPolicy %s: other than the pod's", where, *p)
	}
}

// filters compares what a container wants with what a device has for all that are not privileged: one filter of system calls, which is what
// RuntimeDefault asks for, no new privileges, and no AppArmor.
func (t *translation) filters(where string, c *corev1.SecurityContext) {
	var seccomp *corev1.SeccompProfile
	var armor *corev1.AppArmorProfile
	if p := t.pod.Spec.SecurityContext; p != nil {
		seccomp, armor = p.SeccompProfile, p.AppArmorProfile
	}
	privileged := false
	if c != nil {
		if c.SeccompProfile != nil {
			seccomp = c.SeccompProfile
		}
		if c.AppArmorProfile != nil {
			armor = c.AppArmorProfile
		}
		privileged = c.Privileged != nil && *c.Privileged
		if c.AllowPrivilegeEscalation != nil && *c.AllowPrivilegeEscalation && !privileged {
			t.otherwise("%s.securityContext.allowPrivilegeEscalation: no program gains privileges all the same", where)
		}
	}
	switch {
	case seccomp == nil || privileged:
	case seccomp.Type == corev1.SeccompProfileTypeLocalhost:
		t.no("%s: seccompProfile Localhost", where)
	case seccomp.Type == corev1.SeccompProfileTypeUnconfined:
		t.otherwise("%s: seccompProfile Unconfined: the device's filter holds all the same", where)
	}
	switch {
	case armor == nil || privileged:
	case armor.Type == corev1.AppArmorProfileTypeLocalhost:
		t.no("%s: appArmorProfile Localhost", where)
	case armor.Type == corev1.AppArmorProfileTypeRuntimeDefault:
		t.otherwise("%s: appArmorProfile RuntimeDefault: the device has no AppArmor", where)
	}
}
