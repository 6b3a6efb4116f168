package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what comes out of a run of this program.
type report struct {
	campaigns []measured
	sections  []section
	software  []string
}

// section is one block of the documentation.
type section struct{ name, title, text string }

const docsPage = "docs/performance.md"

// write prints the tables and puts them where they are wanted. It is an error
// when Mailward lost, doubled, changed or leaked a mail, or refused one.
func (rep *report) write(ctx context.Context, o options, out io.Writer) error {
	var errs []error
	for _, m := range rep.campaigns {
		if len(m.results) > 0 {
			rep.sections = append(rep.sections, section{m.name, m.title, m.text()})
			errs = append(errs, m.verdict())
		}
	}
	if len(rep.sections) == 0 {
		return errors.Join(errs...)
	}
	machine := rep.machine(ctx)
	var all strings.Builder
	for _, s := range rep.sections {
		fmt.Fprintf(&all, "### %s\n\n%s\n\n%s\n", s.title, machine, s.text)
	}
	fmt.Fprintf(out, "\n%s", all.String())
	if o.json != "" {
		errs = append(errs, writeJSON(o.json, rep.campaigns))
	}
	if o.markdown != "" {
		errs = append(errs, os.WriteFile(o.markdown, []byte(all.String()), 0o644))
	}
	if o.updateDocs {
		errs = append(errs, rep.updateDocs(docsPage, machine))
	}
	return errors.Join(errs...)
}

// updateDocs replaces the blocks of what was measured, and leaves the others.
func (rep *report) updateDocs(page, machine string) error {
	b, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	text := string(b)
	for _, s := range rep.sections {
		if text, err = replaceBlock(text, s.name, fmt.Sprintf("### %s\n\n%s\n\n%s", s.title, machine, s.text)); err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
	}
	return os.WriteFile(page, []byte(text), 0o644)
}

// replaceBlock puts text between the two comment lines that bear a name.
func replaceBlock(page, name, text string) (string, error) {
	begin, end := "<!-- bench "+name+" -->\n", "<!-- end of bench "+name+" -->"
	i := strings.Index(page, begin)
	j := strings.Index(page, end)
	if i < 0 || j < i {
		return "", fmt.Errorf("there is no block %q", name)
	}
	return page[:i+len(begin)] + strings.TrimSpace(text) + "\n" + page[j:], nil
}

// versions notes what takes part.
func (rep *report) versions(ctx context.Context, b *bed) {
	rep.software = nil
	for _, p := range []string{"clamav-daemon", "postgresql-15", "redis-server", "postfix", "clamav-milter", "rspamd", "amavisd-new", "clamsmtp"} {
		if v := packageVersion(ctx, p); v != "" {
			rep.software = append(rep.software, p+" "+v)
		}
	}
	if v := harakaVersion(b.haraka); v != "" {
		rep.software = append(rep.software, "Haraka "+v)
	}
}

// machine is one paragraph: when, what, where.
func (rep *report) machine(ctx context.Context) string {
	commit := "unknown"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	line := func(file, key string) string {
		b, _ := os.ReadFile(file)
		for l := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
		return "unknown"
	}
	var kib int
	fmt.Sscanf(line("/proc/meminfo", "MemTotal"), "%d", &kib)
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	debian, _ := os.ReadFile("/etc/debian_version")
	software := ""
	if len(rep.software) > 0 {
		software = "; " + strings.Join(rep.software, ", ")
	}
	return fmt.Sprintf("%s, commit %s, %s; %d cores (%s), %d GB, Debian %s, Linux %s%s.", time.Now().UTC().Format("2 January 2006"), commit, runtime.Version(), runtime.NumCPU(),
		line("/proc/cpuinfo", "model name"), (kib+512<<10)>>20, strings.TrimSpace(string(debian)), strings.TrimSpace(string(kernel)), software)
}

// spread is the values of all rounds, in order.
type spread []float64

func (s spread) median() float64 { return s[len(s)/2] }

func (s spread) String() string {
	if len(s) == 0 {
		return "-"
	}
	format := "%.2f"
	if s.median() >= 20 {
		format = "%.0f"
	}
	if len(s) == 1 {
		return fmt.Sprintf(format, s[0])
	}
	return fmt.Sprintf(format+" ("+format+" - "+format+")", s.median(), s[0], s[len(s)-1])
}

// setting is one way of loading a peer.
type setting struct{ connections, per int }

func (m measured) settings() (list []setting) {
	for _, per := range m.per {
		for _, n := range m.connections {
			list = append(list, setting{n, per})
		}
	}
	return list
}

func (m measured) of(peer string, s setting) (list []result) {
	for _, r := range m.results {
		if r.Peer == peer && r.Connections == s.connections && r.Per == s.per {
			list = append(list, r)
		}
	}
	return list
}

// each is one figure of a peer in all rounds.
func (m measured) each(peer string, s setting, value func(result) float64) (list spread) {
	for _, r := range m.of(peer, s) {
		list = append(list, value(r))
	}
	slices.Sort(list)
	return list
}

// ratios compares a figure of two peers round by round: what slows the machine
// for a while slows both.
func (m measured) ratios(peer, base string, s setting, value func(result) float64) (list spread) {
	for _, r := range m.of(peer, s) {
		for _, b := range m.of(base, s) {
			if r.Round == b.Round && value(b) > 0 {
				list = append(list, value(r)/value(b))
			}
		}
	}
	slices.Sort(list)
	return list
}

