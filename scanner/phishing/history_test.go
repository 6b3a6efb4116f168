package phishing

import (
	"strings"
	"testing"
	"time"

	"mailward/policy"
	"mailward/scanner"
)

func TestSigns_OfHistory(t *testing.T) {
	t.Parallel()
	now := engine().cfg.Now()
	long, today := now.Add(-60*24*time.Hour), now.Add(-time.Hour)
	known := scanner.Past{Mails: 3, Since: long}
	mail := about("anna@partner.example", "Anna", "Hello", "A short word.")
	listed := withHeader(about("anna@partner.example", "Anna", "Hello", "A short word."), "list-id", "<x.example>")
	for name, c := range map[string]struct {
		q            scanner.Question
		want, absent string
	}{
		"a stranger":             {scanner.Question{Content: mail, History: scanner.History{Ripe: true}}, "SENDER_FIRST SENDER_DOMAIN_NEW", "LINK_DOMAIN_NEW"},
		"unripe":                 {scanner.Question{Content: mail, History: scanner.History{NewLinks: []string{"x.example"}}}, "", "SENDER_FIRST SENDER_DOMAIN_NEW LINK_DOMAIN_NEW"},
		"on a list":              {scanner.Question{Content: listed, History: scanner.History{Ripe: true}}, "", "SENDER_FIRST SENDER_DOMAIN_NEW"},
		"outbound":               {scanner.Question{Content: mail, Direction: policy.Outbound, History: scanner.History{Ripe: true}}, "", "SENDER_FIRST SENDER_DOMAIN_NEW"},
		"one of ours":            {scanner.Question{Content: about("a@muster-werke.example", "A", "Hello", "A word."), History: scanner.History{Ripe: true}}, "", "SENDER_FIRST SENDER_DOMAIN_NEW"},
		"we wrote first":         {scanner.Question{Content: mail, History: scanner.History{Ripe: true, Written: true}}, "", "SENDER_FIRST SENDER_DOMAIN_NEW"},
		"a colleague of one":     {scanner.Question{Content: mail, History: scanner.History{Ripe: true, Domain: known}}, "SENDER_FIRST", "SENDER_DOMAIN_NEW"},
		"second mail of a day":   {scanner.Question{Content: mail, History: scanner.History{Ripe: true, Sender: scanner.Past{Mails: 1, Since: today}, Domain: scanner.Past{Mails: 1, Since: today}}}, "SENDER_DOMAIN_NEW", "SENDER_FIRST"},
		"a new link":             {scanner.Question{Content: mail, History: scanner.History{Ripe: true, Sender: known, Domain: known, NewLinks: []string{"login-now.example"}}}, "LINK_DOMAIN_NEW", "SENDER_FIRST"},
		"a link to oneself":      {scanner.Question{Content: mail, History: scanner.History{Ripe: true, Sender: known, Domain: known, NewLinks: []string{"partner.example"}}}, "", "LINK_DOMAIN_NEW"},
		"a link to us":           {scanner.Question{Content: mail, History: scanner.History{Ripe: true, Sender: known, Domain: known, NewLinks: []string{"muster-werke.example"}}}, "", "LINK_DOMAIN_NEW"},
		"a bad name":             {scanner.Question{Content: mail, History: scanner.History{Sender: scanner.Past{Mails: 5, Bad: 3, Since: long}}}, "SENDER_BAD", "SENDER_GOOD"},
		"half bad":               {scanner.Question{Content: mail, History: scanner.History{Sender: scanner.Past{Mails: 6, Bad: 3, Since: long}}}, "", "SENDER_BAD SENDER_GOOD"},
		"too few to be bad":      {scanner.Question{Content: mail, History: scanner.History{Sender: scanner.Past{Mails: 2, Bad: 2, Since: long}}}, "", "SENDER_BAD"},
		"a good name":            {scanner.Question{Content: mail, History: scanner.History{Proven: true, Sender: scanner.Past{Mails: 10, Since: long}}}, "SENDER_GOOD", "SENDER_BAD"},
		"a good name, not shown": {scanner.Question{Content: mail, History: scanner.History{Sender: scanner.Past{Mails: 10, Since: long}}}, "", "SENDER_GOOD"},
		"good since yesterday":   {scanner.Question{Content: mail, History: scanner.History{Proven: true, Sender: scanner.Past{Mails: 90, Since: now.Add(-24 * time.Hour)}}}, "", "SENDER_GOOD"},
		"one bad mail":           {scanner.Question{Content: mail, History: scanner.History{Proven: true, Sender: scanner.Past{Mails: 90, Bad: 1, Since: long}}}, "", "SENDER_GOOD"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := signs(t, c.q)
			for w := range strings.FieldsSeq(c.want) {
				if !strings.Contains(got, " "+w+" ") {
					t.Errorf("%s missing in %s", w, got)
				}
			}
			for w := range strings.FieldsSeq(c.absent) {
				if strings.Contains(got, " "+w+" ") {
					t.Errorf("%s in %s", w, got)
				}
			}
		})
	}
}

// A good name helps against spam, never against phishing.
func TestSigns_GoodNameIsOfSpamAlone(t *testing.T) {
	t.Parallel()
	for _, s := range Symbols().Phishing {
		if s.Weight <= 0 {
			t.Errorf("%s weighs %v", s.Name, s.Weight)
		}
	}
}
