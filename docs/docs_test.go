// Package docs holds the documentation. There is no code here, only tests that
// hold pages and program together.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailward/internal/message"
	"mailward/quarantine"
	"mailward/scanner"
	"mailward/scanner/sidecar"
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// thousands writes 10000 as 10,000.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func TestStandards_LimitsAreTheOnesInForce(t *testing.T) {
	text := page(t, "standards.md")
	l := sidecar.DefaultLimits()
	for limit, value := range map[string]string{
		"header of a part":    fmt.Sprintf("%d MB", l.HeaderBytes>>20),
		"MIME parts":          thousands(l.Parts),
		"depth of MIME parts": fmt.Sprint(l.Depth),
		"readings of one part, by mail clients that disagree":             fmt.Sprint(l.Readings),
		"memory that an archive asks its reader for (dictionary, window)": fmt.Sprintf("%d MB", l.Dictionary>>20),
		"depth of archives in archives":                                   fmt.Sprint(l.ArchiveDepth),
		"files in all archives":                                           thousands(l.Files),
		"ratio of one file over 1 MiB, unpacked to packed":                fmt.Sprint(l.Ratio),
		"bytes unpacked, of a mail":                                       fmt.Sprintf("%d MB", l.TotalBytes>>20),
		"time to take a mail apart":                                       fmt.Sprintf("%d s", l.Time/time.Second),
	} {
		if row := "| " + limit + " | " + value + " | unscannable |"; !strings.Contains(text, row) {
			t.Errorf("standards.md lacks the row %q", row)
		}
	}
	s, m, q := scanner.DefaultConfig(), message.DefaultConfig(), quarantine.DefaultConfig()
	for _, row := range []string{
		fmt.Sprintf("| wait for a scan slot | %d s |", s.SlotWait/time.Second),
		fmt.Sprintf("| answer of one engine | %d s |", s.EngineTimeout/time.Second),
		fmt.Sprintf("| bytes of all mail under way | %d GiB |", m.Budget>>30),
		fmt.Sprintf("| line of a mail | %d MiB |", m.MaxLine>>20),
		fmt.Sprintf("| free space on the spool's disk | %d MiB |", m.MinFree>>20),
		fmt.Sprintf("| held mail | %d days |", q.KeepFor/(24*time.Hour)),
		fmt.Sprintf("| delivery of a released or queued mail | %d days |", q.GiveUpAfter/(24*time.Hour)),
	} {
		if !strings.Contains(text, row) {
			t.Errorf("standards.md lacks the row %q", row)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	inSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the headings of a page, as links name them.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		out["#"+strings.ReplaceAll(inSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return out
}

// A link between pages leads somewhere, to a heading too. The picture in the README
// is made by the browser test.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, _ := filepath.Glob("decisions/*.md")
	pages = append(append(pages, more...), "../README.md", "../CHANGELOG.md", "../deploy/README.md", "../samples/README.md")
	for _, p := range pages {
		for _, m := range link.FindAllStringSubmatch(page(t, p), -1) {
			to := p
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(p), m[1])
			}
			if _, err := os.Stat(to); err != nil && !strings.HasSuffix(m[1], ".png") {
				t.Errorf("%s links to %s, which is not there", p, m[1])
			} else if m[2] != "" && !anchors(page(t, to))[m[2]] {
				t.Errorf("%s links to %s, where no heading is %s", p, to, m[2])
			}
		}
	}
}

// TestChangelog_NothingTwice: its lines stand by part, and a merge of branches can bring
// one back to where it stood before without a word.
func TestChangelog_NothingTwice(t *testing.T) {
	seen := map[string]bool{}
	for line := range strings.Lines(page(t, "../CHANGELOG.md")) {
		if !strings.HasPrefix(line, "- ") {
			continue
		}
		begin := line[:min(len(line), 70)]
		if seen[begin] {
			t.Errorf("twice: %s", begin)
		}
		seen[begin] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d changes were found", len(seen))
	}
}

// Decisions are numbered without gaps, and each has its parts.
func TestDecisions(t *testing.T) {
	files, err := filepath.Glob("decisions/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for i, f := range files {
		if want := fmt.Sprintf("decisions/%04d-", i+1); !strings.HasPrefix(f, want) {
			t.Errorf("%s does not begin with %s", f, want)
		}
		text := page(t, f)
		for _, part := range []string{"# ", "## Why", "## What follows"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %q", f, part)
			}
		}
	}
}
