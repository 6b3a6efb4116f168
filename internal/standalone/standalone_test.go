package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func config(t *testing.T) Config {
	t.Helper()
	// Unix socket paths are short: t.TempDir() would be too long.
	dir, err := os.MkdirTemp("", "mws")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return Config{DataDir: filepath.Join(dir, "d"), Redis: true, Log: slog.New(slog.DiscardHandler)}
}

func start(t *testing.T, cfg Config) *Stack {
	t.Helper()
	s, err := Start(context.Background(), cfg)
	if err != nil {
		if os.Getenv("MAILWARD_TEST_REQUIRE") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

func redisAnswers(cfg Config) bool {
	return ask(filepath.Join(cfg.DataDir, "run", "redis.sock"), "PING\r\n", "+PONG") == nil
}

func TestStart_Refuses(t *testing.T) {
	cfg := config(t)
	cfg.DataDir = "relative"
	if _, err := Start(context.Background(), cfg); err == nil {
		t.Error("a relative folder was taken")
	}
	cfg.DataDir = "/tmp/" + strings.Repeat("x", 90)
	if _, err := Start(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a folder that is too long for sockets: %v", err)
	}
	cfg = config(t)
	cfg.Redis, cfg.Scanner, cfg.ScannerBinary = false, true, "/nonexistent"
	if _, err := Start(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a scanner that is not there: %v", err)
	}
	if Running(cfg.DataDir) {
		t.Error("a start that failed keeps the folder")
	}
}

func TestStart_FolderIsOurs(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	if _, err := Start(context.Background(), cfg); !errors.Is(err, ErrLocked) {
		t.Errorf("a second start: %v", err)
	}
	if !Running(cfg.DataDir) {
		t.Error("nobody seems to use the folder")
	}
	s.Stop(context.Background())
	if Running(cfg.DataDir) || redisAnswers(cfg) {
		t.Error("the folder or the server is still in use")
	}
}

func TestSupervision_DeadServerComesBack(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	for range 3 {
		c := s.children[0]
		c.mu.Lock()
		pid := c.proc.Pid
		c.mu.Unlock()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wait(t, "a new server", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.proc != nil && c.proc.Pid != pid
		})
		wait(t, "an answer", func() bool { return redisAnswers(cfg) })
	}
}

// TestClamdTemp: clamd's temporary files are in memory, and go with it or, when
// it was killed, with the next start.
func TestClamdTemp(t *testing.T) {
	s := &Stack{cfg: config(t)}
	dir := s.cfg.DataDir
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil { // as older versions had it
		t.Fatal(err)
	}
	first, err := s.clamdTemp(dir, account{})
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(first) != sharedMemory || s.scratch != first {
		t.Fatalf("they are in %s", first)
	}
	t.Cleanup(func() { os.RemoveAll(first) })
	next := &Stack{cfg: s.cfg} // the first was killed
	second, err := next.clamdTemp(dir, account{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed one left is still there: %v", err)
	}
	next.Stop(context.Background())
	if _, err := os.Stat(second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the files outlive clamd: %v", err)
	}
}

// TestLeftovers ends a server that a killed process has left behind, and spares
// a stranger that has got its number since.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	left, stranger := exec.Command("sleep", "600"), exec.Command("sleep", "600")
	for name, cmd := range map[string]*exec.Cmd{"left": left, "stranger": stranger} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		began := startTime(cmd.Process.Pid)
		if name == "stranger" {
			began = "1"
		}
		if err := os.WriteFile(filepath.Join(dir, name+".pid"), fmt.Appendf(nil, "%d %s\n", cmd.Process.Pid, began), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "nonsense.pid"), []byte("\x00-1 x"), 0o600); err != nil {
		t.Fatal(err)
	}
	go left.Wait() // We are its parent here, so it would stay as a zombie.
	if err := endLeftovers(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if startTime(left.Process.Pid) != "" {
		t.Error("the server that was left behind still runs")
	}
	if startTime(stranger.Process.Pid) == "" {
		t.Error("a stranger was ended")
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) > 0 {
		t.Errorf("pid files are left: %v", files)
	}
}

func TestTrimLog(t *testing.T) {
	p := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(p, []byte(strings.Repeat("0123456789abcde\n", maxLogBytes/16+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	trimLog(p)
	b, err := os.ReadFile(p)
	if err != nil || len(b) > maxLogBytes/2 || !strings.HasPrefix(string(b), "0123") {
		t.Errorf("%d bytes, start %.20q, %v", len(b), b, err)
	}
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}
