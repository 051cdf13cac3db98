package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// helloModule is a WebAssembly module that writes hello and ends with exit code 7: one that even an interpreter under an emulator
// has ready at once.
const helloModule = "\x00asm\x01\x00\x00\x00" +
	"\x01\x10\x03\x60\x04\x7f\x7f\x7f\x7f\x01\x7f\x60\x01\x7f\x00\x60\x00\x00" + // types
	"\x02\x46\x02\x16wasi_snapshot_preview1\x08fd_write\x00\x00\x16wasi_snapshot_preview1\x09proc_exit\x00\x01" + // imports
	"\x03\x02\x01\x02" + "\x05\x03\x01\x00\x01" + // one function, one page of memory
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x02" + // exports
	"\x0a\x13\x01\x11\x00\x41\x01\x41\x00\x41\x01\x41\x14\x10\x00\x1a\x41\x07\x10\x01\x0b" + // fd_write(1, 0, 1, 20), proc_exit(7)
	"\x0b\x14\x01\x00\x41\x00\x0b\x0e\x08\x00\x00\x00\x06\x00\x00\x00hello\n" // where and how much, and the text

// emulator386 is for kernels that run no 32-bit programs of their own processor. Its threads share one table of segments, from which a signal
// loads them anew: a Go program that sends itself none, to preempt itself, is spared that.
var emulator386 = []string{"qemu-i386-static", "-E", "GODEBUG=asyncpreemptoff=1"}

// TestEveryTargetEnrolsReportsAnswersAndRunsAModule has the shipped program for each target, under the emulator of its processor, be a
// node of one cluster agent. Emulated programs cannot start themselves anew, so the module runs in the process that a
// supervisor would start for it.
func TestEveryTargetEnrolsReportsAnswersAndRunsAModule(t *testing.T) {
	t.Parallel()
	f := newField(t)
	module := filepath.Join(t.TempDir(), "hello.wasm")
	if err := os.WriteFile(module, []byte(helloModule), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []struct{ name, emulator string }{
		{"amd64", ""}, {"arm64", "qemu-aarch64-static"}, {"arm-7", "qemu-arm-static"}, {"arm-6", "qemu-arm-static"},
		{"riscv64", "qemu-riscv64-static"}, {"mipsle", "qemu-mipsel-static"}, {"386", ""},
	} {
		t.Run(target.name, func(t *testing.T) {
			program, err := Program(filepath.Join("targets", target.name, "skerry-edge-full"))
			if err != nil {
				t.Fatal(err)
			}
			argv := []string{program}
			if target.emulator != "" {
				argv = []string{target.emulator, program}
			}
			if err := exec.CommandContext(t.Context(), program, "version").Run(); target.name == "386" && errors.Is(err, syscall.ENOEXEC) {
				argv = append(slices.Clone(emulator386), program)
			}
			began := time.Now()
			f.enrolled(t, target.name, argv)
			online := time.Since(began)
			took := runModule(t, argv, module)
			t.Logf("%-8s online after %.1f s, module after %.1f s", target.name, online.Seconds(), took.Seconds())
		})
	}
}

// enrolled starts a node agent that enrols, reports and answers.
func (f *field) enrolled(t *testing.T, target string, argv []string) {
	t.Helper()
	name := "on-" + target
	node := f.node(name, f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "telemetry: {interval: 1s}\nworkloads: {enabled: false}\n")
	node.Program, node.Args = argv[0], append(argv[1:], node.Args...)
	start(t, node)
	f.online(name)
	f.ping(name)
	poll(t, time.Minute, "telemetry comes", func() error {
		for _, series := range []string{"node_load1", "node_memory_MemTotal_bytes", "node_boot_time_seconds"} {
			if got, err := f.samples(fmt.Sprintf("%s{node=%q}", series, name)); err != nil || len(got) < 3 {
				return fmt.Errorf("%d samples of %s: %w", len(got), series, err)
			}
		}
		return nil
	})
	var n api.Node
	if err := f.get("/v1/nodes/"+name, &n); err != nil {
		t.Fatal(err)
	}
	if arch, _, _ := strings.Cut(target, "-"); n.Birth == nil || !strings.HasPrefix(n.Birth.Host.Arch, arch) {
		t.Errorf("the node says of itself %+v; wanted processor %s", n.Birth, arch)
	}
	kill(t, node)
}

// runModule speaks with the process of a module as its supervisor does: what to run on descriptor 3, words on 4.
func runModule(t *testing.T, argv []string, module string) time.Duration {
	t.Helper()
	began := time.Now()
	taskOut, taskIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	wordsOut, wordsIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], append(argv[1:], "shim", "module")...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &out, []*os.File{taskOut, wordsIn}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, file := range cmd.ExtraFiles {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := json.NewEncoder(taskIn).Encode(map[string]any{"argv": []string{module}}); err != nil {
		t.Error(err)
	}
	if err := taskIn.Close(); err != nil {
		t.Error(err)
	}
	var word struct {
		Ready   bool
		Message string
	}
	if err := json.NewDecoder(wordsOut).Decode(&word); err != nil || !word.Ready {
		t.Errorf("%+v, %v; wanted a module that is ready", word, err)
	}
	if err := wordsOut.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 7 || out.String() != "hello\n" {
		t.Errorf("the module ended with %v and printed %q; wanted exit code 7 and hello", err, out.String())
	}
	return time.Since(began)
}
