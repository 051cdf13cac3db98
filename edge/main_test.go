package edge

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
)

// asDoor in the environment makes the test program be skerry-edge.
const asDoor = "SKERRY_TEST_AS_DOOR"

func TestMain(m *testing.M) {
	if os.Getenv(asDoor) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	d := &Door{Out: os.Stdout, Err: os.Stderr, Argv: os.Args}
	code := d.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func pid(cmd *exec.Cmd) string { return strconv.Itoa(cmd.Process.Pid) }
