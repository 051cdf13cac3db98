package vnode

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// site is one device with its pods, its document and the API server. Methods that it lacks are not to be called.
type site struct {
	client.Client
	device    *api.Node
	pods      []*corev1.Pod
	have      []api.Workload
	room      int
	unwritten error            // what the document's store says to a change
	refs      map[string]error // what the API server says of a Secret; nil: it is there
	told      map[string]corev1.PodStatus
	deleted   []string
}

func (s *site) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	for _, p := range s.pods {
		into.(*corev1.PodList).Items = append(into.(*corev1.PodList).Items, *p.DeepCopy())
	}
	return nil
}

func (s *site) Get(ctx context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	err, there := s.refs[key.Name]
	switch {
	case !there:
		return apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, key.Name)
	case errors.Is(err, context.DeadlineExceeded): // an API server that does not answer
		<-ctx.Done()
		return ctx.Err()
	}
	into.(*corev1.Secret).Data = map[string][]byte{"word": []byte("hush")}
	return err
}

func (s *site) Delete(_ context.Context, o client.Object, _ ...client.DeleteOption) error {
	s.deleted = append(s.deleted, o.GetName())
	return nil
}

func (s *site) Status() client.SubResourceWriter { return statuses{site: s} }

type statuses struct {
	client.SubResourceWriter
	site *site
}

func (s statuses) Patch(_ context.Context, o client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
	s.site.told[o.GetName()] = o.(*corev1.Pod).Status
	return nil
}

func (s *site) Device(string) (*api.Node, Standing)                     { return s.device, Here }
func (s *site) Watch(context.Context, func(string)) error               { return nil }
func (s *site) Pressure(string) bridge.Pressure                         { return bridge.Pressure{} }
func (s *site) Workloads(string) ([]api.Workload, int, error)           { return s.have, s.room, nil }
func (s *site) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}

func (s *site) SetWorkloads(_ string, change func([]api.Workload, int) []api.Workload) error {
	if s.unwritten != nil {
		return s.unwritten
	}
	s.have = change(s.have, s.room)
	return nil
}

func (s *site) Seal(string, string, *api.Secrets) (*api.Sealed, error) {
	return &api.Sealed{ID: "a", Key: "k", Data: []byte("x")}, nil
}

// aSite has a pod that runs, one that is being deleted and that the device has stopped, and a new one that refers to nothing.
func aSite() *site {
	on, gone := aWorkload("on", "i"), aWorkload("gone", "i")
	gone.Draining = true
	at, grace := metav1.Unix(1, 0), int64(30)
	leaving := referring("gone", "")
	leaving.DeletionTimestamp, leaving.DeletionGracePeriodSeconds = &at, &grace
	s := &site{room: 60_000, told: map[string]corev1.PodStatus{}, refs: map[string]error{}, have: []api.Workload{gone, on}, pods: []*corev1.Pod{referring("on", ""), leaving, referring("new", "")},
		device: &api.Node{ID: "n1", Presence: api.PresenceOnline, Desired: api.Revision{Generation: 2}, Reported: &api.Reported{Generation: 2,
			Workloads: []api.WorkloadStatus{{Name: "on", State: api.WorkloadRunning, Containers: []api.ContainerStatus{{Name: "main", State: api.ContainerRunning, Ready: true}}}}}}}
	return s
}

// referring is a pod with a variable out of a Secret, or without one.
func referring(uid, secret string) *corev1.Pod {
	p := aPod(uid)
	p.Spec = corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "main", Image: "i"}}}
	if secret != "" {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "W", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: "word"}}}}
	}
	return p
}

func (s *site) agree(t *testing.T) (time.Duration, error) {
	t.Helper()
	r := &reconciler{Config: Config{Devices: s, Documents: s, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: func() time.Time { return time.Unix(1764000000, 0) }}, client: s, reader: s, events: s}
	return r.pods(t.Context(), s.device, &corev1.Node{})
}

// othersGoOn checks what has to be of the pods that refer to nothing.
func (s *site) othersGoOn(t *testing.T) {
	t.Helper()
	if !slices.Equal(s.deleted, []string{"gone"}) {
		t.Errorf("deleted for good: %v; wanted the one that has ended", s.deleted)
	}
	if s.told["on"].Phase != corev1.PodRunning {
		t.Errorf("the pod that runs is told as %q", s.told["on"].Phase)
	}
	if s.unwritten == nil && (!slices.Contains(names(s.have), "new") || !slices.Contains(names(s.have), "on")) {
		t.Errorf("the document has %v", names(s.have))
	}
}

