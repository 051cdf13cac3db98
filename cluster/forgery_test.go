package cluster

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestAForgerIsWrittenDownNowAndThenAndSoAreAllTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForgers()
		admitted := 0
		for range 100 {
			if _, ok := f.admit("n1"); ok {
				admitted++
			}
		}
		if admitted != forgeriesBurst {
			t.Errorf("%d at once; wanted %d", admitted, forgeriesBurst)
		}
		if _, ok := f.admit("n2"); !ok {
			t.Error("one forger hides another")
		}
		time.Sleep(forgeriesEvery)
		if omitted, ok := f.admit("n1"); !ok || omitted != 100-forgeriesBurst {
			t.Errorf("after a while: %d left out, %t; wanted %d, true", omitted, ok, 100-forgeriesBurst)
		}
		admitted = 0
		for i := range 10 * strangersBurst { // many certificates of one mind
			if _, ok := f.admit(fmt.Sprint("m", i)); ok {
				admitted++
			}
		}
		if admitted > strangersBurst {
			t.Errorf("%d of many at once; wanted at most %d", admitted, strangersBurst)
		}
		if len(f.each) > maxForgers {
			t.Errorf("%d remembered; wanted at most %d", len(f.each), maxForgers)
		}
	})
}

func TestTheLogNamesWhoGotACertificateAndFromWhom(t *testing.T) {
	r := newRig(t, map[string]string{"log.level": "info"})
	r.operator("carol", api.RoleViewer)
	for _, line := range strings.Split(r.log.String(), "\n") {
		if strings.Contains(line, "operator certificate issued") {
			if !strings.Contains(line, "operator=carol") || !strings.Contains(line, "by=admin") {
				t.Error(line)
			}
			return
		}
	}
	t.Error("no line about the certificate")
}
