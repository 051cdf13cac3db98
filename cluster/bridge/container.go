package bridge

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-edge/skerry/api"
)

func (t *translation) container(c *corev1.Container) api.Container {
	where := "container " + c.Name
	out := api.Container{Name: c.Name, Image: c.Image, Pull: pullPolicy(c.ImagePullPolicy), Command: slices.Clone(c.Command), Args: slices.Clone(c.Args),
		Dir: c.WorkingDir, TTY: c.TTY, Stdin: c.Stdin, Limits: resources(c.Resources.Limits), Requests: resources(c.Resources.Requests),
		LogAsMsg: c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError, Security: t.confinement(where, c.SecurityContext)}
	if c.TerminationMessagePath != "" && c.TerminationMessagePath != corev1.TerminationMessagePathDefault {
		out.Message = c.TerminationMessagePath
	}
	t.restarts(where, c)
	if c.StdinOnce {
		t.no("%s.stdinOnce", where)
	}
	if len(c.VolumeDevices) > 0 {
		t.no("%s.volumeDevices", where)
	}
	if len(c.ResizePolicy) > 0 {
		t.otherwise("%s.resizePolicy: a change of resources restarts", where)
	}
	t.extended(where, c.Resources.Limits)
	for _, p := range c.Ports {
		if p.Protocol == corev1.ProtocolSCTP {
			t.no("%s.ports: SCTP", where)
		}
		if p.HostPort != 0 && p.HostPort != p.ContainerPort {
			t.no("%s.ports: hostPort %d for containerPort %d: on the device's own network they are one", where, p.HostPort, p.ContainerPort)
		}
		if p.HostIP != "" {
			t.no("%s.ports.hostIP", where)
		}
		out.Ports = append(out.Ports, api.Port{Name: p.Name, Number: p.ContainerPort, Protocol: string(p.Protocol)})
	}
	t.env(c, &out)
	for _, m := range c.VolumeMounts {
		t.mount(where, m, &out)
	}
	out.Startup = t.check(where+".startupProbe", c.StartupProbe, c.Ports)
	out.Liveness = t.check(where+".livenessProbe", c.LivenessProbe, c.Ports)
	out.Readiness = t.check(where+".readinessProbe", c.ReadinessProbe, c.Ports)
	if l := c.Lifecycle; l != nil {
		out.PreStop = t.hook(where+".preStop", l.PreStop, c.Ports)
		out.PostStart = t.hook(where+".postStart", l.PostStart, c.Ports)
		if l.StopSignal != nil {
			t.no("%s.lifecycle.stopSignal", where)
		}
	}
	return out
}

func pullPolicy(p corev1.PullPolicy) api.PullPolicy {
	switch p {
	case corev1.PullAlways:
		return api.PullAlways
	case corev1.PullNever:
		return api.PullNever
	default:
		return api.PullMissing
	}
}

func resources(l corev1.ResourceList) api.Resources {
	return api.Resources{CPUMillis: l.Cpu().MilliValue(), MemoryBytes: l.Memory().Value()}
}

// extended: sensors are counted by the scheduler, and need nothing of the device; other devices and huge pages would.
func (t *translation) extended(where string, limits corev1.ResourceList) {
	for name := range limits {
		switch {
		case name == corev1.ResourceCPU, name == corev1.ResourceMemory, strings.HasPrefix(string(name), SensorPrefix):
		case name == corev1.ResourceEphemeralStorage:
			t.otherwise("%s: the limit of ephemeral storage counts for placement alone", where)
		case strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			t.no("%s.resources: %s", where, name)
		default:
			t.otherwise("%s: resource %s counts for placement alone", where, name)
		}
	}
}

func (t *translation) mount(where string, m corev1.VolumeMount, out *api.Container) {
	if m.SubPathExpr != "" {
		t.no("%s.volumeMounts[%s].subPathExpr", where, m.MountPath)
	}
	if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
		t.no("%s.volumeMounts[%s].mountPropagation %s", where, m.MountPath, *m.MountPropagation)
	}
	if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
		t.no("%s.volumeMounts[%s].recursiveReadOnly", where, m.MountPath)
	}
	if len(m.BindMountOptions) > 0 {
		t.no("%s.volumeMounts[%s].bindMountOptions", where, m.MountPath)
	}
	if slices.Contains(t.left, m.Name) {
		return
	}
	out.Mounts = append(out.Mounts, api.Mount{Volume: m.Name, Path: m.MountPath, SubPath: m.SubPath, ReadOnly: m.ReadOnly})
}

