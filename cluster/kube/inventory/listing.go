package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/kube/apply"
)

// ListingConfig of a Listing. All fields are set.
type ListingConfig struct {
	Cluster   string
	Namespace string
	Registry  Registry
	Client    client.Client // reads come from a cache
	Log       *slog.Logger
	Now       func() time.Time
}

// Listing keeps the MLSysOpsCluster, which lists the nodes of the cluster.
type Listing struct {
	cfg     ListingConfig
	counted time.Time // when the counts in the status were last written
}

// NewListing returns a listing.
func NewListing(cfg ListingConfig) *Listing { return &Listing{cfg: cfg} }

// How often the list of nodes is compared, and how often the counts of its status are written at most.
const (
	listEvery  = 5 * time.Second
	countEvery = 30 * time.Second
)

// Run compares until ctx ends.
func (l *Listing) Run(ctx context.Context) error {
	for {
		if err := l.compare(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Log.Debug("MLSysOpsCluster not written", agent.KeyErr, err)
		}
		if !agent.Wait(ctx, agent.Jitter(listEvery, 0.2)) {
			return nil
		}
	}
}

// Members are the names for an MLSysOpsCluster that lists was: those of nodes, and of all that was listed but those that
// were removed here. So names that people wrote stay, and an empty registry takes none away.
func Members(nodes []api.Node, was []string, removed func(name string) (bool, error)) ([]string, error) {
	out := make([]string, 0, len(nodes))
	for i := range nodes {
		out = append(out, nodes[i].ID)
	}
	slices.Sort(out)
	known := len(out)
	for _, name := range was {
		if _, there := slices.BinarySearch(out[:known], name); there {
			continue
		}
		gone, err := removed(name)
		if err != nil {
			return nil, err
		}
		if !gone {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (l *Listing) compare(ctx context.Context) error {
	have := &v1.MLSysOpsCluster{}
	err := l.cfg.Client.Get(ctx, client.ObjectKey{Namespace: l.cfg.Namespace, Name: l.cfg.Cluster}, have)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if have.DeletionTimestamp != nil {
		return nil
	}
	wctx, cancel := context.WithCancel(ctx)
	nodes, _ := l.cfg.Registry.Watch(wctx)
	cancel()
	members, merr := Members(nodes, have.Nodes, func(name string) (bool, error) {
		_, found, err := l.cfg.Registry.Tombstone(name)
		return found, err
	})
	if merr != nil {
		return merr
	}
	if err != nil || have.ClusterID != l.cfg.Cluster || !slices.Equal(members, have.Nodes) {
		if err := l.write(ctx, members); err != nil {
			return err
		}
	}
	return l.count(ctx, have, len(members))
}

func (l *Listing) object() *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(v1.GroupVersion().WithKind("MLSysOpsCluster"))
	u.SetName(l.cfg.Cluster)
	u.SetNamespace(l.cfg.Namespace)
	return u
}

func (l *Listing) write(ctx context.Context, members []string) error {
	u := l.object()
	u.Object["cluster_id"], u.Object["nodes"] = l.cfg.Cluster, texts(members)
	if err := l.cfg.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(apply.Owner), client.ForceOwnership); err != nil {
		return fmt.Errorf("write MLSysOpsCluster: %w", err)
	}
	return nil
}

// count writes how many members there are and how many are ready, when that changed.
func (l *Listing) count(ctx context.Context, have *v1.MLSysOpsCluster, members int) error {
	now := l.cfg.Now()
	if now.Sub(l.counted) < countEvery {
		return nil
	}
	var all v1.MLSysOpsNodeList
	if err := l.cfg.Client.List(ctx, &all, client.InNamespace(l.cfg.Namespace), client.MatchingLabels{LabelCluster: l.cfg.Cluster},
		client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	ready := int64(0)
	for i := range all.Items {
		for _, c := range all.Items[i].Status.Conditions {
			if c.Type == v1.ConditionReady && c.Status == metav1.ConditionTrue {
				ready++
			}
		}
	}
	total := int64(members)
	is := v1.GroupStatus{ObservedGeneration: have.Generation, Members: &total, ReadyMembers: &ready}
	c := metav1.Condition{Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Listed", Message: "the cluster agent keeps the list"}
	is.Conditions = []metav1.Condition{dated(c, have.Status.Conditions, have.Generation, now)}
	was := have.Status
	if was.Members != nil && *was.Members == total && was.ReadyMembers != nil && *was.ReadyMembers == ready && was.ObservedGeneration == have.Generation {
		return nil
	}
	o := l.object()
	if err := apply.Status(ctx, l.cfg.Client, o, o.GroupVersionKind(), &is); err != nil {
		return fmt.Errorf("write status of MLSysOpsCluster: %w", err)
	}
	l.counted = now
	return nil
}
