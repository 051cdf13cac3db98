package freeport

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestNobodyIsGivenAPortTwice(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		a := Addr(t)
		if seen[a] {
			t.Fatalf("%s was given twice", a)
		}
		seen[a] = true
	}
	number := number(t, Row(t, 20))
	for i := range 20 {
		if a := "127.0.0.1:" + strconv.Itoa(number+i); seen[a] {
			t.Errorf("%s was given twice", a)
		}
	}
}

func TestAPortThatIsListenedOnIsNotGiven(t *testing.T) {
	first, locks, err := take(1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	unlock(locks)
	if _, err := lock(t.TempDir(), first, 1); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v; wanted a refusal: in use", err)
	}
}

func TestTheKernelGivesNoneOfThesePorts(t *testing.T) {
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	if from, err := strconv.Atoi(strings.Fields(string(raw))[0]); err != nil || from < end {
		t.Errorf("the kernel gives ports from %d on, %v; wanted none below %d", from, err, end)
	}
}

func number(t *testing.T, address string) int {
	t.Helper()
	_, text, _ := strings.Cut(address, ":")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
