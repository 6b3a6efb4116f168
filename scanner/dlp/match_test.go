package dlp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/policy"
)

// plan is a document that somebody wants to keep.
const plan = `Projekt Falke, Plan für das dritte Quartal. Die Übernahme der Werkzeugbau Meier GmbH soll bis Ende September abgeschlossen sein.
Der Kaufpreis beträgt achtzehn Millionen Euro und wird in zwei Raten gezahlt, die erste bei Unterschrift, die zweite nach Prüfung der Bücher durch unsere Revision.
Bis dahin darf niemand außerhalb der Geschäftsführung davon wissen. Rückfragen beantwortet allein Frau Dr. Schulze, die auch die Gespräche mit der Bank führt.`

func lookFor(t *testing.T, sets []Set, prints []Fingerprint, body string, parts ...policy.Part) []policy.Finding {
	t.Helper()
	m, err := newMatcher(sets, prints)
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.look(context.Background(), []text{{part: "1", text: body}}, parts)
	if err != nil {
		t.Fatal(err)
	}
	return m.findings(f)
}

func TestKeywordsAndPatterns(t *testing.T) {
	t.Parallel()
	words := Set{Rules: Rules{Keywords: []string{"streng vertraulich", "Geschäftsführung", "TLP:RED"}, KeywordN: 1}}
	two := Set{Rules: Rules{Keywords: words.Rules.Keywords, KeywordN: 2}}
	pattern := Set{Rules: Rules{Patterns: []string{`\bFK-\d{4}\b`, `(?i)kundennummer:?\s*\d{6}`}, PatternN: 2}}
	all := Set{Rules: Rules{All: true, Keywords: []string{"patient"}, KeywordN: 1, Detectors: []DetectorRule{{Detector: "de.social_security", Medium: 1}}}}
	tests := []struct {
		name string
		set  Set
		text string
		want bool
	}{
		{"a phrase", words, "Das ist STRENG  vertraulich!", true},
		{"over a line's end", words, "streng\r\nvertraulich", true},
		{"umlauts written out", words, "an die GESCHAEFTSFUEHRUNG", true},
		{"with a sign between", words, "tlp:red", true},
		{"a part of a word", words, "strengvertraulich, Geschäftsführungen, TLP:REDACTED", false},
		{"half a phrase", words, "streng", false},
		{"too few of them", two, "tlp:red tlp:red", false},
		{"enough of them", two, "tlp:red, streng vertraulich", true},
		{"one match of a pattern", pattern, "FK-1234 and FK-1234", false},
		{"two matches", pattern, "FK-1234, Kundennummer: 123456", true},
		{"no match", pattern, "FK-12345, XFK-1234", false},
		{"all rules", all, "Patient 65 170839 J 003", true},
		{"one of all rules", all, "65 170839 J 003", false},
		{"the other of all rules", all, "Patient", false},
	}
	for _, tt := range tests {
		if got := lookFor(t, []Set{tt.set}, nil, tt.text); (len(got) == 1) != tt.want {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestPatterns_AtTheEdgeOfAPiece(t *testing.T) {
	t.Parallel()
	set := Set{Rules: Rules{Patterns: []string{`FK-\d{4}`}, PatternN: 1}}
	for _, at := range []int{0, chunk - 7, chunk - 3, chunk - 1, chunk, chunk + overlap - 3, 2*chunk - 2} {
		got := lookFor(t, []Set{set}, nil, strings.Repeat(".", at)+"FK-1234"+strings.Repeat(".", chunk))
		if len(got) != 1 || got[0].Meta["pattern"] != "1" {
			t.Errorf("at %d: %+v", at, got)
		}
	}
}

func TestFingerprints(t *testing.T) {
	t.Parallel()
	set := Set{ID: uuid.New(), Rules: Rules{Similarity: 50}}
	f, err := Document{Name: "Plan", File: []byte(plan)}.fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	f.Set = set.ID
	half := plan[:len(plan)*2/3]
	tests := []struct {
		name string
		text string
		part policy.Part
		want string
	}{
		{"the whole", plan, policy.Part{}, "100 %"},
		{"quoted, other line ends, capitals", "> " + strings.ReplaceAll(strings.ToUpper(plan), " ", "\r\n> "), policy.Part{}, "100 %"},
		{"within another text", strings.Repeat("Was sonst noch geschah. ", 200) + plan + strings.Repeat("Und zum Schluss. ", 200), policy.Part{}, "100 %"},
		{"two thirds", half, policy.Part{}, " %"},
		{"one sentence", plan[:130], policy.Part{}, ""},
		{"another text", strings.Repeat("Die Übernahme der Kosten durch die Kasse ist bis Ende September zu beantragen. ", 30), policy.Part{}, ""},
		{"the file itself", "see attachment", policy.Part{Path: "2", Name: "p.bin", SHA256: f.SHA256}, "100 %"},
	}
	for _, tt := range tests {
		got := lookFor(t, []Set{set}, []Fingerprint{f}, tt.text, tt.part)
		if (len(got) == 1) != (tt.want != "") || len(got) == 1 && !strings.Contains(got[0].Reason, tt.want+` of the document "Plan"`) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// Any twelve words in a row that two texts share leave a hash in both.
func TestWinnow_Guarantee(t *testing.T) {
	t.Parallel()
	var a, b []string
	for i := range 400 {
		a, b = append(a, fmt.Sprint("left", i*7919%1009)), append(b, fmt.Sprint("right", i))
	}
	for at := range 300 {
		c := append(append(append([]string{}, b[:at]...), a[50:50+minWords]...), b[at:]...)
		shared := false
		have := map[uint64]bool{}
		winnow(words(strings.Join(a, " ")), func(h uint64) { have[h] = true })
		winnow(words(strings.Join(c, " ")), func(h uint64) { shared = shared || have[h] })
		if !shared {
			t.Fatalf("twelve words at %d share nothing", at)
		}
	}
}

// The worst that a person can write as a pattern, over the longest text, ends
// with the judge's time.
func TestLook_EndsInTime(t *testing.T) {
	t.Parallel()
	var patterns []string
	for i := range maxPatterns {
		patterns = append(patterns, fmt.Sprintf("(a?b?){40}x%d", i))
	}
	for _, p := range patterns {
		if _, err := compilePattern(p); err != nil {
			t.Fatal(err)
		}
	}
	m, err := newMatcher([]Set{{Name: "slow", Rules: Rules{Patterns: patterns, PatternN: 1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err = m.look(ctx, []text{{text: strings.Repeat("ab", 1<<19)}}, nil)
	if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Second {
		t.Errorf("after %v: %v", took, err)
	} else {
		t.Logf("ended after %v", took)
	}
}

// A megabyte of nothing but hits is bounded in time and count.
func TestLook_ManyHits(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := 0; b.Len() < 1<<20; i++ {
		v := fmt.Sprintf("411111%09d", i)
		for d := byte('0'); d <= '9'; d++ {
			if luhn(v + string(d)) {
				b.WriteString(v + string(d) + ";")
			}
		}
	}
	begin := time.Now()
	got := lookFor(t, []Set{{Rules: Rules{Detectors: []DetectorRule{{Detector: "card", Low: 1}}}}}, nil, b.String())
	if len(got) != 1 || got[0].Meta["card"] != "1000" {
		t.Errorf("%+v", got)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzLook(f *testing.F) {
	f.Add("Karte 4111 1111 1111 1111, streng vertraulich FK-1234 "+plan, "FK-[0-9]+")
	f.Add("M\u0308\xff", "(?i)ä.*b")
	f.Fuzz(func(t *testing.T, s, pattern string) {
		set := Set{Name: "x", Rules: Rules{Keywords: []string{"streng vertraulich"}, KeywordN: 1, PatternN: 1, Detectors: []DetectorRule{{Detector: "card", Low: 1}}}}
		if _, err := compilePattern(pattern); err == nil {
			set.Rules.Patterns = []string{pattern}
		}
		m, err := newMatcher([]Set{set}, nil)
		if err != nil {
			t.Fatal(err)
		}
		found, err := m.look(context.Background(), []text{{part: subjectPart, text: s}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range m.findings(found) {
			if x.Reason == "" || x.Meta["set_name"] != "x" {
				t.Fatalf("%+v", x)
			}
		}
		clean := m.redact(s, m.sets)
		if again := findAllCards(clean); again != 0 {
			t.Fatalf("%q still has %d numbers", clean, again)
		}
	})
}

func findAllCards(s string) (n int) {
	scan := numberScan{text: normalise(s), want: 1 << detectorIndex("card"), found: func(hit) bool { n++; return true }}
	scan.run()
	return n
}

func benchText() string {
	s := strings.Repeat("Sehr geehrte Frau Müller, anbei die Rechnung 2024-10-4711 über 1.234,56 EUR zum 31.12.2024, Kundennummer 4006381333931.\r\n"+
		"We are looking forward to meeting you at 10:30 in room 204, see https://example.org/a/b?id=8842 for details of part A4-17.\r\n", 430)
	return s[:100<<10]
}

func BenchmarkLook(b *testing.B) {
	sets := []Set{{Rules: Rules{Keywords: []string{"streng vertraulich", "tlp:red", "for internal use only"}, KeywordN: 1, Detectors: nil}}}
	for _, d := range detectors {
		sets[0].Rules.Detectors = append(sets[0].Rules.Detectors, DetectorRule{Detector: d.Name, Low: 1})
	}
	sets[0].ID = uuid.New()
	f, err := Document{Name: "plan", Text: plan}.fingerprint()
	if err != nil {
		b.Fatal(err)
	}
	f.Set = sets[0].ID
	m, err := newMatcher(sets, []Fingerprint{f})
	if err != nil {
		b.Fatal(err)
	}
	s := benchText()
	b.SetBytes(int64(len(s)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.look(context.Background(), []text{{text: s}}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
