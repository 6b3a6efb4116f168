package pdf

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailward/evidence/tsa"
	"mailward/internal/testenv"
	"mailward/policy"
)

// hostile is text that wants to be something else on paper.
const hostile = "Pay now\u202Etxt.exe\nvisit https://evil.example/login?x=1\x00\u200b and 中文 😀 ok"

func sample(lang string) Document {
	at := time.Date(2026, 11, 22, 6, 58, 40, 0, time.UTC)
	seq := uint64(991822)
	m := Mail{File: "original.eml", SHA256: strings.Repeat("0123456789abcdef", 4), SHA512: strings.Repeat("0123456789abcdef", 8), Size: 48213, MailID: "01938f00-0000-7000-8000-000000000001", ItemID: "01938f00-0000-7000-8000-000000000002",
		Class: policy.Malware, Score: 100, Direction: policy.Inbound, ReceivedAt: at, Node: "gw-2", ClientIP: "203.0.113.7", Helo: "mail.evil.example", TLS: "TLS 1.3", EnvelopeFrom: "billing@evil.example",
		HeaderFrom: "Erika Mustermann <ceo@ours.example>", Subject: "Rechnung 4711: offene Forderung über 12.480 €", MessageID: "<4711@evil.example>",
		Recipients: []Recipient{{"anna@ours.example", "quarantined", ""}, {"bernd@ours.example", "released", "250 2.0.0 queued"}}, Reasons: []string{"ClamAV found malware"},
		Findings: []policy.Finding{{Engine: "clamav", Name: "Win.Test.EICAR_HDB-1", Class: policy.Malware, Score: 100, Part: "2", PartName: "rechnung.zip", Reason: "A signature of ClamAV matched"}},
		Engines:  []policy.EngineAnswer{{Engine: "clamav", Version: "ClamAV 1.4.6", Database: "27825", DatabaseTime: at.Add(-time.Hour), Answered: true}, {Engine: "yara", Version: "4.5.2", Answered: false, Error: "timeout"}},
		Parts:    []policy.Part{{Path: "1", ContentType: "text/plain", Size: 200, SHA256: strings.Repeat("ab", 32)}, {Path: "2", Name: "rechnung.zip", ContentType: "application/pdf", TrueType: "application/zip", Size: 4000, SHA256: strings.Repeat("cd", 32)}},
		Auth:     []Check{{"SPF", "fail", "evil.example"}, {"DKIM", "none", ""}, {"DMARC", "fail", "p=reject"}},
		Headers:  []Field{{"From", "Erika Mustermann <ceo@ours.example>"}, {"Subject", "Rechnung 4711"}}, Text: hostile, TextNote: "text.plain",
		Links:    []Link{{"https://evil.example/login?next=https://bank.example/", "https://bank.example"}},
		Timeline: []Step{{At: at, Action: "quarantine.item.create", Who: "System (gateway)", Detail: "malware", Seq: &seq}, {At: at.Add(time.Hour), Action: "quarantine.view_body", Who: "analyst@ours.example", Detail: "analysis: looks like a wave", Looked: true}}, IngestSeq: &seq}
	return Document{Lang: lang, EvidenceID: "EV-2026-000317", ReceiptID: "rcpt_01938f00000070008000000000000003", Case: Case{"INC-2026-0042", "Wave of false invoices", "Report to BSI under § 32 BSIG"},
		Reason: "Needed for the report of the incident of 22 November", RequestedBy: "Anna Analystin <anna@ours.example>", ApprovedBy: "Otto Prüfer <otto@ours.example>", IssuedAt: at.Add(24 * time.Hour),
		Installation: "mx.ours.example", Software: "Mailward 1.4.2", HashOf: "original.eml", Hash: m.SHA256, Head: Head{"mx.ours.example/audit", 992100, strings.Repeat("ef", 32)}, Mails: []Mail{m},
		Custody: []Step{{At: at, Action: "acquired", Who: "gw-2", Seq: &seq}, {At: at.Add(20 * time.Hour), Action: "requested", Who: "anna@ours.example", Detail: "for the report"}},
		Signing: Signing{"built-in", true, strings.Repeat("12", 32)}, Storage: "Stored under s3://evidence/, locked until 2029-12-31.",
		Attachments: []Attachment{{"original.zip", "The mail", []byte("zip")}}}
}

func run(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C")
	out, err := c.CombinedOutput()
	return string(out), err
}

