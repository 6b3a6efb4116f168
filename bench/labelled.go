package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/internal/standalone"
	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/phishing"
)

// judged is one labelled mail with its class.
type judged struct {
	label, hash string
	class       policy.Class
	signs       []string
	second      bool // half of the set on which nothing was tuned
}

// measureCorpus judges a labelled set through the real sidecar: dir has the
// folders ham, spam and phish with a mail in each file. No mail's content is
// printed, and nothing in it is asked for on the net.
func measureCorpus(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("bench corpus", flag.ContinueOnError)
	dir := f.String("dir", "", "the folder with ham, spam and phish in it")
	binary := f.String("mailward", "bin/mailward", "the binary; mailward-scanner is looked for beside it")
	half := f.String("half", "", "first or second: only this half of each set")
	verbose := f.Bool("v", false, "print the signs of each mail that went wrong")
	if err := f.Parse(args); err != nil {
		return err
	}
	bin, err := filepath.Abs(*binary) // the sidecar runs in a folder of its own
	if err != nil {
		return err
	}
	data, err := os.MkdirTemp("", "mailward-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	stack, err := standalone.Start(ctx, standalone.Config{Scanner: true, ScannerBinary: filepath.Join(filepath.Dir(bin), "mailward-scanner"), DataDir: filepath.Join(data, "d"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("start the sidecar: %w", err)
	}
	defer stack.Stop(context.WithoutCancel(ctx))
	conf := message.DefaultConfig()
	conf.Dir = data
	spooler, err := message.NewSpooler(conf)
	if err != nil {
		return err
	}
	for _, without := range []string{"", "modern"} {
		var off []string
		if without != "" {
			off = modernSigns()
			fmt.Fprintf(out, "\nWithout signs that old mail cannot show (%s):\n", strings.Join(off, ", "))
		}
		engines, err := corpusScanner(stack.ScannerSocket, off)
		if err != nil {
			return err
		}
		list, err := judgeAll(ctx, *dir, spooler, engines)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(j judged) bool { return *half == "first" && j.second || *half == "second" && !j.second })
		reportCorpus(out, list, *verbose && without == "")
	}
	return nil
}

func modernSigns() (names []string) {
	set := phishing.Symbols()
	for _, s := range append(set.Phishing, set.Spam...) {
		if s.Modern {
			names = append(names, s.Name)
		}
	}
	return names
}

func corpusScanner(socket string, off []string) (*scanner.Scanner, error) {
	s, err := scanner.New(scanner.DefaultConfig(), slog.New(slog.DiscardHandler), scanner.NewSidecar(scanner.SidecarConfig{Socket: socket}))
	if err != nil {
		return nil, err
	}
	signs, err := phishing.New(phishing.Config{Off: off})
	if err != nil {
		return nil, err
	}
	return s.WithJudges(signs), nil
}

func judgeAll(ctx context.Context, dir string, spooler *message.Spooler, engines *scanner.Scanner) (list []judged, err error) {
	for _, label := range []string{"ham", "spam", "phish"} {
		files, err := filepath.Glob(filepath.Join(dir, label, "*"))
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("no mails in %s", filepath.Join(dir, label))
		}
		for _, file := range files {
			j, err := judgeFile(ctx, file, spooler, engines)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
			}
			j.label = label
			list = append(list, j)
		}
	}
	return list, nil
}

func judgeFile(ctx context.Context, file string, spooler *message.Spooler, engines *scanner.Scanner) (j judged, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return j, err
	}
	raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\r"), nil)
	sum := sha256.Sum256(raw)
	j.hash, j.second = fmt.Sprintf("%x", sum[:6]), sum[0]&1 == 1
	spool, err := spooler.FromBytes(bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n")))
	if err != nil {
		return j, err
	}
	defer spool.Close()
	id, err := uuid.NewV7()
	if err != nil {
		return j, err
	}
	report, said := engines.Scan(ctx, scanner.Job{MailID: id, Spool: spool})
	if said == nil {
		return j, fmt.Errorf("the sidecar gave no answer: %+v", report.Engines)
	}
	engines.Judge(ctx, scanner.Question{MailID: id, Workspace: policy.DefaultWorkspace, Direction: policy.Inbound, Content: said}, &report)
	j.class = policy.Decide(policy.Input{Report: report}).Class
	for _, f := range report.Findings {
		j.signs = append(j.signs, f.Name)
	}
	return j, nil
}

// reportCorpus prints recall, precision, what went wrong, and which signs tell
// the sets apart.
func reportCorpus(out io.Writer, list []judged, verbose bool) {
	for _, second := range []bool{false, true} {
		n, classes := map[string]int{}, map[string]map[policy.Class]int{"ham": {}, "spam": {}, "phish": {}}
		for _, j := range list {
			if j.second == second {
				n[j.label]++
				classes[j.label][j.class]++
			}
		}
		if len(n) == 0 {
			continue
		}
		fmt.Fprintf(out, "%s half:\n", map[bool]string{false: "first", true: "second"}[second])
		for _, label := range []string{"ham", "spam", "phish"} {
			fmt.Fprintf(out, "  %-5s %3d mails: %v\n", label, n[label], classes[label])
		}
		p := classes["phish"][policy.Phishing]
		caught := p + classes["phish"][policy.Spam]
		wrong := classes["ham"][policy.Phishing] + classes["ham"][policy.Spam]
		fmt.Fprintf(out, "  phish: recall as phishing %.1f %%, as phishing or spam %.1f %%; precision against ham: %.1f %% and %.1f %%\n", percent(p, n["phish"]), percent(caught, n["phish"]),
			percent(p, p+classes["ham"][policy.Phishing]), percent(caught, caught+wrong))
	}
	signs := map[string]map[string]int{}
	for _, j := range list {
		for _, s := range j.signs {
			if signs[s] == nil {
				signs[s] = map[string]int{}
			}
			signs[s][j.label]++
		}
		ok := j.label == "ham" && (j.class == policy.Clean || j.class == policy.Broken) || j.label == "spam" && j.class != policy.Clean || j.label == "phish" && j.class == policy.Phishing
		if verbose && !ok {
			fmt.Fprintf(out, "  %s %s half2=%v is %s: %s\n", j.label, j.hash, j.second, j.class, strings.Join(j.signs, " "))
		}
	}
	if verbose {
		names := make([]string, 0, len(signs))
		for s := range signs {
			names = append(names, s)
		}
		slices.Sort(names)
		for _, s := range names {
			fmt.Fprintf(out, "  %-22s ham %3d spam %3d phish %3d\n", s, signs[s]["ham"], signs[s]["spam"], signs[s]["phish"])
		}
	}
}

func percent(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return 100 * float64(a) / float64(b)
}
