package mqtt

import "github.com/skerry-edge/skerry/api"

// fullWorkload has every field set: its golden file is the wire format.
func fullWorkload() api.Workload {
	user := int64(1000)
	check := &api.HealthCheck{HealthAction: api.HealthAction{HTTP: &api.HTTPGet{Scheme: "http", Host: "127.0.0.1", Port: 8080, Path: "/healthz", Headers: []string{"X-A: b"}}},
		DelaySeconds: 1, PeriodSeconds: 10, TimeoutSeconds: 1, Successes: 1, Failures: 3}
	main := api.Container{Name: "main", Image: "docker.io/library/busybox:1.36", Pull: api.PullMissing, Command: []string{"/bin/sh"}, Args: []string{"-c", "echo $(A)"},
		Dir: "/tmp", Env: []api.EnvVar{{Name: "A", Value: "b"}}, Mounts: []api.Mount{{Volume: "scratch", Path: "/tmp", SubPath: "a", ReadOnly: true}},
		Limits: api.Resources{CPUMillis: 500, MemoryBytes: 64 << 20}, Requests: api.Resources{CPUMillis: 100, MemoryBytes: 32 << 20},
		Ports: []api.Port{{Name: "http", Number: 8080, Protocol: "TCP"}}, Startup: check, Liveness: check, Readiness: check,
		Security: &api.Confinement{User: &user, Group: &user, Groups: []int64{7}, ReadOnlyRoot: true, NonRoot: true, Add: []string{"NET_BIND_SERVICE"}, Drop: []string{"ALL"}, Privileged: true},
		TTY:      true, Stdin: true, Message: "/dev/termination-log", LogAsMsg: true, PreStop: &api.HealthAction{Exec: []string{"sync"}},
		PostStart: &api.HealthAction{TCP: &api.TCPProbe{Host: "127.0.0.1", Port: 8080}}}
	return api.Workload{Name: "w", Runtime: "process", Pod: &api.PodRef{Namespace: "default", Name: "web-0", UID: "0b3c"}, Restart: api.RestartAlways, GraceSeconds: 30,
		LimitSeconds: 3600, Hostname: "web-0", Init: []api.Container{{Name: "first", Image: "i"}}, Containers: []api.Container{main},
		Volumes: []api.Volume{{Name: "scratch", Empty: &api.EmptyVolume{Memory: true, SizeBytes: 1 << 20}}, {Name: "dev", Host: &api.HostVolume{Path: "/dev/ttyS0", Type: "CharDevice"}},
			{Name: "conf", Files: &api.FilesVolume{Files: []api.File{{Path: "a/b", Mode: 0o644, Data: []byte("x")}}}}},
		Sealed: &api.Sealed{ID: "i", Key: "k", Data: []byte("s")}, Draining: true}
}

// fullWorkloadStatus has every field set.
func fullWorkloadStatus() api.WorkloadStatus {
	end := &api.Termination{Exit: 137, Signal: 9, Reason: "OOMKilled", Message: "m", ID: "c", Started: 1764000000000, Finished: 1764000001000}
	return api.WorkloadStatus{Name: "w", State: api.WorkloadRunning, Reason: "r", Message: "m", Hash: "h", Runtime: "process", Started: 1764000000000, Ready: true,
		Containers: []api.ContainerStatus{{Name: "main", Init: true, State: api.ContainerTerminated, Reason: "CrashLoopBackOff", Message: "m", ID: "c", ImageDigest: "sha256:0",
			Ready: true, Up: true, Restarts: 3, Started: 1764000000000, End: end, Last: end}}}
}
