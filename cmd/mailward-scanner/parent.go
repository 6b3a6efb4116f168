package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Where a worker finds the socket, the rules, and whom to tell that it is ready.
const (
	listenerFD = 3 + iota
	rulesFD
	readyFD
	problemFD
)

// maxProblem bounds what is said about rules that were not taken over, in bytes.
const maxProblem = 4096

// runParent listens, and keeps workers that serve. It never reads a mail.
func runParent(ctx context.Context, opt options, log *slog.Logger) error {
	seen := managedMark(opt) // before they are read: the gateway may write new ones at any time
	files, sealed, problem, err := firstRules(opt, log)
	if err != nil {
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
	p := &parent{opt: opt, log: log, socket: f, seen: seen}
	if p.problem, p.told, err = noteFile(); err != nil {
		return err
	}
	defer p.problem.Close()
	defer p.told.Close()
	p.note(problem)
	p.gen = p.start(ctx, files, sealed)
	log.Info("scanner ready", "socket", opt.Socket, "workers", workerCount(opt), "user", opt.User)
	p.watch(ctx)
	p.gen.end()
	p.retired.Wait()
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

// parent keeps the workers. One goroutine uses it.
type parent struct {
	opt     options
	log     *slog.Logger
	socket  *os.File
	problem *os.File // what the workers say of rules that were not taken over
	told    *os.File // the same, as they get it: only to be read
	seen    string   // mark of the managed sets that were read last
	gen     *generation
	retired sync.WaitGroup // generations that finish what is under way
}

// attributes take from a worker what it does not need: the network, and its life
// when we are gone. Our user it gives up by itself, in confine.
func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		a.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC
	}
	return a
}

// childCommand runs our own program again. Its path may lie below a folder that
// the worker's user cannot enter, so it is started through the open file.
func childCommand(opt options, flags ...string) *exec.Cmd {
	args := append(slices.Clone(flags), "--memory-limit", strconv.FormatInt(opt.MemoryLimit, 10))
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "mailward-scanner"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Dir = "/"
	cmd.Env = []string{"GOMEMLIMIT=" + strconv.FormatInt(opt.MemoryLimit*3/4, 10) + "MiB", "PATH=/usr/bin:/bin"}
	return cmd
}
