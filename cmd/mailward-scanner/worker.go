package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hillu/go-yara/v4"

	"mailward/policy"
	"mailward/scanner/rules"
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
	// The rules are read as bytes while folders can be seen, and compiled when
	// there is nothing left to harm.
	files, err := readRules(opt)
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
	m, err := newMatcher(set.rules)
	if err != nil {
		return err
	}
	inflate, err := newInflate()
	if err != nil {
		return err
	}
	w := &sidecar.Worker{Matcher: m, Inflate: inflate, Limits: sidecar.DefaultLimits(), Log: log, Exit: func() { os.Exit(3) }, MaxRequests: 20_000,
		About: sidecar.Response{Version: "libyara " + yaraVersion, RulesVersion: set.version, RulesTime: set.newest, Rules: set.count}}
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

// yaraVersion is what we are built against.
const yaraVersion = "4.5"

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

// ruleSet is all rules, compiled.
type ruleSet struct {
	rules   *yara.Rules
	count   int
	version string // hash over the files
	newest  time.Time
}

// externals are the variables that rules may use beside the bytes.
var externals = map[string]any{"part_name": "", "part_ext": "", "part_type": "", "true_type": "", "part_depth": int64(0), "in_archive": false}

func checkRules(opt options) (int, error) {
	files, err := readRules(opt)
	if err != nil {
		return 0, err
	}
	set, err := compileRules(files)
	return set.count, err
}

// ruleFile is one file of rules, not compiled yet.
type ruleFile struct {
	space string // its namespace, so that two files may use the same name
	text  []byte
	time  time.Time
}

// readRules reads the built-in rules and those of all folders.
func readRules(opt options) ([]ruleFile, error) {
	var files []ruleFile
	if !opt.NoBuiltinRules {
		if err := addFS(&files, rules.Files, "mailward/"); err != nil {
			return nil, err
		}
	}
	for _, dir := range opt.Rules {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // A folder that nobody has made yet has no rules.
		}
		if err := addFS(&files, os.DirFS(dir), filepath.Base(dir)+"/"); err != nil {
			return nil, fmt.Errorf("read rules in %s: %w", dir, err)
		}
	}
	return files, nil
}

// compileRules compiles all files into one set, and names every mistake.
func compileRules(files []ruleFile) (ruleSet, error) {
	c, err := yara.NewCompiler()
	if err != nil {
		return ruleSet{}, fmt.Errorf("make YARA compiler: %w", err)
	}
	defer c.Destroy()
	c.DisableIncludes() // A rule must not read other files.
	for name, v := range externals {
		if err := c.DefineVariable(name, v); err != nil {
			return ruleSet{}, fmt.Errorf("define %s: %w", name, err)
		}
	}
	var set ruleSet
	var problems []error
	hash := sha256.New()
	for _, f := range files {
		hash.Write([]byte(f.space))
		hash.Write(f.text)
		if f.time.After(set.newest) {
			set.newest = f.time
		}
		if err := c.AddString(string(f.text), f.space); err != nil {
			for _, m := range c.Errors {
				problems = append(problems, fmt.Errorf("%s:%d: %s", f.space, m.Line, m.Text))
			}
			c.Errors = nil
			if len(problems) == 0 {
				problems = append(problems, fmt.Errorf("%s: %w", f.space, err))
			}
		}
	}
	if len(problems) > 0 {
		return set, errors.Join(problems...)
	}
	if set.rules, err = c.GetRules(); err != nil {
		return set, fmt.Errorf("compile rules: %w", err)
	}
	set.count, set.version = len(set.rules.GetRules()), hex.EncodeToString(hash.Sum(nil))[:12]
	return set, nil
}

func addFS(files *[]ruleFile, fsys fs.FS, space string) error {
	return fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yar", ".yara"}, filepath.Ext(p)) {
			return err
		}
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		f := ruleFile{space: space + p, text: b}
		if info, err := d.Info(); err == nil {
			f.time = info.ModTime()
		}
		*files = append(*files, f)
		return nil
	})
}

// matcher matches with one libyara scanner, which is used again for each piece.
type matcher struct{ s *yara.Scanner }

// ruleTimeout is for one piece. libyara counts in whole seconds; less than one
// would be no limit at all.
const ruleTimeout = 10 * time.Second

func newMatcher(r *yara.Rules) (*matcher, error) {
	s, err := yara.NewScanner(r)
	if err != nil {
		return nil, fmt.Errorf("make YARA scanner: %w", err)
	}
	s.SetTimeout(ruleTimeout)
	s.SetFlags(yara.ScanFlagsFastMode)
	return &matcher{s}, nil
}

// Match implements [sidecar.Matcher].
func (m *matcher) Match(data []byte, v sidecar.Vars) ([]policy.Finding, error) {
	for name, val := range map[string]any{"part_name": v.Name, "part_ext": v.Ext, "part_type": v.ContentType, "true_type": v.TrueType,
		"part_depth": int64(v.Depth), "in_archive": v.Archived} {
		if s, ok := val.(string); ok {
			val = strings.ReplaceAll(s, "\x00", "")
		}
		if err := m.s.DefineVariable(name, val); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	var hits yara.MatchRules
	if len(data) == 0 {
		data = []byte{'\n'} // Rules about names work on an empty piece too.
	}
	if err := m.s.SetCallback(&hits).ScanMem(data); err != nil {
		return nil, err
	}
	var out []policy.Finding
	for _, h := range hits {
		out = append(out, finding(h))
	}
	return out, nil
}

// finding reads what a rule says of itself. A rule without a class is suspicious.
func finding(h yara.MatchRule) policy.Finding {
	f := policy.Finding{Name: h.Rule, Class: policy.Suspicious, Score: 5, Meta: map[string]string{"file": h.Namespace}}
	for _, m := range h.Metas {
		f.Meta[m.Identifier] = strings.ToValidUTF8(fmt.Sprint(m.Value), "\uFFFD")
	}
	if c := policy.Class(f.Meta["class"]); slices.Contains(policy.Classes(), c) && c != policy.Clean {
		f.Class = c
	}
	if n, err := strconv.ParseFloat(f.Meta["score"], 64); err == nil && n >= 0 && n <= 100 {
		f.Score = n
	}
	f.Reason = f.Meta["description"]
	if f.Reason == "" {
		f.Reason = "the YARA rule " + h.Rule + " matches"
	}
	return f
}
