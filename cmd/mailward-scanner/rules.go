package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hillu/go-yara/v4"
	"golang.org/x/sys/unix"

	"mailward/scanner/rules"
	"mailward/scanner/sidecar"
)

// yaraVersion is what we are built against.
const yaraVersion = "4.5"

// managedFile is the bundle in the folder of managed sets.
const managedFile = "sets.json"

// managedSpace is before the id of a managed set in its namespace.
const managedSpace = "managed/"

// ownSpace is before the name of one of our own files in its namespace.
const ownSpace = "mailward/"

// maxRules bounds what all rules together may take, in bytes.
const maxRules = 64 << 20

// ruleSet is all rules, compiled.
type ruleSet struct {
	compiled    []compiledRules
	count       int
	version     string // hash over the files
	newest      time.Time
	fingerprint string // of the managed sets
	managed     map[string]sidecar.RuleSet
	spaces      []sidecar.RuleSpace
}

// compiledRules is rules that are matched together.
type compiledRules struct {
	own   string // as in [ruleFile]
	rules *yara.Rules
}

// externals are the variables that rules may use beside the bytes.
func externals() map[string]any {
	return map[string]any{"part_name": "", "part_ext": "", "part_type": "", "true_type": "", "part_depth": int64(0), "in_archive": false}
}

// ruleFile is one file of rules, not compiled yet.
type ruleFile struct {
	Space string    `json:"space"`         // its namespace, so that two files may use the same name
	Own   string    `json:"own,omitempty"` // its name in [rules.Files], if it is one of those
	Text  string    `json:"text"`
	Time  time.Time `json:"time"`
}

// ruleFiles is all that is to be compiled together.
type ruleFiles struct {
	Files   []ruleFile     `json:"files"`
	Managed sidecar.Bundle `json:"managed"`
}

func checkRules(opt options) (int, error) {
	var files ruleFiles
	var err error
	if opt.RulesFD > 0 {
		files, err = rulesFrom(os.NewFile(uintptr(opt.RulesFD), "rules"))
	} else if files, err = readRules(opt); err == nil {
		files.Managed, err = readManaged(opt.Managed)
	}
	if err != nil {
		return 0, err
	}
	set, err := compileRules(files)
	return set.count, err
}

// readRules reads the built-in rules and those of all folders.
func readRules(opt options) (ruleFiles, error) {
	var files ruleFiles
	if !opt.NoBuiltinRules {
		if err := files.addFS(rules.Files, ownSpace); err != nil {
			return files, err
		}
		for i, f := range files.Files {
			files.Files[i].Own = strings.TrimPrefix(f.Space, ownSpace)
		}
	}
	for _, dir := range opt.Rules {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // A folder that nobody has made yet has no rules.
		}
		if err := files.addFS(os.DirFS(dir), filepath.Base(dir)+"/"); err != nil {
			return files, fmt.Errorf("read rules in %s: %w", dir, err)
		}
	}
	return files, nil
}

// readManaged reads the sets that the gateway has written. None is no error.
func readManaged(dir string) (sidecar.Bundle, error) {
	if dir == "" {
		return sidecar.Bundle{}, nil
	}
	f, err := os.Open(filepath.Join(dir, managedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return sidecar.Bundle{}, nil
	}
	if err != nil {
		return sidecar.Bundle{}, fmt.Errorf("read managed rule sets: %w", err)
	}
	defer f.Close()
	return sidecar.ReadBundle(f)
}

func (files *ruleFiles) addFS(fsys fs.FS, space string) error {
	return fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yar", ".yara"}, filepath.Ext(p)) {
			return err
		}
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		f := ruleFile{Space: space + p, Text: string(b)}
		if info, err := d.Info(); err == nil {
			f.Time = info.ModTime()
		}
		files.Files = append(files.Files, f)
		return nil
	})
}

// sealed puts the rules into memory that nobody can change, for workers: what
// they compile is what was tried, whatever happens to the folders since.
func (files ruleFiles) sealed() (*os.File, error) {
	b, err := json.Marshal(files)
	if err != nil {
		return nil, fmt.Errorf("encode rules: %w", err)
	}
	if len(b) > maxRules {
		return nil, fmt.Errorf("the rules take %d bytes, over the limit of %d", len(b), maxRules)
	}
	fd, err := unix.MemfdCreate("rules", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "rules")
	if _, err = f.Write(b); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("fill memory file: %w", err)
	}
	return f, nil
}

