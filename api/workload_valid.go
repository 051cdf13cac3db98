package api

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Validate reports all faults of w, each with its field.
func (w *Workload) Validate() error {
	errs := []error{ValidID("name", w.Name), maxLen("hostname", w.Hostname, MaxIDLength),
		oneOf("restart", string(w.Restart), "", string(RestartAlways), string(RestartOnFailure), string(RestartNever)),
		oneOf("runtime", w.Runtime, "", "process", "wasm", "containerd")}
	if w.GraceSeconds < 0 || w.LimitSeconds < 0 {
		errs = append(errs, fmt.Errorf("graceSeconds %d, limitSeconds %d: wanted no negative value", w.GraceSeconds, w.LimitSeconds))
	}
	if n := len(w.Init) + len(w.Containers); len(w.Containers) == 0 || n > MaxContainers || len(w.Volumes) > MaxVolumes {
		errs = append(errs, fmt.Errorf("%d containers, %d of them to begin with, and %d volumes: wanted 1 to %d, and at most %d",
			n, len(w.Init), len(w.Volumes), MaxContainers, MaxVolumes))
		return errors.Join(errs...)
	}
	volumes := make([]string, 0, len(w.Volumes))
	for i := range w.Volumes {
		v := &w.Volumes[i]
		errs = append(errs, within("volume "+v.Name, v.validate(volumes)))
		volumes = append(volumes, v.Name)
	}
	var names []string
	for _, c := range slices.Concat(w.Init, w.Containers) {
		errs = append(errs, within("container "+c.Name, c.validate(volumes, names)))
		names = append(names, c.Name)
	}
	return errors.Join(errs...)
}

func (v *Volume) validate(others []string) error {
	kinds := 0
	for _, set := range []bool{v.Empty != nil, v.Host != nil, v.Files != nil} {
		if set {
			kinds++
		}
	}
	errs := []error{ValidID("name", v.Name)}
	if kinds != 1 {
		errs = append(errs, fmt.Errorf("%d of empty, host, files are set; wanted one", kinds))
	}
	if slices.Contains(others, v.Name) {
		errs = append(errs, errors.New("name is taken"))
	}
	if v.Host != nil && !path.IsAbs(v.Host.Path) {
		errs = append(errs, fmt.Errorf("host.path %.80q: wanted an absolute path", v.Host.Path))
	}
	if v.Files != nil {
		errs = append(errs, validFiles(v.Files.Files))
	}
	return errors.Join(errs...)
}

func validFiles(files []File) error {
	if len(files) > MaxListEntries {
		return fmt.Errorf("%d files: wanted at most %d", len(files), MaxListEntries)
	}
	var errs []error
	for _, f := range files {
		if f.Path == "" || path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || strings.HasPrefix(f.Path, "..") {
			errs = append(errs, fmt.Errorf("file %.80q: wanted a clean path that does not begin with two dots", f.Path))
		}
	}
	return errors.Join(errs...)
}

// Validate reports the faults of what was sealed.
func (s *Secrets) Validate() error {
	var errs []error
	for name, files := range s.Files {
		errs = append(errs, within("volume "+name, validFiles(files)))
	}
	for name, env := range s.Env {
		errs = append(errs, within("container "+name, validEnv(env)))
	}
	return errors.Join(errs...)
}

func validEnv(env []EnvVar) error {
	if len(env) > MaxListEntries {
		return fmt.Errorf("%d variables: wanted at most %d", len(env), MaxListEntries)
	}
	for _, e := range env {
		if e.Name == "" || strings.ContainsAny(e.Name, "=\x00") || strings.Contains(e.Value, "\x00") {
			return fmt.Errorf("env %.80q: wanted a name without '=' and no NUL in either", e.Name)
		}
	}
	return nil
}

