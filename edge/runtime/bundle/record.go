package bundle

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The kinds of a container.
const (
	KindProcess = "process"
	KindWasm    = "wasm"
)

// Record says which container a bundle is of.
type Record struct {
	ID       string    `json:"id"`
	Workload string    `json:"workload"`
	Kind     string    `json:"kind"`
	Image    string    `json:"image"` // digest
	Created  time.Time `json:"created"`
}

// Spec is all that a supervisor needs to run a container.
type Spec struct {
	Record
	Lower      []string        `json:"lower"` // folders of the image's layers, the topmost first
	Argv       []string        `json:"argv"`
	Env        []string        `json:"env"`
	Dir        string          `json:"dir"`
	User       string          `json:"user"` // of the image: user, user:group, names or numbers
	Security   api.Confinement `json:"security"`
	Mounts     []Mount         `json:"mounts"`
	Limits     api.Resources   `json:"limits"`
	Requests   api.Resources   `json:"requests"`  // the CPU's is a weight
	Processes  int64           `json:"processes"` // how many at once
	Hostname   string          `json:"hostname"`
	TTY        bool            `json:"tty"`
	Stdin      bool            `json:"stdin"`
	Log        string          `json:"log"`
	LogBytes   int64           `json:"logBytes"`
	Cgroup     string          `json:"cgroup"` // folder of all containers within each hierarchy; ./ is below that of the agent
	StopSignal int             `json:"stopSignal"`
	Wall       time.Duration   `json:"wall"` // of a module: how long it may run; 0 is for ever
}

// Mount shows a file or folder of the node in the container.
type Mount struct {
	Source   string `json:"source"`
	Within   string `json:"within"` // folder that Source may not leave by symbolic links; empty: they are followed
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
}

// Begun says that a supervisor has begun.
type Begun struct {
	Pid     int       `json:"pid"`   // of the supervisor, which is the first process of the container, as the node counts
	Start   uint64    `json:"start"` // when that process started, in ticks since boot: a pid alone is used again
	Boot    string    `json:"boot"`  // the kernel's boot id
	Started time.Time `json:"started"`
	Cgroups []string  `json:"cgroups"`
	Without []string  `json:"without,omitempty"` // protections that this kernel does not have
}

// End says how a container ended.
type End struct {
	Exit     int       `json:"exit"` // 128 + Signal when a signal ended it
	Signal   int       `json:"signal,omitempty"`
	OOM      bool      `json:"oom,omitempty"`
	Unknown  bool      `json:"unknown,omitempty"`
	Message  string    `json:"message,omitempty"`
	LostLog  uint64    `json:"lostLog,omitempty"` // bytes of output that could not be written
	Finished time.Time `json:"finished"`
}

// maxRecord bounds each of the files, and maxEnd the last.
const (
	maxRecord = 64 << 10
	maxEnd    = 2 << 10
	maxTold   = 512
)

// encode gives End room to be written again in place: always maxEnd bytes.
func (e *End) encode() ([]byte, error) {
	short := *e
	short.Message = cut(short.Message)
	raw, err := json.Marshal(short)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxEnd { // a message of nothing but characters that JSON makes six bytes of
		short.Message = ""
		if raw, err = json.Marshal(short); err != nil {
			return nil, err
		}
	}
	out := make([]byte, maxEnd)
	for i := copy(out, raw); i < len(out); i++ {
		out[i] = ' '
	}
	return out, nil
}

// cut shortens a message, at a whole character.
func cut(s string) string {
	if len(s) <= maxTold {
		return s
	}
	n := maxTold
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

func decode(name string, raw []byte, to any) error {
	if len(raw) > maxRecord {
		return fmt.Errorf("%s has %d bytes; wanted at most %d", name, len(raw), maxRecord)
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
