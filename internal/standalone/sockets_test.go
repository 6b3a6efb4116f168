package standalone

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// No other user of the machine may talk to Redis, which asks for no password,
// or put a socket in the place of clamd's while that is down.
func TestSockets_OtherUsersStayOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs the servers as other users")
	}
	dir, err := os.MkdirTemp("", "mws")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), Config{DataDir: filepath.Join(dir, "d"), Redis: true, Clamd: true, TestSignaturesOnly: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		if os.Getenv("MAILWARD_TEST_REQUIRE") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(t.Context()) })
	nobody := func(name string, args ...string) error {
		cmd := exec.Command(name, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd.Run()
	}
	run := filepath.Join(dir, "d", "run")
	for _, sock := range []string{"redis.sock", "clamd.sock"} {
		if err := ask(filepath.Join(run, sock), map[string]string{"redis.sock": "PING\r\n", "clamd.sock": "zPING\x00"}[sock], map[string]string{"redis.sock": "+PONG", "clamd.sock": "PONG"}[sock]); err != nil {
			t.Errorf("we cannot reach %s ourselves: %v", sock, err)
		}
		if nobody("test", "-S", filepath.Join(run, sock)) == nil {
			t.Errorf("another user can reach %s", sock)
		}
	}
	for _, where := range []string{run, filepath.Join(run, "scan"), filepath.Join(run, "db")} {
		if nobody("touch", filepath.Join(where, "planted.sock")) == nil {
			t.Errorf("another user can make files in %s", where)
		}
	}
	if err := nobody("test", "-d", filepath.Join(dir, "d")); err != nil {
		t.Error("the test itself shows nothing: the user cannot even see the folder")
	}
}