func TestAPodWhoseSecretMayNotBeReadWaitsAlone(t *testing.T) {
	s := aSite()
	s.pods = append(s.pods, referring("curious", "pass"))
	s.refs["pass"] = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "pass", errors.New("not for skerry-cluster"))
	after, err := s.agree(t)
	if err != nil || after != missingAgain {
		t.Errorf("again after %s, %v; wanted after %s without a word of the device", after, err, missingAgain)
	}
	s.othersGoOn(t)
	w := s.told["curious"].ContainerStatuses[0].State.Waiting
	if w == nil || w.Reason != "CreateContainerConfigError" || !strings.Contains(w.Message, `secret "pass" may not be read`) || !strings.Contains(w.Message, "not for skerry-cluster") {
		t.Errorf("%+v", w)
	}
	s.refs["pass"] = nil
	if _, err := s.agree(t); err != nil || !slices.Contains(names(s.have), "curious") {
		t.Errorf("with the right given back: %v, %v", names(s.have), err)
	}
}

func TestALookUpThatFailsForAMomentHoldsUpItsPodAlone(t *testing.T) {
	for what, fault := range map[string]error{"it is ill": apierrors.NewInternalError(errors.New("etcd is away")), "it says nothing": context.DeadlineExceeded} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := aSite()
				s.pods = append(s.pods, referring("held", "pass"), referring("kept", "pass"), referring("fine", "other"))
				s.have = append(s.have, aWorkload("kept", "i"))
				s.refs["pass"] = fault
				if fault != context.DeadlineExceeded { // there is no telling which other ones would answer
					s.refs["other"] = nil
				}
				if _, err := s.agree(t); err == nil || !strings.Contains(err.Error(), "default/held") {
					t.Errorf("%v; wanted the error, which is tried again", err)
				}
				s.othersGoOn(t)
				if got := names(s.have); slices.Contains(got, "held") || !slices.Contains(got, "kept") {
					t.Errorf("the document has %v", got)
				}
				if c := s.told["held"].ContainerStatuses; len(c) > 0 && c[0].State.Waiting.Reason != "ContainerCreating" {
					t.Errorf("the pod is told as %+v", c)
				}
				if fault != context.DeadlineExceeded && !slices.Contains(names(s.have), "fine") {
					t.Error("a Secret that could be read waits for one that could not")
				}
			})
		})
	}
}

func TestADocumentThatIsNotTakenStopsNoStatus(t *testing.T) {
	s := aSite()
	s.unwritten = errors.New("not valid")
	if _, err := s.agree(t); !errors.Is(err, s.unwritten) {
		t.Errorf("%v", err)
	}
	s.othersGoOn(t)
}

func TestAPodThatDoesNotFitWaitsAlone(t *testing.T) {
	s := aSite()
	s.pods = append(s.pods, referring("big", ""))
	s.pods[3].Spec.Containers[0].Args = []string{strings.Repeat("x", s.room)}
	if _, err := s.agree(t); err != nil {
		t.Error(err)
	}
	s.othersGoOn(t)
	if w := s.told["big"].ContainerStatuses[0].State.Waiting; w.Reason != "CreateContainerConfigError" || !strings.Contains(w.Message, "may take 60000") {
		t.Errorf("%+v", w)
	}
	s.room *= 2
	if _, err := s.agree(t); err != nil || !slices.Contains(names(s.have), "big") {
		t.Errorf("with more room: %v, %v", names(s.have), err)
	}
}

func TestWhatPodsReferToIsLookedAtAgainByTime(t *testing.T) {
	s := aSite()
	s.device.Birth = &api.Birth{Renews: true}
	if after, err := s.agree(t); err != nil || after != far {
		t.Errorf("%v, %v; wanted no look for what refers to nothing", after, err)
	}
	s.refs["word"] = nil
	s.pods = append(s.pods, referring("reads", "word"))
	if after, err := s.agree(t); err != nil || after < renewAgain || after > 2*renewAgain {
		t.Errorf("%v, %v; wanted a look after a minute or two", after, err)
	}
	s.device.Birth.Renews = false
	if after, err := s.agree(t); err != nil || after != far {
		t.Errorf("%v, %v; wanted none for a device that takes nothing anew", after, err)
	}
	if large := (&corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.ObjectTTLAnnotationKey: "300"}}}); renewAfter(large) < 6*time.Minute {
		t.Errorf("%v in a large cluster; wanted later", renewAfter(large))
	}
}
