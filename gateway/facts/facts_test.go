package facts

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"mailward/gateway/ledger"
	"mailward/mailauth"
	"mailward/policy"
	"mailward/scanner/content"
)

func TestAuth_WhoIsAuthenticated(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		r    mailauth.Result
		want bool
	}{
		"nothing":                     {mailauth.Result{From: "a.example"}, false},
		"DMARC says SPF is aligned":   {mailauth.Result{From: "a.example", DMARC: mailauth.DMARC{SPFAligned: true}}, true},
		"DMARC says DKIM is aligned":  {mailauth.Result{From: "a.example", DMARC: mailauth.DMARC{DKIMAligned: true}}, true},
		"no record, SPF of itself":    {mailauth.Result{From: "a.example", SPF: mailauth.SPF{Result: "pass", Domain: "A.example"}}, true},
		"no record, SPF of another":   {mailauth.Result{From: "a.example", SPF: mailauth.SPF{Result: "pass", Domain: "bounces.example"}}, false},
		"no record, SPF fails":        {mailauth.Result{From: "a.example", SPF: mailauth.SPF{Result: "softfail", Domain: "a.example"}}, false},
		"no record, signed by itself": {mailauth.Result{From: "a.example", DKIM: []mailauth.DKIM{{Result: "fail", Domain: "a.example"}, {Result: "pass", Domain: "a.example"}}}, true},
		"no record, signed by others": {mailauth.Result{From: "a.example", DKIM: []mailauth.DKIM{{Result: "pass", Domain: "esp.example"}}}, false},
		"no author, null sender":      {mailauth.Result{SPF: mailauth.SPF{Result: "pass"}}, false},
	} {
		if got := Auth(tt.r, false); got.Authenticated != tt.want || got.Author != tt.r.From {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAuthors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"": nil, "a@x.example": {"a@x.example"}, `"Böb, \"B\"" <a@x.example>`: {"a@x.example"}, "A <a@x.example>, B <b@y.example>": {"a@x.example", "b@y.example"},
		`bank@bank.example <a@x.example>`: {"a@x.example"}, "<a@x.example": {"<a@x.example"}, "undisclosed": {"undisclosed"},
	} {
		if got := Authors(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLinkDomains(t *testing.T) {
	t.Parallel()
	c := &content.Content{}
	for _, l := range []string{"https://Evil.example/a", "http://evil.example:8080/", "mailto:a@x.example", "javascript:x", "https://bücher.example/", "http://192.0.2.1/", "http://[::1]/", "//proto.example/x", "%zz"} {
		c.Links = append(c.Links, content.Link{Target: l})
	}
	if got := LinkDomains(c); !slices.Equal(got, []string{"evil.example", "xn--bcher-kva.example", "proto.example"}) {
		t.Errorf("%q", got)
	}
	for i := range 3000 {
		c.Links = append(c.Links, content.Link{Target: fmt.Sprintf("http://d%d.example/", i)})
	}
	if n := len(LinkDomains(c)); n != maxLinkDomains {
		t.Errorf("%d domains", n)
	}
	if LinkDomains(nil) != nil {
		t.Error("links in nothing")
	}
}

// TestStored: a mail of the ledger gives the same decision again.
func TestStored(t *testing.T) {
	t.Parallel()
	r := mailauth.Result{From: "bank.example", SPF: mailauth.SPF{Result: "fail"}, DMARC: mailauth.DMARC{Result: "fail", Domain: "bank.example", Policy: "reject", RecordDomain: "bank.example"}}
	auth, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	to := policy.Recipient{Address: "a@x.example", Direction: policy.Inbound, Domain: policy.Domain{Name: "x.example"}}
	set := policy.NewEntrySet(nil)
	first := policy.Decide(policy.Input{Auth: Auth(r, false), Mail: policy.Mail{EnvelopeFrom: "x@y.example"}, Recipients: []policy.Recipient{to}, Entries: set,
		Report: policy.Report{Findings: []policy.Finding{{Engine: "yara", Name: "n", Class: policy.Spam}}}})
	again := Stored(ledger.Row{Auth: auth, EnvelopeFrom: "x@y.example", Findings: first.Findings, Direction: policy.Inbound})
	again.Recipients, again.Entries = []policy.Recipient{to}, set
	if d := policy.Decide(again); !reflect.DeepEqual(d, first) {
		t.Errorf("first %+v\nagain %+v", first, d)
	}
	if in := Stored(ledger.Row{Auth: json.RawMessage("{}"), Direction: policy.Outbound}); !in.Auth.Trusted {
		t.Error("an outbound mail of a client that may relay is not known as one")
	}
	if in := Stored(ledger.Row{Auth: json.RawMessage("{}"), Direction: policy.Inbound}); in.Auth.Trusted {
		t.Error("mail that comes in is trusted")
	}
}

// FuzzFacts feeds what a stranger writes into addresses, links and headers.
func FuzzFacts(f *testing.F) {
	f.Add("a@x.example", "A <b@y.example>, c@z.example", "http://evil.example/x", "192.0.2.1")
	f.Add("", `"x" <@>`, "//[::1]:x/%zz", "::ffff:1.2.3.4%eth0")
	f.Fuzz(func(t *testing.T, envelope, from, link, ip string) {
		row := ledger.Row{EnvelopeFrom: envelope, HeaderFrom: from, ClientIP: ip, Direction: policy.Inbound, LinkDomains: LinkDomains(&content.Content{Links: []content.Link{{Target: link}}}),
			Findings: []policy.Finding{{Engine: "e", Name: "n", Class: policy.Malware}}}
		in := Stored(row)
		for _, d := range in.Mail.LinkDomains {
			if name, err := policy.NormaliseDomain(d); err != nil || name != d {
				t.Errorf("link %q gives %q", link, d)
			}
		}
		in.Recipients = []policy.Recipient{{Address: envelope, Domain: policy.Domain{Name: "x.example"}}}
		if d := policy.Decide(in); len(in.Mail.From) > maxAuthors || d.Class != policy.Malware || d.Action != policy.Quarantine {
			t.Errorf("%s, %s", d.Class, d.Action)
		}
	})
}
