package fault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// Event is one fault of a schedule. Times are those of the schedule, before it is compressed.
type Event struct {
	At     time.Duration      `yaml:"at"` // from the beginning
	Fault  string             `yaml:"fault"`
	Target string             `yaml:"target"`
	For    time.Duration      `yaml:"for"`
	Params map[string]float64 `yaml:"params,omitempty,flow"`
}

// Schedule is what happens under a seed: a pure function of the seed, the profile and the length.
type Schedule struct {
	Seed    uint64        `yaml:"seed"`
	Profile string        `yaml:"profile"`
	Length  time.Duration `yaml:"length"`
	Crowd   Crowd         `yaml:"crowd"`
	Events  []Event       `yaml:"events"`
}

// Crowd is what the simulated nodes are like under a seed.
type Crowd struct {
	MemoryBytes int64  `yaml:"memory_bytes"` // of each outbox: a small one has to give samples up
	Encoding    string `yaml:"encoding"`
	BatchRows   int    `yaml:"batch_rows"`
}

// calm is the share of a schedule in which no new fault begins, and settled that by the end of which all are over.
const calm, settled = 0.15, 0.9

// meanGap is how far apart faults begin, on average.
const meanGap = 10 * time.Second

// Make draws the schedule of a seed. The kinds are those of the profile; two faults of one lane (a process, an address, a
// disk) never overlap.
func Make(seed uint64, profile Profile, length time.Duration) Schedule {
	dice := rand.New(rand.NewPCG(seed, 0x5e5a))
	s := Schedule{Seed: seed, Profile: profile.Name, Length: length, Crowd: Crowd{MemoryBytes: 256 << 10, Encoding: "json", BatchRows: 1 + dice.IntN(3)}}
	if dice.IntN(3) == 0 {
		s.Crowd.MemoryBytes = 8 << 10
	}
	if dice.IntN(2) == 0 {
		s.Crowd.Encoding = "cbor"
	}
	kinds := profile.kinds()
	until := map[string]time.Duration{} // when a lane is free again
	end := time.Duration(float64(length) * settled)
	for at := time.Duration(float64(length) * calm / 3); ; {
		at += time.Duration(dice.Int64N(int64(2 * meanGap))).Round(100 * time.Millisecond)
		if at >= end-length/20 {
			break
		}
		k := kinds[dice.IntN(len(kinds))]
		e := Event{At: at, Fault: k.Name, Target: k.Targets[dice.IntN(len(k.Targets))],
			For: (k.Least + time.Duration(dice.Int64N(int64(k.Most-k.Least)+1))).Round(100 * time.Millisecond)}
		e.For = min(e.For, end-at)
		if k.Draw != nil {
			e.Params = k.Draw(dice)
		}
		lane := k.Lane + ":" + e.Target
		if at < until[lane] {
			continue
		}
		until[lane] = at + e.For + time.Second
		s.Events = append(s.Events, e)
	}
	slices.SortStableFunc(s.Events, func(a, b Event) int { return int(a.At - b.At) })
	return s
}

// YAML prints it.
func (s *Schedule) YAML() string {
	text, err := yaml.Marshal(s)
	if err != nil {
		return fmt.Sprintf("# %v\n", err)
	}
	return string(text)
}

// touches tells whether a fault of the schedule is of a kind and, if it is given, at a target.
func (s *Schedule) touches(kind, target string) bool {
	return slices.ContainsFunc(s.Events, func(e Event) bool { return e.Fault == kind && (target == "" || e.Target == target) })
}
