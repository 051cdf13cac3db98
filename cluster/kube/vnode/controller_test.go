package vnode

import (
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestAConflictBesideARealErrorIsTold(t *testing.T) {
	conflict := fmt.Errorf("patch pod: %w", apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "p", errors.New("changed")))
	if result, err := again(errors.Join(conflict, nil, fmt.Errorf("delete: %w", apierrors.NewNotFound(schema.GroupResource{}, "p")))); err != nil || result.RequeueAfter == 0 {
		t.Errorf("%v, %v: objects that changed meanwhile are a word worth", result, err)
	}
	bad := errors.New("no room on the disk")
	for _, joined := range []error{errors.Join(conflict, bad), errors.Join(bad, conflict), fmt.Errorf("pods: %w", errors.Join(conflict, errors.Join(conflict, bad)))} {
		if result, err := again(joined); !errors.Is(err, bad) {
			t.Errorf("%v: %v, %v", joined, result, err)
		}
	}
}

func TestADeviceThatFailedForLongIsTriedSoonAfterTheCure(t *testing.T) {
	l, one := limiter(), requestOf("n1")
	for range 100 {
		if wait := l.When(one); wait > retryWithin {
			t.Fatalf("the next try is in %s", wait)
		}
	}
	if l.Forget(one); l.When(one) != retryFirst {
		t.Error("a success does not begin anew")
	}
}