func (c *Container) validate(volumes, others []string) error {
	errs := []error{ValidID("name", c.Name), validEnv(c.Env), maxLen("image", c.Image, 2*MaxLabelBytes),
		oneOf("pull", string(c.Pull), "", string(PullMissing), string(PullAlways), string(PullNever))}
	if slices.Contains(others, c.Name) {
		errs = append(errs, errors.New("name is taken"))
	}
	if c.Image == "" {
		errs = append(errs, errors.New("image is empty"))
	}
	if len(c.Command) > MaxListEntries || len(c.Args) > MaxListEntries || len(c.Mounts) > MaxListEntries || len(c.Ports) > MaxListEntries {
		errs = append(errs, fmt.Errorf("%d words of command, %d of args, %d mounts, %d ports: wanted at most %d each",
			len(c.Command), len(c.Args), len(c.Mounts), len(c.Ports), MaxListEntries))
	}
	at := map[string]bool{}
	for _, m := range c.Mounts {
		if at[path.Clean(m.Path)] {
			errs = append(errs, fmt.Errorf("mount %.80q: wanted one mount at a path", m.Path))
		}
		at[path.Clean(m.Path)] = true
		if !slices.Contains(volumes, m.Volume) {
			errs = append(errs, fmt.Errorf("mount %.80q: no volume has the name %.80q", m.Path, m.Volume))
		}
		if !path.IsAbs(m.Path) || path.Clean(m.Path) == "/" {
			errs = append(errs, fmt.Errorf("mount %.80q: wanted an absolute path below the root", m.Path))
		}
		if m.SubPath != "" && (path.IsAbs(m.SubPath) || slices.Contains(strings.Split(m.SubPath, "/"), "..")) {
			errs = append(errs, fmt.Errorf("mount %.80q: subPath %.80q: wanted a path that stays inside", m.Path, m.SubPath))
		}
	}
	for _, r := range []Resources{c.Limits, c.Requests} {
		if r.CPUMillis < 0 || r.MemoryBytes < 0 {
			errs = append(errs, fmt.Errorf("resources %+v: wanted no negative amount", r))
		}
	}
	for field, h := range map[string]*HealthCheck{"startup": c.Startup, "liveness": c.Liveness, "readiness": c.Readiness} {
		if h != nil {
			errs = append(errs, within(field, h.validate()))
		}
	}
	for field, a := range map[string]*HealthAction{"preStop": c.PreStop, "postStart": c.PostStart} {
		if a != nil {
			errs = append(errs, within(field, a.validate()))
		}
	}
	return errors.Join(errs...)
}

func (h *HealthCheck) validate() error {
	if h.DelaySeconds < 0 || h.PeriodSeconds < 1 || h.TimeoutSeconds < 1 || h.Successes < 1 || h.Failures < 1 {
		return fmt.Errorf("delaySeconds %d: wanted 0 or more; periodSeconds %d, timeoutSeconds %d, successes %d, failures %d: wanted 1 or more",
			h.DelaySeconds, h.PeriodSeconds, h.TimeoutSeconds, h.Successes, h.Failures)
	}
	return h.HealthAction.validate()
}

func (a *HealthAction) validate() error {
	kinds, port := 0, int32(1)
	if len(a.Exec) > 0 {
		kinds++
	}
	if a.HTTP != nil {
		kinds++
		port = a.HTTP.Port
	}
	if a.TCP != nil {
		kinds++
		port = a.TCP.Port
	}
	if kinds != 1 {
		return fmt.Errorf("%d of exec, http, tcp are set; wanted one", kinds)
	}
	if port < 1 || port > 65535 {
		return fmt.Errorf("port %d: wanted 1 to 65535", port)
	}
	return nil
}

// oneOf reports a value that is none of wanted, of which an empty one is not named.
func oneOf(field, value string, wanted ...string) error {
	if slices.Contains(wanted, value) {
		return nil
	}
	return fmt.Errorf("%s %.80q: wanted one of %s", field, value, strings.Join(slices.DeleteFunc(wanted, func(s string) bool { return s == "" }), ", "))
}

// within says where err is.
func within(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%.80s: %w", where, err)
}
