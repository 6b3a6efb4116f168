package phishing

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/content"
)

// about is a mail with what every honest one has.
func about(from, name, subject, text string, links ...content.Link) *content.Content {
	_, domain, _ := strings.Cut(from, "@")
	return &content.Content{From: []content.Address{{Name: name, Address: from}}, Subject: subject, Links: links,
		Texts:   []content.Text{{Part: "1", Kind: "plain", Text: text}},
		Headers: []content.Header{{Name: "message-id", Value: "<1@" + domain + ">"}, {Name: "date", Value: "Thu, 01 Jan 2026 00:00:00 +0000"}, {Name: "to", Value: "a@muster-werke.example"}}}
}

func anchor(target, text string) content.Link {
	return content.Link{Part: "1", Kind: content.LinkAnchor, Target: target, Text: text}
}

var engines = sync.OnceValue(func() []*Engine {
	phish, spam, err := New(Config{
		Served: func(uuid.UUID) []string { return []string{"muster-werke.example"} },
		People: func(uuid.UUID) []string { return []string{"erika mustermann"} },
		Now:    func() time.Time { return time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		panic(err)
	}
	return []*Engine{phish, spam}
})

func signs(t testing.TB, q scanner.Question) string {
	t.Helper()
	var names []string
	for _, e := range engines() {
		found, _, err := e.Judge(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Class != "" || f.Score <= 0 || f.Reason == "" || f.Engine != e.Name() {
				t.Errorf("finding %+v", f)
			}
			names = append(names, f.Name)
		}
	}
	return " " + strings.Join(names, " ") + " "
}

func withReply(c *content.Content, to string) *content.Content {
	c.ReplyTo = []content.Address{{Address: to}}
	return c
}

func withHeader(c *content.Content, name, value string) *content.Content {
	c.Headers = append(c.Headers, content.Header{Name: name, Value: value})
	return c
}

// Each sign is shown by one mail, and not by its harmless twin.
func TestSigns(t *testing.T) {
	t.Parallel()
	opaque := "https://a.com/4cjiyx2584syPr88dsvvrhvyjv551WMDGUQTJKPJNEAN26"
	tests := []struct {
		sign       string
		bad, twin  *content.Content
		badQ       scanner.Question
		twinReason string
	}{
		{sign: "LINK_OTHER_DOMAIN", bad: about("a@b.com", "", "", "x", anchor("https://evil.net/", "www.paypal.com")), twin: about("a@b.com", "", "", "x", anchor("https://b.list-manage.com/click", "www.b.com")), twinReason: "a click tracker"},
		{sign: "BRAND_NAME", bad: about("a@b.com", "PayPal Service", "", "x"), twin: about("service@paypal.de", "PayPal Service", "", "x")},
		{sign: "BRAND_IN_DOMAIN", bad: about("a@b.com", "", "", "x", anchor("https://paypal.secure-login.com/", "x")), twin: about("a@b.com", "", "", "x", anchor("https://www.paypal.com/de/", "x"))},
		{sign: "BRAND_IN_DOMAIN", bad: about("a@sparkasse-sicher.com", "", "", "x"), twin: about("a@sparkasse-koelnbonn.de", "Sparkasse", "", "x"), badQ: scanner.Question{}},
		{sign: "DOMAIN_LOOKALIKE", bad: about("a@paypa1.com", "", "", "x"), twin: about("a@papyrus.com", "", "", "x")},
		{sign: "DOMAIN_LOOKALIKE", bad: about("a@muster-werkc.example", "", "", "x"), twin: about("a@muster-werke.example", "", "", "x"), twinReason: "a domain of ours"},
		{sign: "BRAND_SUBJECT", bad: about("a@b.com", "", "Your Netflix plan", "x", anchor("https://b.com", "x")), twin: about("a@b.com", "", "Your Netflix plan", "x", anchor("https://www.netflix.com", "x"))},
		{sign: "MIXED_SCRIPT", bad: about("a@b.com", "Аmazоn", "", "x"), twin: about("a@b.com", "Анна Müller", "", "x")},
		{sign: "NAME_HAS_ADDRESS", bad: about("a@b.com", "chef@firma.de", "", "x"), twin: about("a@b.com", "a@b.com", "", "x")},
		{sign: "OWN_PERSON", bad: about("erika@b.com", "Erika Mustermann", "", "x"), twin: about("erika@muster-werke.example", "Erika Mustermann", "", "x")},
		{sign: "REPLY_TO_FREEMAIL", bad: withReply(about("a@b.com", "", "", "x"), "evil@gmail.com"), twin: withHeader(withReply(about("a@b.com", "", "", "x"), "list@gmail.com"), "list-id", "<l>"), twinReason: "a mailing list"},
		{sign: "REPLY_TO_OTHER", bad: withReply(about("a@b.com", "", "", "x"), "x@other.com"), twin: withReply(about("a@b.com", "", "", "x"), "x@mail.b.com")},
		{sign: "ENVELOPE_OTHER", bad: about("a@b.com", "", "", "x"), badQ: scanner.Question{EnvelopeFrom: "x@other.com"}, twin: about("a@b.com", "", "", "x")},
		{sign: "SENDER_FREE_HOSTING", bad: about("a@x.web.app", "", "", "x"), twin: about("a@web.de", "", "", "x")},
		{sign: "SENDER_NO_DOMAIN", bad: about("a@12345rct", "", "", "x"), twin: about("a@b.co.uk", "", "", "x")},
		{sign: "SENDER_RANDOM", bad: about("mPmjQSt@b.com", "", "", "x"), twin: about("JohnSmith@b.com", "", "", "x")},
		{sign: "SENDER_ROLE", bad: about("a@b.com", "Security Team", "", "x"), twin: about("security@b.com", "Security Team", "", "x")},
		{sign: "LINK_FREE_HOSTING", bad: about("a@b.com", "", "", "x", anchor("https://x.workers.dev/", "x")), twin: about("a@github.com", "GitHub", "", "x", anchor("https://github.com/a/b", "x"))},
		{sign: "LINK_SHORTENED", bad: about("a@b.com", "", "", "x", anchor("https://bit.ly/1", "x")), twin: about("a@b.com", "", "", "x", anchor("https://habit.ly/1", "x"))},
		{sign: "LINK_IP", bad: about("a@b.com", "", "", "x", anchor("http://0x7f000001/", "x")), twin: about("a@b.com", "", "", "x", anchor("http://1und1.de/", "x"))},
		{sign: "LINK_PUNYCODE", bad: about("a@b.com", "", "", "x", anchor("https://xn--80ak6aa92e.com/", "x")), twin: about("a@müller.de", "", "", "x", anchor("https://xn--mller-kva.de/", "x")), twinReason: "the sender's own"},
		{sign: "LINK_USERINFO", bad: about("a@b.com", "", "", "x", anchor("https://paypal.com@evil.net/", "x")), twin: about("a@b.com", "", "", "x", anchor("https://b.com/@user", "x"))},
		{sign: "LINK_REDIRECT", bad: about("a@b.com", "", "", "x", anchor("https://c.com/r?u=https%3A%2F%2Fevil.net", "x")), twin: about("a@b.com", "", "", "x", anchor("https://c.com/r?u=https%3A%2F%2Fb.com", "x"))},
		{sign: "LINK_SCRIPT", bad: about("a@b.com", "", "", "x", anchor("data:text/html;base64,AAAA", "x")), twin: about("a@b.com", "", "", "x", content.Link{Kind: content.LinkImage, Target: "data:image/png;base64,AA"})},
		{sign: "LINK_CODE", bad: about("a@b.com", "", "", "x", content.Link{Kind: content.LinkCode, Target: "https://c.com"}), twin: about("a@b.com", "", "", "x", content.Link{Kind: content.LinkCode, Target: "BEGIN:VCARD"})},
		{sign: "LINK_OPAQUE", bad: about("a@a.com", "", "", "x", anchor(opaque, "x")), twin: withHeader(about("a@a.com", "", "", "x", anchor(opaque, "x")), "list-unsubscribe", "<https://a.com/u>"), twinReason: "a newsletter"},
		{sign: "WORDS_ACCOUNT", bad: about("a@b.com", "", "Ihr Konto wurde gesperrt", "x", anchor("https://b.com", "x")), twin: about("a@b.com", "", "Ihr Kontoauszug", "Anbei der Auszug", anchor("https://b.com", "x"))},
		{sign: "WORDS_URGENT", bad: about("a@b.com", "", "FINAL WARNING", "x", anchor("https://b.com", "x")), twin: about("a@b.com", "", "Final report", "x", anchor("https://b.com", "x"))},
		{sign: "WORDS_PRIZE", bad: about("a@b.com", "", "You have won", "x", anchor("https://b.com", "x")), twin: about("a@b.com", "", "We have one", "x", anchor("https://b.com", "x"))},
		{sign: "WORDS_PAYMENT", bad: about("a@b.com", "", "Letzte Mahnung", "x", anchor("https://b.com", "x")), twin: about("a@b.com", "", "Rechnung 2026-17", "anbei unsere Rechnung", anchor("https://b.com", "x"))},
		{sign: "WORDS_FAVOUR", bad: about("a@b.com", "", "", "Are you available? Buy some gift cards"), twin: about("a@b.com", "", "", "When is the report available?")},
		{sign: "WORDS_FORTUNE", bad: about("a@b.com", "", "", "my late husband left ten"), twin: about("a@b.com", "", "", "my husband is late")},
		{sign: "HEADER_GARBLED", bad: about("a@b.com", "x\ufffd", "", "x"), twin: about("a@b.com", "x", "", "ä")},
		{sign: "TEMPLATE_LEFTOVER", bad: about("a@b.com", "", "Hi {{State}}", "x"), twin: about("a@b.com", "", "Hi [list] x", "x")},
		{sign: "PICTURE_MAIL", bad: about("a@b.com", "", "", "x", anchor("https://b.com", ""), content.Link{Kind: content.LinkImage, Target: "https://b.com/x.png"}), twin: about("a@b.com", "", "", strings.Repeat("many words ", 50), anchor("https://b.com", ""), content.Link{Kind: content.LinkImage, Target: "https://b.com/x.png"})},
		{sign: "DMARC_FAIL", bad: about("a@b.com", "", "", "x"), badQ: scanner.Question{Sender: scanner.Sender{DMARC: "fail"}}, twin: about("a@b.com", "", "", "x")},
		{sign: "SPF_FAIL", bad: about("a@b.com", "", "", "x"), badQ: scanner.Question{Sender: scanner.Sender{SPF: "fail"}}, twin: about("a@b.com", "", "", "x")},
		{sign: "SIGNED_BY_OTHER", bad: withHeader(about("a@b.com", "", "", "x"), "dkim-signature", "v=1; d=x.onmicrosoft.com; s=1"), twin: withHeader(withHeader(about("a@b.com", "", "", "x"), "dkim-signature", "v=1; d=x.onmicrosoft.com"), "dkim-signature", "v=1; d=b.com")},
		{sign: "ENGINE_PHISHING", bad: about("a@b.com", "", "", "x"), badQ: scanner.Question{Findings: []policy.Finding{{Engine: "clamav", Name: "Heuristics.Phishing.Email"}}}, twin: about("a@b.com", "", "", "x")},
		{sign: "SUBJECT_CAPITALS", bad: about("a@b.com", "", "READ THIS AT ONCE", "x"), twin: about("a@b.com", "", "NATO", "x")},
		{sign: "SUBJECT_SHOUTS", bad: about("a@b.com", "", "Now!!", "x"), twin: about("a@b.com", "", "Now!", "x")},
		{sign: "SUBJECT_PICTURES", bad: about("a@b.com", "", "🎰 Win", "x"), twin: about("a@b.com", "", "Grüße 日本", "x")},
		{sign: "BULK_NO_LEAVE", bad: about("a@b.com", "", "", "unsubscribe here"), twin: withHeader(about("a@b.com", "", "", "unsubscribe here"), "list-unsubscribe", "<https://b.com>")},
		{sign: "WORDS_OFFER", bad: about("a@b.com", "", "", "this is an advertisement"), twin: about("a@b.com", "", "", "an advertisement agency")},
		{sign: "WORDS_BODY", bad: about("a@b.com", "", "", "cheap viagra"), twin: about("a@b.com", "", "", "Specialist, socialising")},
		{sign: "WORDS_MONEY", bad: about("a@b.com", "", "", "make money now"), twin: about("a@b.com", "", "", "it makes sense")},
		{sign: "WORDS_MAILING", bad: about("a@b.com", "", "", "this is not spam"), twin: withHeader(about("a@b.com", "", "", "this is not spam"), "list-id", "<l>")},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, tt.sign), func(t *testing.T) {
			t.Parallel()
			q := tt.badQ
			q.Content = tt.bad
			if got := signs(t, q); !strings.Contains(got, " "+tt.sign+" ") {
				t.Errorf("not found, only%s", got)
			}
			if got := signs(t, scanner.Question{Content: tt.twin}); strings.Contains(got, " "+tt.sign+" ") {
				t.Errorf("found in the harmless twin: %s", tt.twinReason)
			}
		})
	}
}

