package scanner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"mailward/internal/testenv"
	"mailward/policy"
)

func setOf(source string) RuleSet {
	return RuleSet{ID: "0197-1", Name: "Test set", Version: 3, Class: policy.Phishing, Score: 7.5, Source: source}
}

func TestSidecar_CompilesRuleSets(t *testing.T) {
	t.Parallel()
	side := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--workers", "1").Address})
	for name, tt := range map[string]struct {
		source string
		line   int    // of the first issue
		text   string // part of it; "": none
		ok     bool
	}{
		"good":               {"rule a { condition: true }", 0, "", true},
		"modules of ours":    {"import \"pe\"\nrule a { condition: pe.is_pe and part_name == \"x\" }", 0, "", true},
		"syntax":             {"rule a {\n  condition:\n    tru }", 3, "undefined identifier", false},
		"half a rule":        {"rule a {\n", 1, "syntax error", false},
		"include":            {"// first\ninclude \"/etc/passwd\"\nrule a { condition: true }", 2, "include is not allowed", false},
		"cuckoo":             {"\nimport \"cuckoo\"\nrule a { condition: true }", 2, `"cuckoo" is not allowed`, false},
		"console":            {"import /* so */ \"console\" rule a { condition: true }", 1, `"console" is not allowed`, false},
		"hidden in comments": {"/* import \"cuckoo\" */ // include \"x\"\nrule a { strings: $import = /include \"x\"/ condition: $import }", 0, "", true},
		"same name":          {"rule a { condition: true }\nrule a { condition: true }", 2, "duplicated identifier", false},
		"no rule":            {"// nothing\n", 0, "no rule", false},
		"slow pattern":       {"rule a {\n strings:\n  $x = /.*x.*y/\n condition: $x }", 3, "contains .*", true},
		"class":              {"rule a {\n meta: class = \"evil\"\n condition: true }", 1, "none that a rule can give", true},
		"score":              {"\n\nrule a {\n meta: score = 1000\n condition: true }", 3, "no number from 0 to 100", true},
		"NUL":                {"rule a { condition: true }\n\x00", 2, "NUL", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := side.CompileRules(context.Background(), setOf(tt.source))
			if err != nil || got.OK != tt.ok {
				t.Fatalf("%+v, error %v", got, err)
			}
			switch {
			case tt.text == "" && len(got.Issues) > 0:
				t.Errorf("issues: %+v", got.Issues)
			case tt.text != "" && (len(got.Issues) == 0 || got.Issues[0].Line != tt.line || !strings.Contains(got.Issues[0].Text, tt.text)):
				t.Errorf("issues: %+v, want %q at line %d", got.Issues, tt.text, tt.line)
			}
			if tt.ok && (len(got.Rules) != 1 || got.Rules[0].Name != "a" || got.Rules[0].Line == 0) {
				t.Errorf("rules: %+v", got.Rules)
			}
		})
	}
	if _, err := side.CompileRules(context.Background(), setOf(strings.Repeat("//\n", MaxRuleSource))); err == nil {
		t.Error("a source over the limit is compiled")
	}
}

// writeSets puts sets where a sidecar with --managed finds them.
func writeSets(t testing.TB, dir string, sets ...RuleSet) string {
	t.Helper()
	b := RuleBundle{Sets: sets}
	text, err := b.Encode()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "new"), text, 0o600)
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "sets.json"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Fingerprint()
}

func waitManaged(t testing.TB, side *Sidecar, want string) {
	t.Helper()
	var got Info
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got, _ = side.Check(context.Background())
		if got.Managed == want {
			return
		}
	}
	t.Fatalf("rule sets %s are in force, want %s", got.Managed, want)
}

