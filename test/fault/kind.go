package fault

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// Heal ends a fault.
type Heal func(ctx context.Context) error

// Kind is a kind of fault.
type Kind struct {
	Name        string
	Help        string
	Lane        string        // what it occupies of its target: two faults of one lane would undo each other
	Targets     []string      // tiers
	Least, Most time.Duration // how long it lasts
	Draw        func(dice *rand.Rand) map[string]float64
	// Inject does it. The error is one of the harness.
	Inject func(ctx context.Context, r *Rig, e Event) (Heal, error)
	// Bites returns nil when the fault can be felt: it fails before Inject and after Heal, and succeeds in between. It is
	// the fault's own test, and no part of a schedule.
	Bites func(ctx context.Context, r *Rig, e Event) error
}

// Kinds is the table of all faults of a site. With Kubernetes in the picture those of kubeKinds join them.
func Kinds() []Kind {
	return slices.Concat(processKinds(), wireKinds(), mqttKinds(), diskKinds(), clockKinds())
}

// kindOf finds one by name.
func kindOf(name string) (Kind, error) {
	all := append(Kinds(), kubeKinds()...)
	i := slices.IndexFunc(all, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, fmt.Errorf("fault %q: wanted one of %v", name, names(all))
	}
	return all[i], nil
}

func names(kinds []Kind) (list []string) {
	for _, k := range kinds {
		list = append(list, k.Name)
	}
	return list
}

// Profile is a choice of kinds.
type Profile struct {
	Name  string
	Kinds []string // empty: all
	Kube  bool     // Kubernetes is in the picture
}

// Profiles lists them by name.
func Profiles() map[string]Profile {
	out := map[string]Profile{}
	add := func(name string, kinds []Kind) { out[name] = Profile{Name: name, Kinds: names(kinds)} }
	add("process", processKinds())
	add("wire", wireKinds())
	add("mqtt", mqttKinds())
	add("disk", diskKinds())
	add("clock", clockKinds())
	out["kube"] = Profile{Name: "kube", Kinds: names(kubeKinds()), Kube: true}
	out["all"] = Profile{Name: "all"}
	return out
}

// ProfileOf finds a profile, or makes one of a list of kinds.
func ProfileOf(name string, kinds []string) (Profile, error) {
	if len(kinds) > 0 {
		p := Profile{Name: "chosen", Kinds: kinds}
		for _, k := range kinds {
			if _, err := kindOf(k); err != nil {
				return Profile{}, err
			}
			p.Kube = p.Kube || slices.Contains(names(kubeKinds()), k)
		}
		return p, nil
	}
	p, ok := Profiles()[name]
	if !ok {
		return p, fmt.Errorf("profile %q: wanted one of %v", name, slices.Sorted(maps.Keys(Profiles())))
	}
	return p, nil
}

func (p Profile) kinds() []Kind {
	all := Kinds()
	if p.Kube {
		all = append(all, kubeKinds()...)
	}
	if len(p.Kinds) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(k Kind) bool { return !slices.Contains(p.Kinds, k.Name) })
}
