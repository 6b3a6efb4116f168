package phishing

import (
	"context"
	"fmt"
	"os"
	"slices"
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

var engine = sync.OnceValue(func() *Engine {
	e, err := New(Config{
		Served: func(uuid.UUID) []string { return []string{"muster-werke.example"} },
		People: func(uuid.UUID) []string { return []string{"erika mustermann"} },
		Now:    func() time.Time { return time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		panic(err)
	}
	return e
})

func signs(t testing.TB, q scanner.Question) string {
	t.Helper()
	var names []string
	found, _, err := engine().Judge(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Class != "" || f.Score == 0 || f.Score < 0 && f.Engine != spamEngine || f.Reason == "" || f.Engine != policy.PhishingEngine && f.Engine != spamEngine {
			t.Errorf("finding %+v", f)
		}
		names = append(names, f.Name)
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

func asHTML(c *content.Content) *content.Content {
	c.Texts[0].Kind = "html"
	return c
}

func toMany(c *content.Content) *content.Content {
	for i := range 25 {
		c.To = append(c.To, content.Address{Address: fmt.Sprintf("a%d@b.com", i)})
	}
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
		{sign: "BRAND_IN_DOMAIN", bad: about("a@amazon.ru", "", "", "x"), twin: about("a@amazon.com.au", "", "", "x"), twinReason: "the brand in another country"},
		{sign: "BRAND_IN_DOMAIN", bad: about("a@amazon-konto.ca", "", "", "x"), twin: about("a@mail.amazon.ca", "", "", "x"), twinReason: "the brand in another country"},
		{sign: "DOMAIN_LOOKALIKE", bad: about("a@paypa1.com", "", "", "x"), twin: about("a@papyrus.com", "", "", "x")},
		{sign: "DOMAIN_LOOKALIKE", bad: about("a@xn--pypal-4ve.com", "", "", "x"), twin: about("a@xn--mnchen-3ya.de", "", "", "x"), twinReason: "an umlaut imitates nobody"},
		{sign: "DOMAIN_LOOKALIKE", bad: about("a@ꓑaypaꓡ.com", "", "", "x"), twin: about("a@ꓧaus.com", "", "", "x")},
		{sign: "DOMAIN_LOOKALIKE", bad: about("a@muster-werkc.example", "", "", "x"), twin: about("a@muster-werke.example", "", "", "x"), twinReason: "a domain of ours"},
		{sign: "BRAND_SUBJECT", bad: about("a@b.com", "", "Your Netflix plan", "x", anchor("https://b.com", "x")), twin: about("a@b.com", "", "Your Netflix plan", "x", anchor("https://www.netflix.com", "x"))},
		{sign: "MIXED_SCRIPT", bad: about("a@b.com", "Аmazоn", "", "x"), twin: about("a@b.com", "Анна Müller", "", "x")},
		{sign: "NAME_HAS_ADDRESS", bad: about("a@b.com", "chef@firma.de", "", "x"), twin: about("a@b.com", "a@b.com", "", "x")},
		{sign: "OWN_PERSON", bad: about("erika@b.com", "Erika Mustermann", "", "x"), twin: about("erika@muster-werke.example", "Erika Mustermann", "", "x")},
		{sign: "OWN_PERSON", bad: about("erika@b.com", "Mustermann, Erika", "", "x"), twin: about("erika@b.com", "Mustermann", "", "x"), twinReason: "a name of many"},
		{sign: "OWN_PERSON", bad: about("erika@b.com", "Erika Mustermann (CEO)", "", "x"), twin: about("erika@b.com", "Erika Mustermanns", "", "x"), twinReason: "another name"},
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
		{sign: "LINK_IP", bad: about("a@b.com", "", "", "x", append(slices.Repeat([]content.Link{anchor("https://b.com/", "x")}, 600), anchor("http://192.0.2.7/", "x"))...), twin: about("a@b.com", "", "", "x", slices.Repeat([]content.Link{anchor("https://b.com/", "x")}, 600)...)},
		{sign: "LINK_HIDDEN_IP", bad: about("a@b.com", "", "", "x", anchor("http://1370164356/x", "x")), twin: about("a@b.com", "", "", "x", anchor("http://192.0.2.7/x", "x")), twinReason: "an address that can be read as one"},
		{sign: "LINK_RENTED", bad: about("a@b.com", "", "", "x", anchor("http://192-0-2-30.cloud.hoster.net/x", "x")), twin: about("a@b.com", "", "", "x", anchor("https://v1-2-3.docs.hoster.net/", "x")), twinReason: "a version"},
		{sign: "LINK_CHEAP", bad: about("a@b.com", "", "", "x", anchor("https://black.click/x", "x")), twin: about("a@firma.online", "", "", "x", anchor("https://www.firma.online/x", "x")), twinReason: "the sender's own"},
		{sign: "MASS_HIDDEN", bad: asHTML(about("a@a.com", "", "", "x", anchor(opaque, "x"))), twin: withHeader(asHTML(about("a@a.com", "", "", "x", anchor(opaque, "x"))), "list-unsubscribe", "<https://a.com/u>"), twinReason: "a newsletter"},
		{sign: "EXTORTION", bad: about("a@b.com", "", "", "I have recorded you. Send bitcoin to 1BoatSLRHtKNngkdXEeobR76b53LETtpyT"), twin: about("a@b.com", "", "", "Donations: bitcoin 1BoatSLRHtKNngkdXEeobR76b53LETtpyT"), twinReason: "nobody is threatened"},
		{sign: "EXTORTION", bad: about("a@b.com", "", "", "Ich habe Zugriff auf Ihr Gerät. Bitcoin: bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"), twin: about("a@b.com", "", "", "So schützen Sie sich, wenn jemand Zugriff auf Ihr Gerät hat"), twinReason: "advice"},
		{sign: "WORDS_SEED", bad: about("a@b.com", "", "", "Enter your recovery phrase", anchor("https://b.com", "x")), twin: about("a@b.com", "", "", "Data recovery: a phrase book", anchor("https://b.com", "x"))},
		{sign: "OWN_DOMAIN_NAME", bad: about("a@b.com", "muster-werke.example Mailbox", "", "x"), twin: about("it@muster-werke.example", "muster-werke.example Mailbox", "", "x"), twinReason: "it is"},
		{sign: "DATE_OFF", bad: withHeader(about("a@b.com", "", "", "x"), "received", "from a by b; Thu, 08 Jan 2026 00:00:00 +0000"), twin: withHeader(about("a@b.com", "", "", "x"), "received", "from a by b; Thu, 01 Jan 2026 09:00:00 +0000")},
		{sign: "MANY_RECIPIENTS", bad: toMany(about("a@b.com", "", "", "x")), twin: withHeader(toMany(about("a@b.com", "", "", "x")), "in-reply-to", "<1@b.com>"), twinReason: "a long discussion"},
		{sign: "SUBJECT_MARKED", bad: about("a@b.com", "", "ADV: cheap", "x"), twin: about("a@b.com", "", "Advent: Termine", "x")},
		{sign: "SUBJECT_PADDED", bad: about("a@b.com", "", "Read this      8172", "x"), twin: about("a@b.com", "", "Rechnung 2026-17", "x")},
		{sign: "SUBJECT_PADDED", bad: about("a@b.com", "", "Great offers hvgxs", "x"), twin: about("a@b.com", "", "Neues zu HTML", "x")},
		{sign: "FALSE_ANSWER", bad: about("a@b.com", "", "Re: your request", "x"), twin: withHeader(about("a@b.com", "", "Re: your request", "x"), "references", "<1@b.com>")},
		{sign: "LINK_PUNYCODE", bad: about("a@b.com", "", "", "x", anchor("https://xn--80ak6aa92e.com/", "x")), twin: about("a@müller.de", "", "", "x", anchor("https://xn--mller-kva.de/", "x")), twinReason: "the sender's own"},
		{sign: "LINK_USERINFO", bad: about("a@b.com", "", "", "x", anchor("https://paypal.com@evil.net/", "x")), twin: about("a@b.com", "", "", "x", anchor("https://b.com/@user", "x"))},
		{sign: "LINK_REDIRECT", bad: about("a@b.com", "", "", "x", anchor("https://c.com/r?u=https%3A%2F%2Fevil.net", "x")), twin: about("a@b.com", "", "", "x", anchor("https://c.com/r?u=https%3A%2F%2Fb.com", "x"))},
		{sign: "LINK_REDIRECT", bad: about("a@b.com", "", "", "x", anchor("https://c.com/r?u=https%253A%252F%252Fevil.net", "x")), twin: about("a@b.com", "", "", "x", anchor("https://c.com/r?u=100%25", "x"))},
		{sign: "LINK_IP", bad: about("a@b.com", "", "", "x", anchor("\x01http://192.0.2.7/", "x")), twin: about("a@b.com", "", "", "x", anchor("mailto:a@192.0.2.7", "x"))},
		{sign: "LINK_CODE", bad: about("a@b.com", "", "", "x", content.Link{Kind: content.LinkCode, Target: "Evil.com/login"}), twin: about("a@b.com", "", "", "x", content.Link{Kind: content.LinkCode, Target: "Rechnung 17.05"}), twinReason: "no address"},
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
// Words of spam count where the mail itself says them, not in what is attached.
func TestSigns_WordsOfAttachments(t *testing.T) {
	t.Parallel()
	c := about("petra@kunde.example", "Petra", "Unterlagen", "Hallo, anbei das Buch.")
	c.Texts = append(c.Texts, content.Text{Part: "2", Name: "book.pdf", Kind: "document", Text: "viagra and cheap weight loss, make money, to be removed"})
	if got := signs(t, scanner.Question{Content: c}); strings.Contains(got, "WORDS_") {
		t.Errorf("of an attachment: %s", got)
	}
	c.Texts[1].Name = ""
	if got := signs(t, scanner.Question{Content: c}); !strings.Contains(got, " WORDS_BODY ") || !strings.Contains(got, " WORDS_MAILING ") {
		t.Errorf("of the mail: %s", got)
	}
	// Phishing hides what it asks for in attachments.
	c.Texts[1] = content.Text{Part: "2", Name: "book.pdf", Kind: "document", Text: "verify your account"}
	c.Links = append(c.Links, anchor("https://x.example/", "here"))
	if got := signs(t, scanner.Question{Content: c}); !strings.Contains(got, " WORDS_ACCOUNT ") {
		t.Errorf("phishing in an attachment: %s", got)
	}
}

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

// The domains of the recipients are protected without anybody saying so.
func TestSigns_RecipientsDomains(t *testing.T) {
	t.Parallel()
	q := scanner.Question{Content: about("a@nordlicht-technlk.example", "", "", "x"), Recipients: []policy.Recipient{{Domain: policy.Domain{Name: "nordlicht-technik.example"}}}}
	if got := signs(t, q); !strings.Contains(got, " DOMAIN_LOOKALIKE ") {
		t.Errorf("an imitation was not found, only%s", got)
	}
	q.Content = about("a@nordlicht-technik.example", "", "", "x")
	if got := signs(t, q); strings.Contains(got, " DOMAIN_LOOKALIKE ") {
		t.Error("the domain itself was taken for an imitation")
	}
}

// Ordinary mail of our days stays clear of both thresholds.
func TestOrdinaryMail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*content.Content{
		"newsletter with click tracker": withHeader(withHeader(about("news@shop-muster.de", "Muster Shop Team", "Neu im Herbst: 20 % Rabatt", "Jetzt bestellen. Abmelden", anchor("https://u123.ct.sendgrid.net/ls/click?upn=u001.Ab3dEfGh1JkLmN0pQrStUvWxYz", "www.shop-muster.de")), "list-unsubscribe", "<https://shop-muster.de/u>"), "precedence", "bulk"),
		"bank":                          about("noreply@sparkasse-koelnbonn.de", "Sparkasse KölnBonn", "Ihr Postfach: neue Mitteilung", "Bitte melden Sie sich wie gewohnt im Online-Banking an.", anchor("https://www.sparkasse-koelnbonn.de/", "sparkasse-koelnbonn.de")),
		"PayPal":                        about("service@paypal.de", "service@paypal.de", "Sie haben eine Zahlung gesendet", "Zahlung über 12,00 EUR", anchor("https://www.paypal.com/de/", "www.paypal.com")),
		"GitHub":                        withHeader(about("notifications@github.com", "Erika M", "[muster/repo] Fix login (PR #12)", "Reply to this email directly, view it on GitHub", anchor("https://github.com/muster/repo/pull/12", "view it on GitHub")), "list-id", "muster/repo <repo.muster.github.com>"),
		"invitation":                    about("kalender@firma-nord.de", "Jan Nord", "Einladung: Projekt-Jour-fixe", "Beitreten", anchor("https://teams.microsoft.com/l/meetup-join/19%3ameeting_x", "Teilnehmen")),
		"invoice":                       about("buchhaltung@firma-nord.de", "Firma Nord GmbH Buchhaltung", "Rechnung 2026-0117", "Anbei unsere Rechnung. Zahlbar innerhalb von 14 Tagen auf das bekannte Konto."),
		"file from SharePoint":          about("jan@firma-nord.de", "Jan Nord", "Jan Nord hat eine Datei geteilt", "Öffnen", anchor("https://firmanord.sharepoint.com/:w:/s/team/Ea1b2C3d4E5f6G7h8I9j0KlMnOpQrStUv", "Öffnen")),
	} {
		sum := 0.0
		found, _, err := engine().Judge(t.Context(), scanner.Question{Content: c, EnvelopeFrom: c.From[0].Address})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			sum += f.Score
		}
		if limit := policy.DefaultThresholds().Spam; sum >= limit {
			t.Errorf("%s adds up to %.1f:%s", name, sum, signs(t, scanner.Question{Content: c}))
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	c := about("news@firma-nord.de", "Firma Nord", "Neuigkeiten im November", strings.Repeat("Die Lieferung kommt am Montag, und der Bericht liegt bei. ", 70))
	for i := range 20 {
		c.Links = append(c.Links, anchor(fmt.Sprintf("https://www.firma-nord.de/artikel/%d", i), "mehr"))
	}
	for b.Loop() {
		if _, _, err := engine().Judge(b.Context(), scanner.Question{Content: c}); err != nil {
			b.Fatal(err)
		}
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