func TestSidecar_HitsSayWhereTheyComeFrom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := setOf(`rule Plain { meta: description = "a word" author = "Ann" reference = "https://example.org/1" strings: $w = "marvel" condition: $w }`)
	own := setOf(`rule Own { meta: class = "malware" score = 90 strings: $w = "marvel" condition: $w } rule Bad { meta: class = "clean" score = -1 strings: $w = "marvel" condition: $w }`)
	sign := setOf(`rule Sign { condition: part_type == "text/plain" }`)
	own.ID, sign.ID, sign.Class = "0197-2", "0197-3", SignClass
	writeSets(t, dir, plain, own, sign)
	side := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--no-builtin-rules", "--workers", "1", "--managed", dir).Address})
	a, err := side.Scan(context.Background(), Job{MailID: uuid.New(), Spool: spool(t, []byte(mailHead+"\r\na marvel, and \x01\x02 more\r\n"))})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]policy.Finding{}
	for _, f := range a.Findings {
		got[f.Name] = f
	}
	if f := got["Plain"]; f.Class != policy.Phishing || f.Score != 7.5 || f.Reason != "a word" || f.Meta["author"] != "Ann" || f.Meta["reference"] != "https://example.org/1" ||
		f.Meta["set"] != "Test set" || f.Meta["set_version"] != "3" || f.Meta["strings"] != `$w @ 2: "marvel"` {
		t.Errorf("Plain: %+v", f)
	}
	if f := got["Own"]; f.Class != policy.Malware || f.Score != 90 {
		t.Errorf("Own: %+v", f)
	}
	if f := got["Bad"]; f.Class != policy.Phishing || f.Score != 7.5 {
		t.Errorf("Bad: %+v", f)
	}
	if f := got["Sign"]; f.Class != "" || f.Score != 7.5 {
		t.Errorf("Sign: %+v", f)
	}
}

// While rule sets change under flowing mail, every mail is scanned, with the old
// rules or the new ones; and what does not compile never comes into force.
func TestSidecar_ReloadsWithoutADroppedMail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version := func(n int) RuleSet {
		s := setOf(fmt.Sprintf("rule V%d { condition: part_type == \"text/plain\" }", n))
		s.Version = n
		return s
	}
	writeSets(t, dir, version(0))
	side := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--no-builtin-rules", "--workers", "2", "--managed", dir).Address})
	mail := spool(t, []byte(mailHead+"\r\nhello\r\n"))
	stop := make(chan struct{})
	var scanned atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := side.Scan(context.Background(), Job{MailID: uuid.New(), Spool: mail})
				if err != nil || len(a.Findings) != 1 || !strings.HasPrefix(a.Findings[0].Name, "V") {
					t.Errorf("findings %+v, error %v", a.Findings, err)
					return
				}
				scanned.Add(1)
			}
		})
	}
	for n := 1; n <= 4; n++ {
		good := writeSets(t, dir, version(n))
		waitManaged(t, side, good)
		broken := version(100 + n)
		broken.Source = "rule broken {"
		writeSets(t, dir, broken)
		time.Sleep(1200 * time.Millisecond) // longer than the sidecar takes to notice
		waitManaged(t, side, good)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d mails scanned", scanned.Load())
	if scanned.Load() < 50 {
		t.Errorf("only %d mails", scanned.Load())
	}
}

// Sets that are written while the sidecar starts, after it has read the ones before
// them, come into force like all others.
func TestSidecar_SetsThatChangeAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeSets(t, dir, setOf("rule Before { condition: false }"))
	file := filepath.Join(dir, "sets.json")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	after := writeSets(t, dir, setOf("rule After { condition: false }"))
	if err := errors.Join(os.Rename(file, filepath.Join(dir, "after")), unix.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	var fed sync.WaitGroup
	fed.Go(func() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0) // waits until the sidecar reads
		if err == nil {
			_, werr := f.Write(before)
			err = errors.Join(os.Rename(filepath.Join(dir, "after"), file), werr, f.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	side := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--no-builtin-rules", "--workers", "1", "--managed", dir).Address})
	fed.Wait()
	waitManaged(t, side, after)
}

// A broken set at the start keeps no mail from being scanned, and is not in force.
func TestSidecar_StartsWithoutABrokenSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := writeSets(t, dir, setOf("rule broken {"))
	side := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--workers", "1", "--managed", dir).Address})
	if i, err := side.Check(context.Background()); err != nil || i.Managed == broken || i.Rules == 0 {
		t.Fatalf("%+v, error %v", i, err)
	}
	if _, i, err := side.RulesInForce(context.Background()); err != nil || !strings.HasPrefix(i.Detail, `rule set "Test set": rule "broken": syntax error`) {
		t.Errorf("why it is not in force: %+v, error %v", i.Detail, err)
	}
	waitManaged(t, side, writeSets(t, dir, setOf("rule whole { condition: false }")))
	// What was wrong is taken back once the old workers have ended.
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, i, err := side.RulesInForce(context.Background())
		if err == nil && i.Detail == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("what was wrong is still said: %+v, error %v", i.Detail, err)
		}
	}
}

