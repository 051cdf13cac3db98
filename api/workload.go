package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Workload is something a node should run: containers that share their fate, as in a Kubernetes pod. A node compares it with
// what it runs by its Name and its Hash: another one under the same name replaces what runs. All that it refers to
// (images apart) is inside, so that it starts on a node that reaches nobody.
type Workload struct {
	Name         string        `json:"name"`              // an id, unique on the node: of a pod, its UID
	Runtime      string        `json:"runtime,omitempty"` // process, wasm, containerd; empty: the first that the node offers
	Pod          *PodRef       `json:"pod,omitempty"`     // where it came from; nil for none
	Restart      RestartPolicy `json:"restart,omitempty"` // empty: always
	GraceSeconds int64         `json:"graceSeconds"`      // between SIGTERM and SIGKILL; 0 kills at once
	LimitSeconds int64         `json:"limitSeconds,omitempty"`
	Hostname     string        `json:"hostname,omitempty"` // empty: the node's
	Init         []Container   `json:"init,omitempty"`     // one after the other, each to its end, before Containers
	Containers   []Container   `json:"containers"`
	Volumes      []Volume      `json:"volumes,omitempty"`
	Sealed       *Sealed       `json:"sealed,omitempty"`
	Draining     bool          `json:"draining,omitempty"` // to be stopped with its grace; it stays listed until it is gone
}

// PodRef names the pod that a workload is.
type PodRef struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// RestartPolicy says when a container that has ended is started again.
type RestartPolicy string

// The policies, those of a pod.
const (
	RestartAlways    RestartPolicy = "always"
	RestartOnFailure RestartPolicy = "on-failure"
	RestartNever     RestartPolicy = "never"
)

// PullPolicy says when an image is asked for although the node may have it.
type PullPolicy string

