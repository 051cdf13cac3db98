package edge

import (
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/workload"
)

// runtimes makes the runtimes of containers that a node's configuration names, in its order. One that is not built in, or
// cannot work on this machine, is left out.
func runtimes(cfg configs.Workloads) ([]workload.Runtime, error) {
	makers := map[string]func(cfg configs.Workloads) (workload.Runtime, error){}
	var list []workload.Runtime
	for _, name := range cfg.Runtimes {
		make, ok := makers[name]
		if !ok {
			continue
		}
		rt, err := make(cfg)
		if err != nil {
			return nil, err
		}
		list = append(list, rt)
	}
	return list, nil
}