// A rule that takes for ever is named; the mail has no verdict, and none the
// second time: it is unscannable then, until the rules change.
func TestSidecar_NamesASlowRule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	quick := setOf("")
	for n := range 20 {
		quick.Source += fmt.Sprintf("rule Quick%d { strings: $a = \"a%d\" condition: $a }\n", n, n)
	}
	slow := setOf(`private rule Helper { condition: filesize > 0 }
rule Quick { condition: Helper }
rule Runaway { condition: Helper and part_type == "text/plain" and for all i in (1..100000000000) : (uint8(i % filesize) >= 0 and i > 0) }
rule Other { condition: filesize == 17 }`)
	quick.ID, slow.ID, slow.Name, slow.Version = "0197-a", "0197-b", "Slow set", 9
	writeSets(t, dir, quick, slow)
	side := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--workers", "1", "--managed", dir).Address})
	mail := spool(t, []byte(mailHead+"\r\n"+strings.Repeat("hello\r\n", 1000)))
	s, err := New(DefaultConfig(), slog.New(slog.DiscardHandler), side)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		rep, _ := s.Scan(context.Background(), Job{MailID: uuid.New(), Spool: mail})
		if e := rep.Engines[0]; e.Answered || e.Error != "the YARA rule Runaway in Slow set took too long" {
			t.Fatalf("engine: %+v", e)
		}
		if r := <-side.Slow(); r.Rule != "Runaway" || r.Set != "0197-b" || r.Version != 9 || r.Part != "1" {
			t.Errorf("slow rule: %+v", r)
		}
	}
	rep, _ := s.Scan(context.Background(), Job{MailID: uuid.New(), Spool: mail})
	if len(rep.Findings) != 1 || rep.Findings[0].Class != policy.Unscannable || !strings.Contains(rep.Findings[0].Reason, "Runaway") {
		t.Fatalf("third time: %+v", rep)
	}
	waitManaged(t, side, writeSets(t, dir, quick))
	// Workers with the old rules may answer once more before they end; that others
	// are in force is learned from any answer.
	for end := time.Now().Add(30 * time.Second); ; {
		if _, err := side.Check(context.Background()); err != nil {
			t.Fatal(err)
		}
		rep, _ = s.Scan(context.Background(), Job{MailID: uuid.New(), Spool: mail})
		if len(rep.Failed()) == 0 && len(rep.Findings) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("with quick rules: %+v", rep)
		}
	}
}

func TestSidecar_TriesRulesThatAreNotInForce(t *testing.T) {
	t.Parallel()
	side := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--workers", "1").Address})
	f, err := MemoryFile("mail", attach("invoice.pdf.js", bytes.Repeat([]byte("var a = 1;\r\n"), 100)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 { // the second time with the set that the worker knows
		got, err := side.TryRules(context.Background(), f, setOf(`rule Var { strings: $v = "var a" condition: $v }`))
		if err != nil || len(got.Findings) != 1 || got.Findings[0].Name != "Var" || got.Findings[0].Part != "1.2" || got.Bytes < 1200 || got.TookNS <= 0 || got.InForceNS <= 0 {
			t.Errorf("%+v, error %v", got, err)
		}
	}
	got, err := side.TryRules(context.Background(), f, setOf(`rule None { condition: false }`))
	if err != nil || len(got.Findings) != 0 {
		t.Errorf("%+v, error %v", got, err)
	}
	if _, err := side.TryRules(context.Background(), f, setOf(`rule None {`)); err == nil {
		t.Error("a set that does not compile is tried")
	}
	spaces, info, err := side.RulesInForce(context.Background())
	if err != nil || len(spaces) < 3 || info.Rules < 5 {
		t.Errorf("%d spaces, %+v, error %v", len(spaces), info, err)
	}
}
