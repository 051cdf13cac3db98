package registry

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// Images lists the images that the desired documents of all nodes name, each once.
func (r *Registry) Images() ([]string, error) {
	var out []string
	err := r.cfg.DB.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketDesired)).ForEach(func(id, raw []byte) error {
			var d struct {
				Workloads []api.Workload `json:"workloads"`
			}
			if err := json.Unmarshal(raw, &d); err != nil {
				return fmt.Errorf("desired of node %s: %w", id, err)
			}
			for i := range d.Workloads {
				for _, c := range slices.Concat(d.Workloads[i].Init, d.Workloads[i].Containers) {
					out = append(out, c.Image)
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list wanted images: %w", err)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
