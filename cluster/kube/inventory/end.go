package inventory

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/cluster/kube/apply"
)

// crdName is the CRD whose deletion takes every object with it.
const crdName = "mlsysopsnodes.mlsysops.eu"

// end is about an object that somebody deleted.
func (c *Controller) end(ctx context.Context, v View) error {
	o := v.Object
	if Decide(v) == Decommission {
		keep, err := c.vanishing(ctx, o.Namespace)
		if err != nil {
			return fmt.Errorf("decommission node %s: %w", o.GetName(), err)
		}
		v.Keep = keep
	}
	if Decide(v) == Decommission {
		if err := c.cfg.Fleet.Decommission(ctx, o.GetName(), "kube:"+o.Namespace+"/"+o.GetName()); err != nil {
			return fmt.Errorf("decommission node %s: %w", o.GetName(), err)
		}
	} else {
		c.cfg.Log.Info("object of a node was deleted, and the node stays", agent.KeyNode, o.GetName())
	}
	err := apply.Metadata(ctx, c.cfg.Client, o, func() { controllerutil.RemoveFinalizer(o, Finalizer) })
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("let go of the object of node %s: %w", o.GetName(), err)
	}
	return nil
}

// vanishing reports whether objects go because their namespace or their CRD does. A fleet is not decommissioned by that: the
// devices stay enrolled, and have their objects again when there is a place for them.
func (c *Controller) vanishing(ctx context.Context, namespace string) (bool, error) {
	for _, of := range []struct{ version, kind, name string }{
		{"v1", "Namespace", namespace}, {"apiextensions.k8s.io/v1", "CustomResourceDefinition", crdName},
	} {
		m := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: of.version, Kind: of.kind}}
		if err := c.cfg.Live.Get(ctx, client.ObjectKey{Name: of.name}, m); err != nil {
			if apierrors.IsNotFound(err) {
				return true, nil
			}
			return false, fmt.Errorf("look whether %s %s is being deleted: %w", of.kind, of.name, err)
		}
		if m.DeletionTimestamp != nil {
			return true, nil
		}
	}
	return false, nil
}
