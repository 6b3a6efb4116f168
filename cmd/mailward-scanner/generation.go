package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// watchEvery is how often the managed sets are looked at.
	watchEvery = time.Second
	// readyLimit is how long workers may take to compile rules that were tried.
	readyLimit = time.Minute
)

// generation is workers that match the same rules. When rules change, a new one
// is started, and the old one ends after what it has in hand: in between both
// take mails, and none is turned away.
type generation struct {
	opt    options
	log    *slog.Logger
	socket *os.File
	told   *os.File
	files  ruleFiles
	rules  *os.File // files, as workers read them

	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	ready  chan struct{} // closed when the first worker serves
}

// firstRules reads the rules at the start. Managed sets that do not compile are
// left out then, since somebody has to be able to mend them in the web UI; the
// gateway sees by the fingerprint that they are not in force, and is told why.
// Files that are switched off stay off.
func firstRules(opt options, log *slog.Logger) (files ruleFiles, sealed *os.File, problem error, err error) {
	if files, err = readRules(opt); err != nil {
		return files, nil, nil, err
	}
	managed, merr := readManaged(opt.Managed)
	files.Managed.Off = managed.Off
	if merr == nil && len(managed.Sets) > 0 {
		with := files
		with.Managed = managed
		if sealed, merr = tryRules(opt, with); merr == nil {
			return with, sealed, nil, nil
		}
	}
	if merr != nil {
		log.Error("the managed rule sets are not in force", "error", merr)
	}
	sealed, err = tryRules(opt, files)
	return files, sealed, merr, err
}

// tryRules compiles the rules in a process of their own, since hostile ones must
// not harm the parent, and returns them as workers get them.
func tryRules(opt options, files ruleFiles) (*os.File, error) {
	sealed, err := files.sealed()
	if err != nil {
		return nil, err
	}
	cmd := childCommand(opt, "--check-rules", "--rules-fd", "3")
	cmd.ExtraFiles = []*os.File{sealed}
	cmd.Stdout, cmd.Stderr = nil, nil
	if out, err := cmd.CombinedOutput(); err != nil {
		sealed.Close()
		return nil, errors.New(strings.TrimSpace(strings.TrimPrefix(string(out), "mailward-scanner: ")))
	}
	return sealed, nil
}

func (p *parent) start(ctx context.Context, files ruleFiles, rules *os.File) *generation {
	ctx, cancel := context.WithCancel(ctx)
	g := &generation{opt: p.opt, log: p.log, socket: p.socket, told: p.told, files: files, rules: rules, cancel: cancel, ready: make(chan struct{})}
	for range workerCount(p.opt) {
		g.wg.Go(func() { g.keep(ctx) })
	}
	return g
}

// end lets the workers finish what they have in hand.
func (g *generation) end() {
	g.cancel()
	g.wg.Wait()
	g.rules.Close()
}

// watch takes over new rules: at SIGHUP those of all folders, and by itself what
// the gateway has written.
func (p *parent) watch(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	var inFolders error // what is wrong in the folders stays wrong when a set changes
	for {
		folders := false
		select {
		case <-ctx.Done():
			return
		case <-hup:
			folders = true
		case <-t.C:
			if managedMark(p.opt) == p.seen {
				continue
			}
		}
		p.seen = managedMark(p.opt) // before they are read: what comes meanwhile is seen the next time
		err := p.reload(ctx, folders)
		if err != nil {
			p.log.Error("new rules are not taken over, the old ones stay", "error", err.Error())
		}
		if folders {
			inFolders = err
		}
		p.note(cmp.Or(err, inFolders))
	}
}

// noteFile makes memory that the parent writes and workers read.
func noteFile() (write, read *os.File, err error) {
	fd, err := unix.MemfdCreate("problem", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("make memory file: %w", err)
	}
	write = os.NewFile(uintptr(fd), "problem")
	if err = write.Truncate(maxProblem); err == nil {
		read, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	if err != nil {
		write.Close()
		return nil, nil, fmt.Errorf("make memory file: %w", err)
	}
	return write, read, nil
}

// note lets workers say why the newest rules are not in force; nil: they are. One
// write, so that a reader sees one or the other.
func (p *parent) note(problem error) {
	text := make([]byte, maxProblem)
	if problem != nil {
		copy(text, problem.Error())
	}
	if _, err := p.problem.WriteAt(text, 0); err != nil {
		p.log.Warn("state of the rules not noted", "error", err)
	}
}

// managedMark changes with the file of the managed sets, which is replaced and
// never written to.
func managedMark(opt options) string {
	if opt.Managed == "" {
		return ""
	}
	st, err := os.Stat(filepath.Join(opt.Managed, managedFile))
	if err != nil {
		return ""
	}
	inode := uint64(0)
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		inode = s.Ino
	}
	return fmt.Sprint(st.Size(), st.ModTime().UnixNano(), inode)
}

// reload starts a generation with the new rules, if they compile, and retires
// the old one once the new one serves.
func (p *parent) reload(ctx context.Context, folders bool) error {
	files := p.gen.files
	if folders {
		var err error
		if files, err = readRules(p.opt); err != nil {
			return err
		}
	}
	var err error
	if files.Managed, err = readManaged(p.opt.Managed); err != nil {
		return err
	}
	if sameRules(files, p.gen.files) {
		return nil
	}
	sealed, err := tryRules(p.opt, files)
	if err != nil {
		return err
	}
	next, old := p.start(ctx, files, sealed), p.gen
	select {
	case <-next.ready:
	case <-ctx.Done():
	case <-time.After(readyLimit):
		next.end()
		return errors.New("workers with the new rules do not get ready")
	}
	p.gen = next
	p.retired.Go(old.end)
	p.log.Info("rules taken over", "managed", files.Managed.Fingerprint())
	return nil
}

// keep runs one worker after the other. The thread is kept, since the kernel
// ends a worker with the thread that started it.
func (g *generation) keep(ctx context.Context) {
	runtime.LockOSThread()
	backoff := 50 * time.Millisecond
	for ctx.Err() == nil {
		begin := time.Now()
		err := g.runOne(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > 10*time.Second {
			backoff = 50 * time.Millisecond
		}
		if err != nil {
			g.log.Warn("worker ended, starting another", "error", err.Error())
			select {
			case <-ctx.Done():
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, 5*time.Second)
		}
	}
}

func (g *generation) runOne(ctx context.Context) error {
	told, tell, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe for a worker: %w", err)
	}
	defer told.Close()
	cmd := childCommand(g.opt, "--worker", "--rules-fd", strconv.Itoa(rulesFD))
	if g.opt.User != "" {
		cmd.Args = append(cmd.Args, "--user", g.opt.User, "--jail", g.opt.Jail)
	}
	cmd.ExtraFiles = []*os.File{g.socket, g.rules, tell, g.told}
	cmd.SysProcAttr = attributes()
	err = cmd.Start()
	tell.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if n, _ := told.Read(make([]byte, 1)); n == 1 {
		g.once.Do(func() { close(g.ready) })
	}
	return cmd.Wait()
}
