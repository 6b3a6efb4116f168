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
	if err := restrict(opt); err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(listenerFD, "socket"))
	if err != nil {
		return fmt.Errorf("take over the socket: %w", err)
	}
	set, err := loadRules(opt)
	if err != nil {
		return err
	}
	m, err := newMatcher(set.rules)
	if err != nil {
		return err
	}
	w := &sidecar.Worker{Matcher: m, Limits: sidecar.DefaultLimits(), Log: log, Exit: func() { os.Exit(3) }, MaxRequests: 20_000,
		About: sidecar.Response{Version: "libyara " + yaraVersion, RulesVersion: set.version, RulesTime: set.newest, Rules: set.count}}
	return w.Run(ctx, l.(*net.UnixListener))
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
	// No program that is started later may gain rights (prctl(2)).
	const prSetNoNewPrivs = 38
	if _, _, e := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 && e != syscall.ENOTSUP {
		return fmt.Errorf("give up rights: %w", e)
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
	set, err := loadRules(opt)
	if err != nil {
		return 0, err
	}
	return set.count, nil
}

// loadRules compiles the built-in rules and those of all folders. Each file has
// a namespace of its own, so that two may use the same name.
func loadRules(opt options) (ruleSet, error) {
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
	set := ruleSet{}
	hash := sha256.New()
	var problems []error
	add := func(space string, b []byte) {
		hash.Write([]byte(space))
		hash.Write(b)
		if err := c.AddString(string(b), space); err != nil {
			for _, m := range c.Errors {
				problems = append(problems, fmt.Errorf("%s:%d: %s", space, m.Line, m.Text))
			}
			c.Errors = nil
			if len(problems) == 0 {
				problems = append(problems, fmt.Errorf("%s: %w", space, err))
			}
		}
	}
	if !opt.NoBuiltinRules {
		if err := addFS(rules.Files, "mailward/", add, nil); err != nil {
			return set, err
		}
	}
	for _, dir := range opt.Rules {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // A folder that nobody has made yet has no rules.
		}
		if err := addFS(os.DirFS(dir), filepath.Base(dir)+"/", add, &set.newest); err != nil {
			return set, fmt.Errorf("read rules in %s: %w", dir, err)
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

func addFS(fsys fs.FS, space string, add func(string, []byte), newest *time.Time) error {
	return fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yar", ".yara"}, filepath.Ext(p)) {
			return err
		}
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && newest != nil && info.ModTime().After(*newest) {
			*newest = info.ModTime()
		}
		add(space+p, b)
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