func rateOf(r result) float64   { return r.Rate }
func p50Of(r result) float64    { return r.P50MS }
func p99Of(r result) float64    { return r.P99MS }
func othersOf(r result) float64 { return r.Others * 100 }

func perThousand(seconds func(result) float64) func(result) float64 {
	return func(r result) float64 { return seconds(r) / float64(r.Mails) * 1000 }
}

func cpuOf(name string) func(result) float64 {
	return perThousand(func(r result) float64 { return r.CPU[name] })
}

var gatewayCPUOf = perThousand(result.gatewayCPU)

func (m measured) present() (names []string) {
	for _, p := range m.peers {
		if slices.ContainsFunc(m.results, func(r result) bool { return r.Peer == p.name }) {
			names = append(names, p.name)
		}
	}
	return names
}

// text is the section of a campaign.
func (m measured) text() string {
	var b strings.Builder
	rounds := 0
	for _, r := range m.results {
		rounds = max(rounds, r.Round)
	}
	fmt.Fprintf(&b, "Medians (least - most) of %d interleaved rounds of up to %d mails for each setting; the mix by number: 40 %% text 4 KB, 35 %% HTML 30 KB, 15 %% PDF 300 KB, 8 %% zip 1 MB, 2 %% 5 MB; 1 %% with the EICAR test file. %s\n\n",
		rounds, m.count, m.signatureText())
	b.WriteString("| peer | connections | mails per connection | mails/s | x clamd alone | x Postfix | p50 ms | p99 ms | CPU s per 1,000 mails: gateway | clamd | memory MiB (PSS) | lost, doubled, changed, leaked, ghost | refused, held wrongly, no answer | other work on the machine % |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range m.settings() {
		for _, name := range m.present() {
			if len(m.of(name, s)) > 0 {
				b.WriteString(m.row(name, s))
			}
		}
	}
	b.WriteString(m.programs())
	for _, p := range m.peers {
		if why := m.absent[p.name]; why != "" {
			fmt.Fprintf(&b, "\nNot measured: %s (%s).\n", p.name, short(strings.Join(strings.Fields(why), " ")))
		}
	}
	b.WriteString(m.goals())
	b.WriteString("\nWho is who: ")
	var who []string
	for _, p := range m.peers {
		if slices.Contains(m.present(), p.name) {
			who = append(who, p.name+": "+p.what)
		}
	}
	b.WriteString(strings.Join(who, "; ") + ".\n")
	return b.String()
}

func (m measured) signatureText() string {
	if m.large {
		return "clamd knows the EICAR test file and 200,000 made-up signatures."
	}
	return "clamd knows the EICAR test file alone, which makes it quick and the comparison hard."
}

func (m measured) row(name string, s setting) string {
	sum := counts{}
	memory := 0
	for _, r := range m.of(name, s) {
		sum.add(r.Counts)
		memory = max(memory, r.Memory["all"])
	}
	return fmt.Sprintf("| %s | %d | %d | %s | %s | %s | %.1f | %.1f | %.1f | %.1f | %d | %d, %d, %d, %d, %d | %d, %d, %d | %.0f |\n", name, s.connections, s.per,
		m.each(name, s, rateOf), m.ratios(name, clamdAlone, s, rateOf), m.ratios(name, postfixAlone, s, rateOf),
		m.each(name, s, p50Of).median(), m.each(name, s, p99Of).median(), m.each(name, s, gatewayCPUOf).median(), m.each(name, s, cpuOf("clamd")).median(), memory,
		sum.Lost, sum.Duplicate, sum.Changed, sum.Leaked, sum.Ghost, sum.Refused, sum.Held, sum.Errors, m.each(name, s, othersOf).median())
}

// programs is Mailward's own figures by process.
func (m measured) programs() string {
	var b strings.Builder
	for _, s := range m.settings() {
		for _, name := range m.present() {
			list := m.of(name, s)
			if !strings.HasPrefix(name, "mailward") || len(list) == 0 {
				continue
			}
			if b.Len() == 0 {
				b.WriteString("\nMailward by process, CPU seconds for 1,000 mails and peak memory in MiB (PSS):\n\n| peer | connections | mails per connection | process: CPU s, MiB |\n|---|---|---|---|\n")
			}
			names := map[string]bool{}
			for _, r := range list {
				for program := range r.CPU {
					names[program] = program != "clamd" && program != "bench"
				}
			}
			var parts []string
			for _, program := range slices.Sorted(maps.Keys(names)) {
				seconds := m.each(name, s, cpuOf(program)).median()
				memory := int(m.each(name, s, func(r result) float64 { return float64(r.Memory[program]) }).median())
				if names[program] && (seconds >= 0.05 || memory > 0) {
					parts = append(parts, fmt.Sprintf("%s: %.2f, %d", program, seconds, memory))
				}
			}
			fmt.Fprintf(&b, "| %s | %d | %d | %s |\n", name, s.connections, s.per, strings.Join(parts, "; "))
		}
	}
	return b.String()
}

// verdict is an error when Mailward, or this program, did not do its work.
func (m measured) verdict() error {
	sum := counts{}
	for _, r := range m.results {
		if strings.HasPrefix(r.Peer, "mailward") || r.Peer == clamdAlone {
			sum.add(r.Counts)
		}
	}
	if sum.wrong() > 0 {
		return fmt.Errorf("%s: mail was lost, doubled, changed or leaked: %+v", m.name, sum)
	}
	if sum.bad() {
		return fmt.Errorf("%s: mail was refused: %+v", m.name, sum)
	}
	return nil
}