// page keeps a PDF for the tools.
func page(t *testing.T, b []byte) (dir string) {
	t.Helper()
	testenv.Require(t, "pdftotext", "pdfsig", "pdfdetach", "pdfinfo")
	dir = t.TempDir()
	if keep := os.Getenv("MAILWARD_TEST_KEEP"); keep != "" {
		dir = filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "_"))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "report.pdf"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func signer(t *testing.T) Signer {
	t.Helper()
	dir := t.TempDir()
	p, err := tsa.OpenSigner(dir, "mx.ours.example", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tsa.OpenLocal(dir, "mx.ours.example", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return Signer{Cert: p.Cert, Key: p.Key, Name: "Mailward", Stamp: func(ctx context.Context, b []byte) ([]byte, error) {
		s, err := l.Stamp(ctx, b)
		return s.Token, err
	}}
}

// TestReport_PageOne: who reads only the first page knows the item, the reason,
// who agreed and the hash.
func TestReport_PageOne(t *testing.T) {
	t.Parallel()
	for lang, words := range map[string][]string{"en": {"Forensic evidence report", "Approved by", "Exported because", "MALWARE"}, "de": {"Forensischer Beweisbericht", "Genehmigt von", "Exportiert, weil", "SCHADSOFTWARE"}} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			d := sample(lang)
			b, err := Render(d)
			if err != nil {
				t.Fatal(err)
			}
			if b, err = Sign(context.Background(), b, signer(t), d.IssuedAt); err != nil {
				t.Fatal(err)
			}
			dir := page(t, b)
			one, err := run(t, dir, "pdftotext", "-layout", "-l", "1", "report.pdf", "-")
			if err != nil {
				t.Fatal(err, one)
			}
			for _, w := range append(words, "Rechnung 4711", "billing@evil.example", "INC-2026-0042", "Needed for the report", "Otto Prüfer", d.Hash, d.EvidenceID, d.ReceiptID) {
				if !strings.Contains(one, w) {
					t.Errorf("page 1 lacks %q", w)
				}
			}
			all, err := run(t, dir, "pdftotext", "-layout", "report.pdf", "-")
			if err != nil {
				t.Fatal(err)
			}
			pages := strings.Count(all, "\f")
			if n := strings.Count(all, d.Hash); n < pages || pages < 3 || strings.Count(all, d.EvidenceID) < pages {
				t.Errorf("%d pages, the hash %d times", pages, n)
			}
			for _, w := range []string{"‹U+202E›", "‹U+200B›", "‹U+0000›", "‹U+4E2D›", "‹U+1F600›", "hxxps://evil[.]example/login"} {
				if !strings.Contains(all, w) {
					t.Errorf("the report lacks %q", w)
				}
			}
			if bytes.Contains(b, []byte("/URI")) || bytes.Contains(b, []byte("/JavaScript")) {
				t.Error("the report has something to click on")
			}
			for _, bad := range []string{"EXTRA", "MISSING", "%!", "sec.", "fact.", "sum."} {
				if strings.Contains(all, bad) {
					t.Errorf("a text of the report is wrong: %q", bad)
				}
			}
		})
	}
}

func TestSign_CheckedByPoppler(t *testing.T) {
	t.Parallel()
	b, err := Render(sample("en"))
	if err != nil {
		t.Fatal(err)
	}
	s := signer(t)
	signed, err := Sign(context.Background(), b, s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := page(t, signed)
	out, _ := run(t, dir, "pdfsig", "-nocert", "report.pdf")
	for _, w := range []string{"ETSI.CAdES.detached", "Signature is Valid", "Total document signed", "SHA-256"} {
		if !strings.Contains(out, w) {
			t.Errorf("pdfsig lacks %q:\n%s", w, out)
		}
	}
	if out, err := run(t, dir, "pdfdetach", "-saveall", "report.pdf"); err != nil {
		t.Fatal(err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "original.zip")); err != nil || string(got) != "zip" {
		t.Errorf("embedded: %q, %v", got, err)
	}
	// A changed byte, and something written behind, are both seen.
	bad := bytes.Replace(bytes.Clone(signed), []byte("/Type /Catalog"), []byte("/Type /Catalo0"), 1)
	if out, _ := run(t, page(t, bad), "pdfsig", "-nocert", "report.pdf"); strings.Contains(out, "Signature is Valid") {
		t.Errorf("a changed report passes:\n%s", out)
	}
	if out, _ := run(t, page(t, append(bytes.Clone(signed), "% more\n"...)), "pdfsig", "-nocert", "report.pdf"); strings.Contains(out, "\n  - Total document signed") {
		t.Errorf("a longer report passes:\n%s", out)
	}
}

func TestWords_AreInBothLanguages(t *testing.T) {
	t.Parallel()
	en, err1 := loadWords("en")
	de, err2 := loadWords("de")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for k, v := range en {
		if strings.Count(v, "%") != strings.Count(de[k], "%") || de[k] == "" {
			t.Errorf("de: %s is %q", k, de[k])
		}
	}
	if len(en) != len(de) {
		t.Errorf("%d texts in English, %d in German", len(en), len(de))
	}
}

func TestDefang(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"https://evil.example/a.b": "hxxps://evil[.]example/a.b", "www.evil.example": "www[.]evil[.]example", "mailto:x@evil.example": "mailto:x[at]evil[.]example",
		"http://a.b/?u=https://c.d": "hxxp://a[.]b/?u=https[://]c.d", "": ""} {
		if got := Defang(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
