package timerslack

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the program that is started once more.
func TestMain(m *testing.M) {
	if os.Getenv("WIDEN") == "" {
		os.Exit(m.Run())
	}
	before := os.Getpid()
	if err := Widen(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		panic(err)
	}
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	narrow := 0 // of the other threads; to read theirs takes CAP_SYS_NICE
	for _, t := range tasks {
		if b, err := os.ReadFile("/proc/" + t.Name() + "/timerslack_ns"); err == nil && strings.TrimSpace(string(b)) != fmt.Sprint(slack) {
			narrow++
		}
	}
	fmt.Println(before, len(tasks) > 1, narrow, slack, err, os.Args[1:])
	child := exec.Command(os.Args[0], "child")
	if len(os.Args) == 3 {
		out, err := child.CombinedOutput()
		fmt.Printf("%s%v\n", out, err)
	}
}

func TestWiden(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "some", "arguments")
	cmd.Env = append(os.Environ(), "WIDEN=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	want := fmt.Sprintf("%d true 0 1000000 <nil> [some arguments]", cmd.Process.Pid)
	if len(lines) != 3 || lines[0] != want || !strings.HasSuffix(lines[1], "true 0 1000000 <nil> [child]") || lines[2] != "<nil>" {
		t.Errorf("%s\nwant %s, and a child with the same slack", out, want)
	}
}