// confinement merges what the pod and the container say; the container's counts first.
func (t *translation) confinement(where string, c *corev1.SecurityContext) *api.Confinement {
	out := &api.Confinement{}
	if p := t.pod.Spec.SecurityContext; p != nil {
		out.User, out.Group, out.Groups = p.RunAsUser, p.RunAsGroup, slices.Clone(p.SupplementalGroups)
		out.NonRoot = p.RunAsNonRoot != nil && *p.RunAsNonRoot
	}
	t.filters(where, c)
	if c != nil {
		if c.SELinuxOptions != nil || c.WindowsOptions != nil {
			t.no("%s.securityContext: SELinux or Windows options", where)
		}
		if c.ProcMount != nil && *c.ProcMount != corev1.DefaultProcMount {
			t.no("%s.securityContext.procMount %s", where, *c.ProcMount)
		}
		if c.RunAsUser != nil {
			out.User = c.RunAsUser
		}
		if c.RunAsGroup != nil {
			out.Group = c.RunAsGroup
		}
		if c.RunAsNonRoot != nil {
			out.NonRoot = *c.RunAsNonRoot
		}
		out.ReadOnlyRoot = c.ReadOnlyRootFilesystem != nil && *c.ReadOnlyRootFilesystem
		out.Privileged = c.Privileged != nil && *c.Privileged
		if k := c.Capabilities; k != nil {
			out.Add, out.Drop = capabilities(k.Add), capabilities(k.Drop)
		}
	}
	if out.User == nil && out.Group == nil && len(out.Groups)+len(out.Add)+len(out.Drop) == 0 && !out.NonRoot && !out.ReadOnlyRoot && !out.Privileged {
		return nil
	}
	return out
}

func capabilities(in []corev1.Capability) []string {
	var out []string
	for _, c := range in {
		out = append(out, strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
	}
	slices.Sort(out)
	return out
}

// check fills in a kubelet's defaults, although the API server has done so: a pod may come from a file.
func (t *translation) check(where string, p *corev1.Probe, ports []corev1.ContainerPort) *api.HealthCheck {
	if p == nil {
		return nil
	}
	if p.TerminationGracePeriodSeconds != nil {
		t.no("%s.terminationGracePeriodSeconds", where)
	}
	if p.GRPC != nil {
		t.no("%s.grpc", where)
		return nil
	}
	return &api.HealthCheck{HealthAction: t.action(where, p.Exec, p.HTTPGet, p.TCPSocket, ports), DelaySeconds: p.InitialDelaySeconds,
		PeriodSeconds: orElse(p.PeriodSeconds, 10), TimeoutSeconds: orElse(p.TimeoutSeconds, 1), Successes: orElse(p.SuccessThreshold, 1),
		Failures: orElse(p.FailureThreshold, 3)}
}

func orElse(v, fallback int32) int32 {
	if v > 0 {
		return v
	}
	return fallback
}

func (t *translation) hook(where string, h *corev1.LifecycleHandler, ports []corev1.ContainerPort) *api.HealthAction {
	if h == nil {
		return nil
	}
	if h.Sleep != nil {
		t.no("%s.sleep", where)
		return nil
	}
	a := t.action(where, h.Exec, h.HTTPGet, h.TCPSocket, ports)
	return &a
}

func (t *translation) action(where string, exec *corev1.ExecAction, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, ports []corev1.ContainerPort) api.HealthAction {
	switch {
	case exec != nil:
		return api.HealthAction{Exec: slices.Clone(exec.Command)}
	case get != nil:
		if get.Protocol != nil && *get.Protocol != corev1.HTTPProtocolHTTP1 {
			t.no("%s.httpGet.protocol %s", where, *get.Protocol)
		}
		h := &api.HTTPGet{Scheme: strings.ToLower(string(get.Scheme)), Host: get.Host, Port: t.port(where, get.Port, ports), Path: get.Path}
		for _, header := range get.HTTPHeaders {
			h.Headers = append(h.Headers, header.Name+": "+header.Value)
		}
		return api.HealthAction{HTTP: h}
	case tcp != nil:
		return api.HealthAction{TCP: &api.TCPProbe{Host: tcp.Host, Port: t.port(where, tcp.Port, ports)}}
	default:
		t.no("%s: no action that is known", where)
		return api.HealthAction{}
	}
}

// port resolves a port that is named.
func (t *translation) port(where string, p intstr.IntOrString, ports []corev1.ContainerPort) int32 {
	if p.Type == intstr.Int {
		return p.IntVal
	}
	for _, known := range ports {
		if known.Name == p.StrVal {
			return known.ContainerPort
		}
	}
	t.no("%s: port %.63q is none of the container's", where, p.StrVal)
	return 0
}
