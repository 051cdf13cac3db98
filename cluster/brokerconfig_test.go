package cluster

import (
	"bytes"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// skerryCluster runs a command line of skerry-cluster on a site of its own.
func skerryCluster(t *testing.T, args ...string) (exit int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	d := &Door{Out: &o, Err: &e}
	return d.Main(t.Context(), append(args, "--set", "dir="+t.TempDir(), "--set", "advertise=127.0.0.1")), o.String(), e.String()
}

func TestTheBrokersKeyIsForTheBrokerAlone(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "broker")
	for range 2 { // it is run again after operators change
		exit, out, errs := skerryCluster(t, "broker-config", "--out", dir, "--owner", me.Username)
		if exit != ExitOK || strings.Count(out, "wrote ") != 6 || errs != "" {
			t.Fatalf("exit %d: %s%s", exit, out, errs)
		}
	}
	for name, want := range map[string]os.FileMode{"broker.key": 0o600, "acl": 0o600, "broker.crt": 0o644, "ca.crt": 0o644, "crl.pem": 0o644, "mosquitto.conf": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; info.Mode().Perm() != want || strconv.Itoa(int(uid)) != me.Uid {
			t.Errorf("%s: mode %v of user %d; wanted %v of %s", name, info.Mode().Perm(), uid, want, me.Uid)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	conf, err := os.ReadFile(filepath.Join(dir, "mosquitto.conf"))
	if err != nil || !strings.Contains(string(conf), "\nuser "+me.Username+"\n") {
		t.Errorf("%v in:\n%s", err, conf)
	}
}

func TestAnOwnerThatIsNotIsAFaultOfTheCommandLine(t *testing.T) {
	exit, out, errs := skerryCluster(t, "broker-config", "--owner", "nobody-of-that-name")
	if exit != ExitConfig || !strings.Contains(errs, `--owner "nobody-of-that-name": wanted a user of this machine`) || out != "" {
		t.Errorf("exit %d: %s%s", exit, out, errs)
	}
}

func TestTheBrokerListensWhereItIsReached(t *testing.T) {
	for external, want := range map[string]string{"mqtts://broker:18883": "18883", "mqtts://broker": "8883", "": "8883"} {
		dir := t.TempDir()
		args := []string{"broker-config", "--out", dir}
		if external != "" {
			args = append(args, "--set", "mqtt.external="+external)
		}
		exit, _, errs := skerryCluster(t, args...)
		conf, err := os.ReadFile(filepath.Join(dir, "mosquitto.conf"))
		if exit != ExitOK || err != nil || !strings.Contains(string(conf), "\nlistener "+want+"\n") {
			t.Errorf("%q: exit %d, %s, %v; wanted port %s in:\n%s", external, exit, errs, err, want, conf)
		}
	}
}
