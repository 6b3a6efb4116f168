package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// listenerFD is where a worker finds the socket.
const listenerFD = 3

// runParent listens, and keeps workers that serve. It never reads a mail.
func runParent(ctx context.Context, opt options, log *slog.Logger) error {
	if err := compileInChild(opt); err != nil {
		return fmt.Errorf("the YARA rules do not compile: %w", err)
	}
	mode, err := strconv.ParseUint(opt.SocketMode, 8, 32)
	if err != nil {
		return fmt.Errorf("--socket-mode %q is not octal", opt.SocketMode)
	}
	l, err := listen(opt.Socket, os.FileMode(mode))
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		return fmt.Errorf("hand the socket to workers: %w", err)
	}
	defer f.Close()
	if opt.User != "" {
		if _, _, err := userIDs(opt.User); err != nil {
			return err
		}
		// The folder that a worker sees as all there is: empty, and not its own.
		opt.Jail = opt.Socket + ".jail"
		if err := os.Mkdir(opt.Jail, 0o555); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make a folder to lock workers into: %w", err)
		}
	}
	p := &parent{opt: opt, log: log, socket: f, workers: map[*os.Process]bool{}}
	go p.reloadOnHangup(ctx)
	var wg sync.WaitGroup
	for range workerCount(opt) {
		wg.Go(func() { p.keep(ctx) })
	}
	log.Info("scanner ready", "socket", opt.Socket, "workers", workerCount(opt), "user", opt.User)
	<-ctx.Done()
	p.signal(syscall.SIGTERM)
	wg.Wait()
	return nil
}

// listen takes the place of a socket that a dead scanner has left. A live one
// is not pushed aside.
func listen(path string, mode os.FileMode) (*net.UnixListener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another scanner listens on %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("set mode of socket: %w", err)
	}
	return l, nil
}

// userIDs looks the workers' user up.
func userIDs(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("the user %s does not exist: `useradd --system %s`", name, name)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("read ids of user %s: %w", name, err)
	}
	return uid, gid, nil
}

// parent keeps the workers.
type parent struct {
	opt    options
	log    *slog.Logger
	socket *os.File

	mu      sync.Mutex // guards workers
	workers map[*os.Process]bool
}

// keep runs one worker after the other. The thread is kept, since the kernel
// ends a worker with the thread that started it.
func (p *parent) keep(ctx context.Context) {
	runtime.LockOSThread()
	backoff := 50 * time.Millisecond
	for ctx.Err() == nil {
		begin := time.Now()
		err := p.runOne(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > 10*time.Second {
			backoff = 50 * time.Millisecond
		}
		if err != nil {
			p.log.Warn("worker ended, starting another", "error", err.Error())
			select {
			case <-ctx.Done():
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, 5*time.Second)
		}
	}
}

func (p *parent) runOne(ctx context.Context) error {
	cmd := childCommand(p.opt, "--worker")
	if p.opt.User != "" {
		cmd.Args = append(cmd.Args, "--user", p.opt.User, "--jail", p.opt.Jail)
	}
	cmd.ExtraFiles = []*os.File{p.socket}
	cmd.SysProcAttr = p.attributes()
	if err := cmd.Start(); err != nil {
		return err
	}
	p.mu.Lock()
	p.workers[cmd.Process] = true
	p.mu.Unlock()
	if ctx.Err() != nil {
		cmd.Process.Signal(syscall.SIGTERM)
	}
	err := cmd.Wait()
	p.mu.Lock()
	delete(p.workers, cmd.Process)
	p.mu.Unlock()
	return err
}

// attributes take from a worker what it does not need: the network, and its life
// when we are gone. Our user it gives up by itself, in confine.
func (p *parent) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		a.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC
	}
	return a
}

// childCommand runs our own program again. Its path may lie below a folder that
// the worker's user cannot enter, so it is started through the open file.
func childCommand(opt options, flags ...string) *exec.Cmd {
	args := append([]string{}, flags...)
	for _, r := range opt.Rules {
		args = append(args, "--rules", r)
	}
	if opt.NoBuiltinRules {
		args = append(args, "--no-builtin-rules")
	}
	args = append(args, "--memory-limit", strconv.FormatInt(opt.MemoryLimit, 10))
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "mailward-scanner"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Dir = "/"
	cmd.Env = []string{"GOMEMLIMIT=" + strconv.FormatInt(opt.MemoryLimit*3/4, 10) + "MiB", "PATH=/usr/bin:/bin"}
	return cmd
}

// compileInChild tries the rules in a process of their own: hostile ones must
// not harm the parent.
func compileInChild(opt options) error {
	cmd := childCommand(opt, "--check-rules")
	cmd.Stdout, cmd.Stderr = nil, nil
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s", out)
	}
	return nil
}

// reloadOnHangup replaces the workers, one request at a time, when the rules
// compile. When they do not, the old ones stay.
func (p *parent) reloadOnHangup(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := compileInChild(p.opt); err != nil {
				p.log.Error("new rules do not compile, the old ones stay", "error", err.Error())
				continue
			}
			p.signal(syscall.SIGTERM)
			p.log.Info("rules read again")
		}
	}
}

func (p *parent) signal(sig os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.workers {
		w.Signal(sig)
	}
}