// rulesFrom reads what sealed has written. Several processes share the file and
// its offset, so each reads by position.
func rulesFrom(f *os.File) (files ruleFiles, err error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxRules))
	if err == nil {
		err = json.Unmarshal(b, &files)
	}
	if err != nil {
		return files, fmt.Errorf("read rules of the parent: %w", err)
	}
	return files, nil
}

// newCompiler returns a compiler that knows our variables and reads no files.
func newCompiler() (*yara.Compiler, error) {
	c, err := yara.NewCompiler()
	if err != nil {
		return nil, fmt.Errorf("make YARA compiler: %w", err)
	}
	c.DisableIncludes() // A rule must not read other files.
	for name, v := range externals() {
		if err := c.DefineVariable(name, v); err != nil {
			c.Destroy()
			return nil, fmt.Errorf("define %s: %w", name, err)
		}
	}
	return c, nil
}

// compileRules compiles all files: each of our own by itself, since it is matched
// only with what it may find something in, and all others together. It names every
// mistake of the first file that has some: libyara's compiler is of no use after that.
func compileRules(files ruleFiles) (ruleSet, error) {
	set := ruleSet{managed: map[string]sidecar.RuleSet{}, fingerprint: files.Managed.Fingerprint()}
	hash := sha256.New()
	all := files.Files
	for _, m := range files.Managed.Sets {
		f := ruleFile{Space: managedSpace + m.ID, Text: m.Source}
		set.managed[f.Space] = m
		all = append(slices.Clip(all), f)
	}
	var groups []ruleGroup
	for _, f := range all {
		if set.managed[f.Space].ID == "" && slices.Contains(files.Managed.Off, f.Space) {
			set.spaces = append(set.spaces, sidecar.RuleSpace{Space: f.Space, Off: true, Rules: []string{}})
			continue
		}
		hash.Write([]byte(f.Space))
		hash.Write([]byte(f.Text))
		if f.Time.After(set.newest) {
			set.newest = f.Time
		}
		if n := len(groups); n == 0 || groups[n-1].own != f.Own {
			groups = append(groups, ruleGroup{own: f.Own})
		}
		last := &groups[len(groups)-1]
		last.files = append(last.files, f)
	}
	hash.Write([]byte(set.fingerprint))
	for _, g := range groups {
		r, err := set.compile(g)
		if err != nil {
			return set, err
		}
		set.compiled = append(set.compiled, compiledRules{g.own, r})
	}
	set.version = hex.EncodeToString(hash.Sum(nil))[:12]
	set.list()
	return set, nil
}

// ruleGroup is files that are compiled together.
type ruleGroup struct {
	own   string // as in [ruleFile]
	files []ruleFile
}

func (set *ruleSet) compile(g ruleGroup) (*yara.Rules, error) {
	c, err := newCompiler()
	if err != nil {
		return nil, err
	}
	defer c.Destroy()
	for _, f := range g.files {
		name := f.Space
		if m, ok := set.managed[f.Space]; ok {
			name = fmt.Sprintf("rule set %q", m.Name)
		}
		if err := addRules(c, f, name); err != nil {
			return nil, err
		}
	}
	r, err := c.GetRules()
	if err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	if g.own == "" {
		return r, nil
	}
	return compact(r)
}

// compact gives the same rules, without the 9 MB that libyara's compiler holds for
// more of them. Each of our files would cost every worker as much.
func compact(r *yara.Rules) (*yara.Rules, error) {
	defer r.Destroy()
	var b bytes.Buffer
	err := r.Write(&b)
	if err == nil {
		r, err = yara.ReadRules(&b)
	}
	if err != nil {
		return nil, fmt.Errorf("pack rules: %w", err)
	}
	return r, nil
}

// addRules compiles one file or set. Its mistakes are called by name.
func addRules(c *yara.Compiler, f ruleFile, name string) error {
	err := c.AddString(f.Text, f.Space)
	if err == nil {
		return nil
	}
	var problems []error
	for _, m := range c.Errors {
		if m.Line > 0 {
			problems = append(problems, fmt.Errorf("%s, line %d: %s", name, m.Line, m.Text))
		} else {
			problems = append(problems, fmt.Errorf("%s: %s", name, m.Text))
		}
	}
	if len(problems) == 0 {
		return fmt.Errorf("%s: %w", name, err)
	}
	return errors.Join(problems...)
}

