package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"

	"mailward/scanner/sidecar"
)

// runWorker serves mails from the socket that the parent has opened.
func runWorker(ctx context.Context, opt options, log *slog.Logger) error {
	l, err := net.FileListener(os.NewFile(listenerFD, "socket"))
	if err != nil {
		return fmt.Errorf("take over the socket: %w", err)
	}
	// One request at a time needs no second thread for Go, and garbage is collected
	// seldom: the memory limit sees to it that it is collected in time.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
	// The rules come as bytes from the parent, which has had them tried, and are
	// compiled when there is nothing left to harm.
	files, err := rulesFrom(os.NewFile(uintptr(opt.RulesFD), "rules"))
	if err != nil {
		return err
	}
	if err := confine(opt); err != nil {
		return err
	}
	if err := restrict(opt); err != nil {
		return err
	}
	set, err := compileRules(files)
	if err != nil {
		return err
	}
	m, err := newMatcher(set.compiled, set.managed)
	if err != nil {
		return err
	}
	inflate, err := newInflate()
	if err != nil {
		return err
	}
	if _, err := os.NewFile(readyFD, "ready").Write([]byte{1}); err != nil {
		return fmt.Errorf("tell that we are ready: %w", err)
	}
	w := &sidecar.Worker{Matcher: m, Compiler: compiler{set, os.NewFile(problemFD, "problem")}, Inflate: inflate, Limits: sidecar.DefaultLimits(), Log: log, Exit: func() { os.Exit(3) }, MaxRequests: 20_000,
		About: sidecar.Response{Version: "libyara " + yaraVersion, RulesVersion: set.version, RulesTime: set.newest, Rules: set.count, Managed: set.fingerprint}}
	return w.Run(ctx, l.(*net.UnixListener))
}

// confine locks the worker into an empty folder and changes to its own user.
// Without this a worker that was taken over could put itself in clamd's place,
// since both run as the same user.
func confine(opt options) error {
	if opt.Jail == "" {
		return nil
	}
	uid, gid, err := userIDs(opt.User)
	if err != nil {
		return err
	}
	if err := syscall.Chroot(opt.Jail); err != nil {
		return fmt.Errorf("lock into %s: %w", opt.Jail, err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("enter the locked folder: %w", err)
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("change to user %s: %w", opt.User, err)
	}
	// The change of user has cleared what ends us with our parent (prctl(2)).
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0); e != 0 {
		return fmt.Errorf("tie our life to the parent's: %w", e)
	}
	if os.Getppid() == 1 {
		return errors.New("the parent is gone already")
	}
	return nil
}

// restrict bounds what a worker that was taken over could do.
func restrict(opt options) error {
	limits := map[int]uint64{syscall.RLIMIT_AS: uint64(opt.MemoryLimit+1024) << 20, syscall.RLIMIT_CORE: 0, syscall.RLIMIT_FSIZE: 0, syscall.RLIMIT_NOFILE: 128}
	for res, n := range limits {
		if err := syscall.Setrlimit(res, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("set limit %d: %w", res, err)
		}
	}
	return nil
}
