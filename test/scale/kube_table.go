package scale

import (
	"context"
	"fmt"
	"time"
)

// kube measures the bridge to Kubernetes. All processors are for everybody: a control plane needs them too.
func (d *Door) kube(ctx context.Context, f *flags) int {
	cfg, drop, err := d.prepare(f)
	if err != nil {
		return d.failed(err)
	}
	defer drop()
	cfg.CPU, cfg.Memory = -1, 0
	k, err := RunKube(ctx, cfg, time.Duration(f.minutes*float64(time.Minute)), f.pods)
	if err != nil {
		return d.failed(err)
	}
	ok, err := d.tellRows(f, k.Rows(), struct {
		*Kube
		Rows []Row `json:"rows"`
	}{k, k.Rows()})
	if err != nil {
		return d.failed(err)
	}
	if !ok {
		return ExitMissed
	}
	return ExitOK
}

// Rows are k as a table.
func (k *Kube) Rows() []Row {
	rows := []Row{fact(fmt.Sprintf("%d devices are nodes that are Ready, from the first connection", k.Nodes), k.ReadyTook, "s")}
	rows = append(rows, k.Idle.rows("idle", k.Nodes)...)
	if k.WithPods != nil {
		rows = append(rows, fact(fmt.Sprintf("a DaemonSet has %d pods that are Ready", k.Pods), k.RunningTook, "s"))
		rows = append(rows, k.WithPods.rows("idle with pods", k.Nodes)...)
	}
	return rows
}

func (q *Quiet) rows(when string, nodes int) []Row {
	each := func(n int) float64 { return float64(n) / float64(nodes) / (q.Seconds / 60) }
	leases, others := q.Own.Writes()
	rows := []Row{
		atMost(when+": writes of the cluster agent beside Leases, for each node", each(others), 0.2, "1/min"),
		fact(when+": writes of Leases, for each node; 6 to 6.7 are due", each(leases), "1/min"),
		fact(when+": the API server's time for a renewal, mean", q.LeaseSeconds*1000, "ms"),
		fact(when+": cluster RSS, median", float64(q.RSSBytes)/(1<<20), "MiB"),
		fact(when+": cluster processor", q.CPU, "% of a core"),
		fact(when+": API server RSS", float64(q.APIServer)/(1<<20), "MiB"),
		fact(when+": API server processor", q.APICPU, "% of a core"),
		fact(when+": kine processor", q.KineCPU, "% of a core"),
	}
	for _, what := range q.Own.Sorted() {
		r := fact(when+": cluster agent, "+what, each(q.Own[what]), "1/min")
		r.Note = fmt.Sprintf("for each node; %d in all", q.Own[what])
		if n := q.Refused[what]; n > 0 {
			r.Note += fmt.Sprintf(", %d refused", n)
		}
		rows = append(rows, r)
	}
	for _, what := range q.Others.Sorted() {
		if isWrite(what) {
			r := fact(when+": others, "+what, each(q.Others[what]), "1/min")
			r.Note = fmt.Sprintf("for each node; %d in all", q.Others[what])
			rows = append(rows, r)
		}
	}
	return rows
}
