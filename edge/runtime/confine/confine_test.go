package confine

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nbad:line\nann:x:1000:100:Ann:/home/ann:/bin/sh\n1000:x:5:5::/five:\nbig:x:99999999999:1::/:\n"
	group  = "root:x:0:\nstaff:x:50:bob,ann\nann:x:100:\ndialout:x:20:ann\n"
)

func TestWhoIsWorkedOutOfImageAndWorkload(t *testing.T) {
	num := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct {
		user string
		api.Confinement
		want Identity
		bad  string
	}{
		"nothing":         {want: Identity{Home: "/root"}},
		"by name":         {user: "ann", want: Identity{UID: 1000, GID: 100, Groups: []uint32{20, 50}, Home: "/home/ann"}},
		"name of digits":  {user: "1000", want: Identity{UID: 5, GID: 5, Home: "/five"}},
		"with group":      {user: "ann:staff", want: Identity{UID: 1000, GID: 50, Groups: []uint32{20, 50}, Home: "/home/ann"}},
		"numbers":         {user: "77:88", want: Identity{UID: 77, GID: 88}},
		"of the workload": {user: "ann:staff", Confinement: api.Confinement{User: num(9), Groups: []int64{4, 3, 4}}, want: Identity{UID: 9, Groups: []uint32{3, 4}}},
		"group alone":     {user: "ann", Confinement: api.Confinement{Group: num(7)}, want: Identity{UID: 1000, GID: 7, Groups: []uint32{20, 50}, Home: "/home/ann"}},
		"unknown":         {user: "eve", bad: "eve"},
		"unknown group":   {user: "ann:eves", bad: "eves"},
		"too large":       {user: "big", bad: "big"},
		"not root":        {Confinement: api.Confinement{NonRoot: true}, bad: "nonRoot"},
		"negative":        {Confinement: api.Confinement{Groups: []int64{-1}}, bad: "security.groups"},
		"no user at all":  {Confinement: api.Confinement{User: num(1<<32 - 1)}, bad: "security.user"},
	} {
		got, err := Who(c.user, &c.Confinement, []byte(passwd), []byte(group))
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s: %+v, %v; wanted an error of %s", name, got, err, c.bad)
			}
			continue
		}
		if err != nil || got.UID != c.want.UID || got.GID != c.want.GID || got.Home != c.want.Home || !slices.Equal(got.Groups, c.want.Groups) {
			t.Errorf("%s: %+v, %v; wanted %+v", name, got, err, c.want)
		}
	}
}

func TestCapabilitiesAreAddedAfterTheyAreDropped(t *testing.T) {
	for name, c := range map[string]struct {
		api.Confinement
		want Set
	}{
		"usual":      {want: 0xa00425fb},
		"none":       {Confinement: api.Confinement{Drop: []string{"ALL"}}},
		"one":        {Confinement: api.Confinement{Drop: []string{"all"}, Add: []string{"CAP_NET_ADMIN"}}, want: 1 << 12},
		"less":       {Confinement: api.Confinement{Drop: []string{"CHOWN"}}, want: 0xa00425fa},
		"all but":    {Confinement: api.Confinement{Add: []string{"ALL"}, Drop: []string{"SYS_ADMIN"}}, want: (1<<41 - 1) &^ (1 << 21)},
		"privileged": {Confinement: api.Confinement{Privileged: true, Drop: []string{"ALL"}}, want: 1<<41 - 1},
	} {
		if got, err := Capabilities(&c.Confinement); err != nil || got != c.want {
			t.Errorf("%s: %x, %v; wanted %x", name, got, err, c.want)
		}
	}
	if _, err := Capabilities(&api.Confinement{Add: []string{"FLY"}}); err == nil || !strings.Contains(err.Error(), "security.add") {
		t.Errorf("got %v", err)
	}
}

// run is what the kernel does with a filter, for the calls that ours are made of.
func run(t *testing.T, prog []unix.SockFilter, arch, number, flags uint32) uint32 {
	t.Helper()
	var acc uint32
	for at := 0; at < len(prog); at++ {
		i := prog[at]
		jump := func(yes bool) {
			if yes {
				at += int(i.Jt)
			} else {
				at += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = map[uint32]uint32{atNumber: number, atArch: arch, atFlags: flags}[i.K]
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ:
			jump(acc == i.K)
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JGE:
			jump(acc >= i.K)
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JSET:
			jump(acc&i.K != 0)
		case unix.BPF_JMP | unix.BPF_JA:
			at += int(i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			t.Fatalf("instruction %d: code %x", at, i.Code)
		}
	}
	t.Fatal("the filter ran over its end")
	return 0
}

func TestTheFilterRefusesOnEveryWayIntoTheKernel(t *testing.T) {
	all := Set(1)<<len(capabilities) - 1
	for _, set := range []Set{0, all} {
		prog := filter(set)
		if len(prog) > 4096 {
			t.Fatalf("%d instructions; the kernel takes 4096", len(prog))
		}
		for _, a := range abis {
			for _, d := range a.refused {
				want := refuse
				if d.unless != "" && set.Has(d.unless) {
					want = allow
				}
				if got := run(t, prog, a.arch, d.number, 0); got != want {
					t.Errorf("arch %x call %d with %x: %x; wanted %x", a.arch, d.number, set, got, want)
				}
			}
			if got := run(t, prog, a.arch, a.clone, unix.CLONE_VM|unix.CLONE_THREAD); got != allow {
				t.Errorf("arch %x: a thread: %x", a.arch, got)
			}
			want := refuse
			if set == all {
				want = allow
			}
			if got := run(t, prog, a.arch, a.clone, unix.CLONE_NEWUSER); got != want {
				t.Errorf("arch %x: a user namespace: %x; wanted %x", a.arch, got, want)
			}
			if got := run(t, prog, a.arch, 1<<30|1, 0); a.x32 && got != absent {
				t.Errorf("arch %x: x32: %x", a.arch, got)
			}
			if got := run(t, prog, a.arch, 5000, 0); got != allow {
				t.Errorf("arch %x: a call of tomorrow: %x", a.arch, got)
			}
		}
		if got := run(t, prog, 0xdead, 1, 0); got != absent {
			t.Errorf("another processor's call: %x", got)
		}
	}
}

func TestEveryDeniedCallNamesACapabilityThatExists(t *testing.T) {
	for _, a := range abis {
		if len(a.refused) < 30 {
			t.Errorf("arch %x refuses %d calls", a.arch, len(a.refused))
		}
		for _, d := range a.refused {
			if d.unless != "" && !slices.Contains(capabilities, d.unless) {
				t.Errorf("call %d: capability %q", d.number, d.unless)
			}
		}
	}
}

func FuzzWho(f *testing.F) {
	f.Add("ann:staff", []byte(passwd), []byte(group))
	f.Fuzz(func(t *testing.T, user string, passwd, group []byte) {
		id, err := Who(user, &api.Confinement{NonRoot: true}, passwd, group)
		if err == nil && id.UID == 0 {
			t.Fatalf("%q became root", user)
		}
	})
}