// The policies, those of a pod.
const (
	PullMissing PullPolicy = "missing" // also when empty
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// Container is one program of a workload.
type Container struct {
	Name      string        `json:"name"`
	Image     string        `json:"image"` // a reference such as docker.io/library/busybox:1.36, or with @sha256:…
	Pull      PullPolicy    `json:"pull,omitempty"`
	Command   []string      `json:"command,omitempty"` // replaces the image's entrypoint; $(NAME) expands from Env as in a pod
	Args      []string      `json:"args,omitempty"`    // replaces the image's command; expands likewise
	Dir       string        `json:"dir,omitempty"`     // empty: the image's
	Env       []EnvVar      `json:"env,omitempty"`     // a later one of the same name wins; those that are sealed come last; values expand as Command does
	Mounts    []Mount       `json:"mounts,omitempty"`
	Limits    Resources     `json:"limits,omitzero"`
	Requests  Resources     `json:"requests,omitzero"`
	Ports     []Port        `json:"ports,omitempty"`
	Startup   *HealthCheck  `json:"startup,omitempty"`
	Liveness  *HealthCheck  `json:"liveness,omitempty"`
	Readiness *HealthCheck  `json:"readiness,omitempty"`
	Security  *Confinement  `json:"security,omitempty"` // nil: the image's user, no new privileges
	TTY       bool          `json:"tty,omitempty"`
	Stdin     bool          `json:"stdin,omitempty"`
	Message   string        `json:"message,omitempty"`  // file whose end becomes the termination message; empty: /dev/termination-log
	LogAsMsg  bool          `json:"logAsMsg,omitempty"` // the end of the log is the message of a failure that left none
	PreStop   *HealthAction `json:"preStop,omitempty"`  // before SIGTERM, within the grace
	PostStart *HealthAction `json:"postStart,omitempty"`
}

// EnvVar is one variable of an environment.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Mount shows a volume, or a file or folder of it, inside a container.
type Mount struct {
	Volume   string `json:"volume"`
	Path     string `json:"path"`
	SubPath  string `json:"subPath,omitempty"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Resources are amounts; 0 is none given.
type Resources struct {
	CPUMillis   int64 `json:"cpuMillis,omitempty"`
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
}

// Port is one that a container listens on, on the node's own network.
type Port struct {
	Name     string `json:"name,omitempty"`
	Number   int32  `json:"number"`
	Protocol string `json:"protocol,omitempty"` // TCP, UDP; empty: TCP
}

// HealthAction is one thing to do in, or ask of, a container; exactly one field is set.
type HealthAction struct {
	Exec []string  `json:"exec,omitempty"`
	HTTP *HTTPGet  `json:"http,omitempty"`
	TCP  *TCPProbe `json:"tcp,omitempty"`
}

// HTTPGet is a request whose answer is good from 200 to 399.
type HTTPGet struct {
	Scheme  string   `json:"scheme,omitempty"` // http, https (whose certificate is not checked, as a kubelet does); empty: http
	Host    string   `json:"host,omitempty"`   // empty: 127.0.0.1
	Port    int32    `json:"port"`
	Path    string   `json:"path,omitempty"`
	Headers []string `json:"headers,omitempty"` // "Name: value"
}

// TCPProbe is a connection that has to be accepted.
type TCPProbe struct {
	Host string `json:"host,omitempty"` // empty: 127.0.0.1
	Port int32  `json:"port"`
}

// HealthCheck asks a container again and again how it is. A pod's defaults are filled in by who makes it.
type HealthCheck struct {
	HealthAction
	DelaySeconds   int32 `json:"delaySeconds,omitempty"`
	PeriodSeconds  int32 `json:"periodSeconds"`
	TimeoutSeconds int32 `json:"timeoutSeconds"`
	Successes      int32 `json:"successes"` // in a row, until it counts as good
	Failures       int32 `json:"failures"`  // in a row, until it counts as bad
}

// Confinement is what a container may be and do beyond the least.
type Confinement struct {
	User         *int64   `json:"user,omitempty"`
	Group        *int64   `json:"group,omitempty"`
	Groups       []int64  `json:"groups,omitempty"`
	ReadOnlyRoot bool     `json:"readOnlyRoot,omitempty"`
	NonRoot      bool     `json:"nonRoot,omitempty"` // not to be started as user 0
	Add          []string `json:"add,omitempty"`     // capabilities without CAP_
	Drop         []string `json:"drop,omitempty"`    // ALL, or names
	Privileged   bool     `json:"privileged,omitempty"`
}

// Volume is storage of a workload; exactly one kind is set.
type Volume struct {
	Name  string       `json:"name"`
	Empty *EmptyVolume `json:"empty,omitempty"` // fresh, gone with the workload
	Host  *HostVolume  `json:"host,omitempty"`
	Files *FilesVolume `json:"files,omitempty"` // read-only; what they hold is sealed or in Files
}

// EmptyVolume is a folder, in memory if so wanted.
type EmptyVolume struct {
	Memory    bool  `json:"memory,omitempty"`
	SizeBytes int64 `json:"sizeBytes,omitempty"` // 0: no bound of its own
}

// HostVolume is a path of the node; the node's configuration says which it gives.
type HostVolume struct {
	Path string `json:"path"`
	Type string `json:"type,omitempty"` // of Kubernetes: DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice
}

// FilesVolume is a folder of small files.
type FilesVolume struct {
	Files []File `json:"files,omitempty"`
}

// File is one of them.
type File struct {
	Path string `json:"path"` // relative, clean
	Mode uint32 `json:"mode"` // permission bits
	Data []byte `json:"data"`
}

// Sealed is what only the node itself can read: a Secrets, as JSON, encrypted to the public key of its certificate. ID is the same
// for the same content and key, and tells nothing of either.
type Sealed struct {
	ID   string `json:"id"`
	Key  string `json:"key"`  // of the node: lower-case hex SHA-256 of its SubjectPublicKeyInfo
	Data []byte `json:"data"` // HPKE (RFC 9180): encapsulated key, then ciphertext
}

// Secrets is what a Sealed holds.
type Secrets struct {
	Env   map[string][]EnvVar `json:"env,omitempty"`   // by container
	Files map[string][]File   `json:"files,omitempty"` // by volume, beside those that are not sealed
}

// Hash is the SHA-256, in lower-case hex, of w as JSON without Draining, LimitSeconds, which may change while it runs, and the bytes of
// Sealed, whose ID stands for them: what a WorkloadStatus speaks of.
func (w *Workload) Hash() string {
	plain := *w
	plain.Draining, plain.LimitSeconds = false, 0
	if w.Sealed != nil {
		plain.Sealed = &Sealed{ID: w.Sealed.ID, Key: w.Sealed.Key}
	}
	raw, err := json.Marshal(plain)
	if err != nil {
		return "" // cannot be: no field of it has a form that JSON lacks
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// The limits of one workload.
const (
	MaxContainers  = 16
	MaxVolumes     = 32
	MaxListEntries = 256 // arguments, variables, mounts, files
)
