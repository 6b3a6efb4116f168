package standalone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits of supervision.
const (
	startLimit  = 60 * time.Second // until a server answers for the first time
	stopLimit   = 15 * time.Second // until a server that was told to end is killed
	maxBackoff  = 5 * time.Second  // between restarts of a server that keeps dying
	maxLogBytes = 10 << 20         // of a server's log file; the older half goes
)

// child is one supervised server. Its loop goroutine owns cmd.
type child struct {
	name     string
	log      *slog.Logger
	pidFile  string
	logFile  string
	command  func() *exec.Cmd
	ready    func(context.Context) error
	stopWith syscall.Signal

	mu      sync.Mutex // guards proc, ending
	proc    *os.Process
	ending  bool
	stopped chan struct{} // closed when the loop is over
	wake    chan struct{} // closed by stop, ends a back-off
}

// run starts the server, waits until it answers, and keeps it running.
func (c *child) run(ctx context.Context) error {
	c.stopped, c.wake = make(chan struct{}), make(chan struct{})
	started := make(chan error, 1)
	go c.loop(started)
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var last error
	for {
		if last = c.ready(ctx); last == nil {
			c.log.Info("server started", "server", c.name)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w; its log says: %s", c.name, last, c.lastLog())
		case <-c.stopped:
			return fmt.Errorf("%s ended at once; its log says: %s", c.name, c.lastLog())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// loop starts the process again and again until stop. The thread that forks is
// kept: the kernel's parent-death signal follows the thread, not the process.
func (c *child) loop(started chan<- error) {
	runtime.LockOSThread()
	defer close(c.stopped)
	backoff := 100 * time.Millisecond
	for first := true; ; first = false {
		begin := time.Now()
		cmd, err := c.start()
		if first {
			started <- err
			if err != nil {
				return
			}
		}
		if err == nil {
			err = cmd.Wait()
			os.Remove(c.pidFile)
		}
		c.mu.Lock()
		c.proc = nil
		ending := c.ending
		c.mu.Unlock()
		if ending {
			return
		}
		if time.Since(begin) > 30*time.Second {
			backoff = 100 * time.Millisecond
		}
		c.log.Error("server ended, starting it again", "server", c.name, "error", fmt.Sprint(err), "after", backoff.String())
		select {
		case <-c.wake:
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func (c *child) start() (*exec.Cmd, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return nil, errors.New("ending")
	}
	trimLog(c.logFile)
	out, err := os.OpenFile(c.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := c.command()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// A group of its own: Ctrl-C in the terminal reaches us alone, and we stop
	// the servers in order.
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = c.stopWith
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.proc = cmd.Process
	if err := os.WriteFile(c.pidFile, []byte(fmt.Sprintf("%d %s\n", cmd.Process.Pid, startTime(cmd.Process.Pid))), 0o600); err != nil {
		c.log.Warn("pid file not written", "server", c.name, "error", err)
	}
	return cmd, nil
}

// stop ends the server and waits for its end.
func (c *child) stop(ctx context.Context) {
	c.mu.Lock()
	if !c.ending {
		c.ending = true
		close(c.wake)
	}
	if c.proc != nil {
		c.proc.Signal(c.stopWith)
	}
	c.mu.Unlock()
	select {
	case <-c.stopped:
		return
	case <-time.After(stopLimit):
	case <-ctx.Done():
	}
	c.mu.Lock()
	if c.proc != nil {
		syscall.Kill(-c.proc.Pid, syscall.SIGKILL)
	}
	c.mu.Unlock()
	<-c.stopped
}

func (c *child) lastLog() string {
	b, err := os.ReadFile(c.logFile)
	if err != nil {
		return "(no log)"
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}

// trimLog keeps the newer half of a log that has grown too big.
func trimLog(path string) {
	st, err := os.Stat(path)
	if err != nil || st.Size() < maxLogBytes {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	b := make([]byte, maxLogBytes/2)
	n, err := f.ReadAt(b, st.Size()-maxLogBytes/2)
	if err != nil && err != io.EOF {
		return
	}
	if i := bytes.IndexByte(b[:n], '\n'); i >= 0 {
		os.WriteFile(path, b[i+1:n], 0o640)
	}
}

// endLeftovers ends servers that an earlier process left behind when it was
// killed. A pid alone proves nothing, since pids are used again: the time that
// the process started must match too.
func endLeftovers(dir string, log *slog.Logger) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.pid"))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("read pid file: %w", err)
		}
		var pid int
		var start string
		if _, err := fmt.Sscan(string(b), &pid, &start); err == nil && pid > 1 && startTime(pid) == start {
			log.Warn("ending a server that was left behind", "server", strings.TrimSuffix(filepath.Base(f), ".pid"), "pid", pid)
			wg.Go(func() { endProcess(pid, start) })
		}
		os.Remove(f)
	}
	wg.Wait()
	return nil
}

// endProcess ends a process group that is not our child, politely first. SIGINT
// is PostgreSQL's fast shutdown; the others end on it too.
func endProcess(pid int, start string) {
	syscall.Kill(pid, syscall.SIGINT)
	deadline := time.Now().Add(stopLimit)
	for startTime(pid) == start {
		if time.Now().After(deadline) {
			syscall.Kill(-pid, syscall.SIGKILL)
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// startTime is when a process started, in clock ticks since boot (proc(5),
// field 22 of stat); "" if there is none, or only its zombie.
func startTime(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	i := bytes.LastIndexByte(b, ')') // the name may hold anything
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 || f[0] == "Z" {
		return ""
	}
	return f[19]
}