// Signs that a mail as a whole shows by what it lacks or hides.
func TestSigns_OfForm(t *testing.T) {
	t.Parallel()
	c := &content.Content{From: []content.Address{{Address: "a@b.com"}},
		Texts: []content.Text{{Part: "1", Kind: "html", Text: "x", Hidden: "Pay\u200bPal " + strings.Repeat("hidden ", 200)}, {Part: "2", Kind: "html", Name: "a.htm", Text: "y"}},
		Forms: []content.Form{{Part: "2", Action: "https://evil.net", Password: true}}}
	got := signs(t, scanner.Question{Content: c})
	for _, want := range []string{"FORM_PASSWORD", "FORM_ATTACHED", "HIDDEN_TEXT", "SALTED_WORDS", "NO_MESSAGE_ID", "NO_DATE", "NO_RECIPIENT", "HTML_ALONE"} {
		if !strings.Contains(got, " "+want+" ") {
			t.Errorf("%s not found, only%s", want, got)
		}
	}
	future := about("a@b.com", "", "", "x")
	future.Headers[1].Value = "Thu, 01 Jan 2099 00:00:00 +0000"
	if got := signs(t, scanner.Question{Content: future}); !strings.Contains(got, "DATE_FUTURE") {
		t.Errorf("only%s", got)
	}
}

// docs/standards.md has the same list of signs.
func TestSymbols_AreInTheDocs(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/standards.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	set := Symbols()
	for _, s := range append(set.Phishing, set.Spam...) {
		if seen[s.Name] {
			t.Errorf("%s is there twice", s.Name)
		}
		seen[s.Name] = true
		row := fmt.Sprintf("| `%s` | %g | %s |", s.Name, s.Weight, s.Text)
		if !strings.Contains(string(b), row) {
			t.Errorf("docs/standards.md lacks the row %s", row)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add("a@b.com", "PayPal", "https://paypal.com@evil/", "text")
	f.Add("@", "", `http:\\[::1]:80\%`, "\u200b")
	f.Fuzz(func(t *testing.T, from, name, link, text string) {
		signs(t, scanner.Question{EnvelopeFrom: from, Content: about(from, name, text, text, anchor(link, text), anchor(link, name))})
	})
}