// list notes which rules there are.
func (set *ruleSet) list() {
	at := map[string]int{}
	var all []yara.Rule
	for _, c := range set.compiled {
		all = append(all, c.rules.GetRules()...)
	}
	for _, r := range all {
		space := r.Namespace()
		i, ok := at[space]
		if !ok {
			i = len(set.spaces)
			at[space] = i
			set.spaces = append(set.spaces, sidecar.RuleSpace{Space: space, Set: set.managed[space].ID})
		}
		set.spaces[i].Rules = append(set.spaces[i].Rules, r.Identifier())
		set.count++
	}
}

// compiler is the worker's side of [sidecar.OpCompile].
type compiler struct {
	set     ruleSet
	problem *os.File // what [parent.note] has written last
}

// InForce implements [sidecar.Compiler].
func (c compiler) InForce() ([]sidecar.RuleSpace, string) {
	b, err := io.ReadAll(io.NewSectionReader(c.problem, 0, maxProblem))
	if err != nil {
		return c.set.spaces, ""
	}
	return c.set.spaces, strings.ToValidUTF8(strings.TrimRight(string(b), "\x00"), "\uFFFD")
}

// Compile implements [sidecar.Compiler].
func (compiler) Compile(s sidecar.RuleSet) (sidecar.Candidate, sidecar.Compiled) {
	out := sidecar.Compiled{OK: true}
	outline := sidecar.ReadOutline(s.Source)
	for _, i := range outline.Issues {
		out.Add(i)
	}
	if !out.OK {
		return nil, out
	}
	c, err := newCompiler()
	if err != nil {
		out.Add(sidecar.Issue{Error: true, Text: err.Error()})
		return nil, out
	}
	defer c.Destroy()
	space := managedSpace + s.ID
	err = c.AddString(s.Source, space)
	for _, list := range []struct {
		messages []yara.CompilerMessage
		bad      bool
	}{{c.Errors, true}, {c.Warnings, false}} {
		for _, m := range list.messages {
			out.Add(issueOf(m, space, list.bad, outline))
		}
	}
	if err != nil && out.OK {
		out.Add(sidecar.Issue{Error: true, Text: err.Error()})
	}
	if !out.OK {
		return nil, out
	}
	r, err := c.GetRules()
	if err != nil {
		out.Add(sidecar.Issue{Error: true, Text: err.Error()})
		return nil, out
	}
	describe(&out, r, outline)
	m, err := newMatcher([]compiledRules{{rules: r}}, map[string]sidecar.RuleSet{space: s})
	if err != nil || !out.OK {
		r.Destroy()
		if err != nil {
			out.Add(sidecar.Issue{Error: true, Text: err.Error()})
		}
		return nil, out
	}
	return m, out
}

// issueOf is one message of libyara. Its texts about rules begin with the rule,
// which the issue has by itself.
func issueOf(m yara.CompilerMessage, space string, bad bool, o sidecar.Outline) sidecar.Issue {
	i := sidecar.Issue{Error: bad, Line: m.Line, Rule: strings.TrimPrefix(m.Rule, space+"."), Text: m.Text}
	i.Text = strings.TrimPrefix(i.Text, fmt.Sprintf("rule %q: ", i.Rule))
	if i.Line <= 0 {
		i.Line = o.Lines[i.Rule]
	}
	return i
}

// describe lists the rules of a set that compiles, and warns of what they say of
// themselves that does not count.
func describe(out *sidecar.Compiled, r *yara.Rules, o sidecar.Outline) {
	const most = 10_000
	list := r.GetRules()
	if len(list) == 0 {
		out.Add(sidecar.Issue{Error: true, Text: "there is no rule in it"})
	}
	if len(list) > most {
		out.Add(sidecar.Issue{Error: true, Text: fmt.Sprintf("it has %d rules, over the limit of %d", len(list), most)})
		return
	}
	for _, rule := range list {
		name := rule.Identifier()
		meta := metaOf(rule)
		out.Rules = append(out.Rules, sidecar.RuleInfo{Name: name, Line: o.Lines[name], Private: rule.IsPrivate(), Description: meta["description"]})
		if c, ok := meta["class"]; ok && !isRuleClass(c) {
			out.Add(sidecar.Issue{Line: o.Lines[name], Rule: name, Text: fmt.Sprintf("its class %q is none that a rule can give; the set's counts", c)})
		}
		if s, ok := meta["score"]; ok {
			if _, ok := scoreOf(s); !ok {
				out.Add(sidecar.Issue{Line: o.Lines[name], Rule: name, Text: fmt.Sprintf("its score %q is no number from 0 to 100; the set's counts", s)})
			}
		}
	}
}

// sameRules says whether two sets of files would compile to the same.
func sameRules(a, b ruleFiles) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
