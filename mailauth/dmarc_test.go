package mailauth

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mailward/internal/dns"
	"mailward/internal/testenv"
)

// asker is our resolver in front of a DNS server with zone.
func asker(t testing.TB, zone string) (*dns.Resolver, *testenv.DNSServer) {
	t.Helper()
	s := testenv.DNS(t, strings.ReplaceAll(zone, "\n\t\t", "\n"))
	r, err := dns.New(dns.Config{Servers: []string{s.Addr}, Try: 50 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

func TestParseDMARC(t *testing.T) {
	t.Parallel()
	type want struct {
		policy, tag string
		apply       bool
	}
	for _, tt := range []struct {
		record      string
		own, exists bool
		want        want
	}{
		{"v=DMARC1; p=reject", true, true, want{Reject, "p", true}},
		{"v=DMARC1;p=reject;", true, true, want{Reject, "p", true}},
		{" v = DMARC1 ; p = Quarantine ; ", true, true, want{Quarantine, "p", true}},
		{"v=DMARC1; sp=none; p=reject", false, true, want{None, "sp", true}},
		{"v=DMARC1; p=reject", false, true, want{Reject, "p", true}},
		{"v=DMARC1; p=none; sp=quarantine; np=reject", false, false, want{Reject, "np", true}},
		{"v=DMARC1; p=none; sp=quarantine; np=reject", false, true, want{Quarantine, "sp", true}},
		{"v=DMARC1; p=none; sp=quarantine; np=reject", true, false, want{None, "p", true}},
		{"v=DMARC1; p=none; sp=quarantine", false, false, want{Quarantine, "sp", true}},
		{"v=DMARC1; p=reject; x-unknown=1; pct=0; rf=afrf", true, true, want{Reject, "p", true}},
		{"v=DMARC1; p=reject; p=none", true, true, want{Reject, "p", true}},
		{"v=DMARC1; p=reject; nonsense", true, true, want{Reject, "p", true}},
		// §4.10.1: no p, or one that cannot be read.
		{"v=DMARC1", true, true, want{None, "p", false}},
		{"v=DMARC1; rua=mailto:a@example.org", true, true, want{None, "p", true}},
		{"v=DMARC1; p=bogus; rua=mailto:a@example.org", true, true, want{None, "p", true}},
		{"v=DMARC1; p=bogus; rua=nonsense", true, true, want{None, "p", false}},
		{"v=DMARC1; p=reject; sp=bogus", true, true, want{None, "p", false}},
		{"v=DMARC1; p=reject; np=bogus; rua=bad, mailto:a@example.org", true, true, want{None, "p", true}},
	} {
		r, ok := parseDMARC(tt.record)
		if !ok {
			t.Errorf("%q: no record", tt.record)
			continue
		}
		if p, tag, apply := r.wants(tt.own, tt.exists); (want{p, tag, apply}) != tt.want {
			t.Errorf("%q own=%v exists=%v: %s %s %v, want %+v", tt.record, tt.own, tt.exists, p, tag, apply, tt.want)
		}
	}
	for _, s := range []string{"", "v=DMARC2; p=reject", "v=dmarc1; p=reject", "p=reject; v=DMARC1", "v=DMARC1 p=reject", "v=DMARC10; p=reject", "v=spf1 -all", ";v=DMARC1; p=reject"} {
		if _, ok := parseDMARC(s); ok {
			t.Errorf("%q is a record", s)
		}
	}
	r, _ := parseDMARC("v=DMARC1; p=none; psd=Y; t=y; aspf=s; adkim=s")
	if r.psd != "y" || !r.testing || !r.strictSPF || !r.strictDKIM {
		t.Errorf("%+v", r)
	}
	if r, _ := parseDMARC("v=DMARC1; p=none; psd=x; t=z; aspf=q; adkim="); r.psd != "u" || r.testing || r.strictSPF || r.strictDKIM {
		t.Errorf("bad values are not the defaults: %+v", r)
	}
}

// The examples of RFC 9989 §4.10.
func TestTreeNames(t *testing.T) {
	t.Parallel()
	for domain, want := range map[string]string{
		"com":                "com",
		"example.com":        "example.com com",
		"a.mail.example.com": "a.mail.example.com mail.example.com example.com com",
		"a.b.c.d.e.f.g.h.i.j.mail.example.com": "a.b.c.d.e.f.g.h.i.j.mail.example.com g.h.i.j.mail.example.com h.i.j.mail.example.com " +
			"i.j.mail.example.com j.mail.example.com mail.example.com example.com com",
		"1.2.3.4.5.6.7.8": "1.2.3.4.5.6.7.8 2.3.4.5.6.7.8 3.4.5.6.7.8 4.5.6.7.8 5.6.7.8 6.7.8 7.8 8",
	} {
		if got := strings.Join(treeNames(domain), " "); got != want {
			t.Errorf("%s: %s", domain, got)
		}
	}
	if n := len(treeNames(strings.Repeat("a.", 120) + "org")); n != maxTreeQueries {
		t.Errorf("%d questions", n)
	}
}

// The examples of RFC 9989 §4.10.2, and what follows from its rules.
func TestOrganization(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, zone, domain, want string }{
		{"fewest labels", "mail.example.com p=none|example.com p=none", "a.mail.example.com", "example.com"},
		{"psd=n", "mail.example.com p=none;psd=n|example.com p=none", "a.mail.example.com", "mail.example.com"},
		{"only a public suffix", "com p=none;psd=y", "a.mail.example.com", "example.com"},
		{"a public suffix above others", "com p=none;psd=y|mail.example.com p=none", "a.mail.example.com", "example.com"},
		{"a suffix of two labels", "co.example p=none;psd=y", "a.b.co.example", "b.co.example"},
		{"nothing", "", "a.mail.example.com", "a.mail.example.com"},
		{"at a public suffix itself", "co.example p=none;psd=y", "co.example", "co.example"},
		{"its own record only", "mail.example.com p=none", "mail.example.com", "mail.example.com"},
		{"psd=n where it starts", "a.example.com p=none;psd=n|example.com p=none", "a.example.com", "a.example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := asker(t, dmarcZone(tt.zone))
			if got, err := organization(treeWalk(t.Context(), r, tt.domain)); got != tt.want || err != nil {
				t.Errorf("%s: %s %v, want %s", tt.domain, got, err, tt.want)
			}
		})
	}
}

// dmarcZone makes records of "domain tags|domain tags".
func dmarcZone(s string) string {
	var b strings.Builder
	for entry := range strings.SplitSeq(s, "|") {
		if domain, tags, ok := strings.Cut(entry, " "); ok {
			b.WriteString("_dmarc." + domain + `. IN TXT "v=DMARC1;` + tags + "\"\n")
		}
	}
	return b.String()
}

func TestDMARC(t *testing.T) {
	t.Parallel()
	pass := func(domain string) []DKIM { return []DKIM{{Result: Pass, Domain: domain}} }
	type fault struct {
		name string
		how  testenv.DNSFault
	}
	for _, tt := range []struct {
		name, zone, from string
		faults           []fault
		spf              SPF
		dkim             []DKIM
		want             DMARC // what is not "" is compared
	}{
		{name: "no record", from: "example.org", want: DMARC{Result: None, OrgDomain: "example.org"}},
		{name: "nothing passes", zone: "example.org p=reject", from: "example.org", want: DMARC{Result: Fail, Policy: Reject, Tag: "p", RecordDomain: "example.org"}},
		{name: "SPF", zone: "example.org p=reject", from: "example.org", spf: SPF{Result: Pass, Domain: "example.org"}, want: DMARC{Result: Pass, SPFAligned: true}},
		{name: "SPF of a subdomain", zone: "example.org p=reject", from: "example.org", spf: SPF{Result: Pass, Domain: "bounce.example.org"}, want: DMARC{Result: Pass}},
		{name: "SPF of a subdomain, strict", zone: "example.org p=reject;aspf=s", from: "example.org", spf: SPF{Result: Pass, Domain: "bounce.example.org"}, want: DMARC{Result: Fail, StrictSPF: true}},
		{name: "SPF of a stranger", zone: "example.org p=reject", from: "example.org", spf: SPF{Result: Pass, Domain: "evil.example"}, want: DMARC{Result: Fail}},
		{name: "SPF of a name that ends alike", zone: "example.org p=reject|evilexample.org p=none", from: "example.org", spf: SPF{Result: Pass, Domain: "evilexample.org"}, want: DMARC{Result: Fail}},
		{name: "SPF softfail is no pass", zone: "example.org p=reject", from: "example.org", spf: SPF{Result: SoftFail, Domain: "example.org"}, want: DMARC{Result: Fail}},
		{name: "SPF neutral is no pass", zone: "example.org p=reject", from: "example.org", spf: SPF{Result: Neutral, Domain: "example.org"}, want: DMARC{Result: Fail}},
		{name: "DKIM", zone: "example.org p=reject", from: "example.org", dkim: pass("example.org"), want: DMARC{Result: Pass, DKIMAligned: true}},
		{name: "DKIM of the parent", zone: "example.org p=reject", from: "news.example.org", dkim: pass("example.org"), want: DMARC{Result: Pass, RecordDomain: "example.org", OrgDomain: "example.org"}},
		{name: "DKIM of a sibling", zone: "example.org p=reject", from: "a.example.org", dkim: pass("b.example.org"), want: DMARC{Result: Pass}},
		{name: "DKIM of the parent, strict", zone: "example.org p=reject;adkim=s", from: "news.example.org", dkim: pass("example.org"), want: DMARC{Result: Fail, StrictDKIM: true}},
		{name: "DKIM of the top level", zone: "example.org p=reject", from: "example.org", dkim: pass("org"), want: DMARC{Result: Fail}},
		{name: "DKIM across psd=n", zone: "example.org p=none|lab.example.org p=reject;psd=n", from: "lab.example.org", dkim: pass("example.org"), want: DMARC{Result: Fail, OrgDomain: "lab.example.org"}},
		{name: "DKIM from below psd=n", zone: "example.org p=reject|lab.example.org p=none;psd=n", from: "example.org", dkim: pass("x.lab.example.org"), want: DMARC{Result: Fail, OrgDomain: "example.org"}},
		{name: "siblings below a public suffix", zone: "co.example p=reject;psd=y", from: "a.co.example", dkim: pass("b.co.example"), want: DMARC{Result: Fail, Policy: Reject, RecordDomain: "co.example", OrgDomain: "a.co.example"}},
		{name: "a partial signature is no pass", zone: "example.org p=reject", from: "example.org", dkim: []DKIM{{Result: Policy, Domain: "example.org"}}, want: DMARC{Result: Fail}},
		{name: "one of several signatures", zone: "example.org p=reject", from: "example.org", dkim: []DKIM{{Result: Fail, Domain: "example.org"}, {Result: Pass, Domain: "list.example"}, {Result: Pass, Domain: "m.example.org"}}, want: DMARC{Result: Pass, DKIMAligned: true}},

		{name: "sp", zone: "example.org p=reject;sp=quarantine", from: "a.example.org", want: DMARC{Result: Fail, Policy: Quarantine, Tag: "sp", RecordDomain: "example.org"}},
		{name: "np", zone: "example.org p=none;sp=none;np=reject", from: "missing.example.org", want: DMARC{Result: Fail, Policy: Reject, Tag: "np"}},
		{name: "np, but the name exists", zone: "example.org p=none;sp=quarantine;np=reject|a.example.org.x p=none", from: "there.example.org", want: DMARC{Result: Fail, Policy: Quarantine, Tag: "sp"}},
		{name: "np, and nobody knows", zone: "example.org p=none;sp=none;np=reject", from: "missing.example.org", faults: []fault{{"missing.example.org", testenv.DNSServFail}}, want: DMARC{Result: TempError}},
		{name: "np as sp, and nobody knows", zone: "example.org p=none;sp=reject;np=reject", from: "missing.example.org", faults: []fault{{"missing.example.org", testenv.DNSServFail}}, want: DMARC{Result: Fail, Policy: Reject}},
		{name: "own record before the organization's", zone: "example.org p=reject|a.example.org p=none", from: "a.example.org", want: DMARC{Result: Fail, Policy: None, Tag: "p", RecordDomain: "a.example.org", OrgDomain: "example.org"}},
		{name: "a record in between does not count", zone: "example.org p=reject|b.example.org p=none", from: "a.b.example.org", want: DMARC{Result: Fail, Policy: Reject, RecordDomain: "example.org"}},
		{name: "the public suffix's record", zone: "bank p=none;sp=reject;psd=y", from: "a.example.bank", want: DMARC{Result: Fail, Policy: Reject, Tag: "sp", RecordDomain: "bank", OrgDomain: "example.bank"}},
		{name: "testing", zone: "example.org p=reject;t=y", from: "example.org", want: DMARC{Result: Fail, Policy: Reject, Testing: true}},
		{name: "several records are none", zone: "example.org p=reject|example.org p=none", from: "example.org", want: DMARC{Result: None}},
		{name: "no policy, but reports", zone: "example.org rua=mailto:a@example.org", from: "example.org", want: DMARC{Result: Fail, Policy: None}},
		{name: "no policy, no reports", zone: "example.org x=y", from: "example.org", want: DMARC{Result: None}},
		{name: "no policy of its own: not the parent's", zone: "example.org p=reject|a.example.org x=y", from: "a.example.org", want: DMARC{Result: None}},

		{name: "record unknown", zone: "example.org p=reject", from: "example.org", faults: []fault{{"_dmarc.example.org", testenv.DNSServFail}}, want: DMARC{Result: TempError}},
		{name: "record unknown, SPF passes", zone: "example.org p=reject", from: "example.org", faults: []fault{{"_dmarc.example.org", testenv.DNSSilent}}, spf: SPF{Result: Pass, Domain: "example.org"}, want: DMARC{Result: TempError}},
		{name: "parent unknown", zone: "example.org p=reject", from: "a.example.org", faults: []fault{{"_dmarc.example.org", testenv.DNSServFail}}, want: DMARC{Result: TempError}},
		{name: "parent unknown, but not needed", zone: "a.example.org p=reject", from: "a.example.org", faults: []fault{{"_dmarc.org", testenv.DNSServFail}}, dkim: pass("a.example.org"), want: DMARC{Result: Pass}},
		{name: "parent unknown, and needed", zone: "a.example.org p=reject", from: "a.example.org", faults: []fault{{"_dmarc.org", testenv.DNSServFail}}, dkim: pass("b.example.org"), want: DMARC{Result: TempError}},
		{name: "parent unknown, strangers only", zone: "a.example.org p=reject", from: "a.example.org", faults: []fault{{"_dmarc.org", testenv.DNSServFail}}, dkim: pass("evil.example"), want: DMARC{Result: Fail}},
		{name: "SPF temperror", zone: "example.org p=reject", from: "example.org", spf: SPF{Result: TempError, Domain: "example.org"}, want: DMARC{Result: TempError}},
		{name: "DKIM temperror", zone: "example.org p=reject", from: "example.org", dkim: []DKIM{{Result: TempError, Domain: "m.example.org"}}, want: DMARC{Result: TempError}},
		{name: "a stranger's temperror is nobody's excuse", zone: "example.org p=reject", from: "example.org", spf: SPF{Result: TempError, Domain: "evil.example"}, dkim: []DKIM{{Result: TempError, Domain: "evil.example"}}, want: DMARC{Result: Fail, Policy: Reject}},
		{name: "DKIM temperror, SPF passes", zone: "example.org p=reject", from: "example.org", spf: SPF{Result: Pass, Domain: "example.org"}, dkim: []DKIM{{Result: TempError, Domain: "example.org"}}, want: DMARC{Result: Pass}},
		{name: "no author", want: DMARC{Result: PermError}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, s := asker(t, dmarcZone(tt.zone)+"there.example.org. IN A 192.0.2.1\n")
			for _, f := range tt.faults {
				s.Fail(f.name, f.how)
			}
			d := New(r).newDMARC(t.Context(), tt.from)
			d.discover()
			got := d.evaluate(&Result{From: tt.from, FromProblem: "no From field", SPF: tt.spf, DKIM: slices.Clone(tt.dkim)})
			w := tt.want
			if got.Result != w.Result || w.Policy != "" && got.Policy != w.Policy || w.Tag != "" && got.Tag != w.Tag || w.RecordDomain != "" && got.RecordDomain != w.RecordDomain ||
				w.OrgDomain != "" && got.OrgDomain != w.OrgDomain || w.SPFAligned && !got.SPFAligned || w.DKIMAligned && !got.DKIMAligned || got.Testing != w.Testing ||
				got.StrictSPF != w.StrictSPF || got.StrictDKIM != w.StrictDKIM {
				t.Errorf("got  %+v\nwant %+v", got, w)
			}
		})
	}
}

func TestDMARC_Wanted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		d    DMARC
		want string
	}{
		{DMARC{Result: Fail, Policy: Reject}, Reject},
		{DMARC{Result: Fail, Policy: Quarantine}, Quarantine},
		{DMARC{Result: Fail, Policy: Reject, Testing: true}, Quarantine}, // RFC 9989 §4.7
		{DMARC{Result: Fail, Policy: Quarantine, Testing: true}, None},
		{DMARC{Result: Fail, Policy: None, Testing: true}, None},
		{DMARC{Result: Pass, Policy: Reject}, None},
		{DMARC{Result: TempError, Policy: Reject}, None},
		{DMARC{Result: None}, None},
	} {
		if got := tt.d.Wanted(); got != tt.want {
			t.Errorf("%+v wants %s", tt.d, got)
		}
	}
}

// A walk never asks more than eight names.
func TestTreeWalk_Questions(t *testing.T) {
	t.Parallel()
	r, s := asker(t, "")
	treeWalk(t.Context(), r, strings.Repeat("a.", 100)+"example.org")
	// On a busy machine one is sent again.
	if n := len(slices.Compact(slices.Sorted(slices.Values(s.Questions())))); n != maxTreeQueries {
		t.Errorf("%d questions", n)
	}
}

func TestAuthorDomain(t *testing.T) {
	t.Parallel()
	const problem = "!"
	for header, want := range map[string]string{
		"From: a@example.org\r\n":                                    "example.org",
		"From: A <a@Example.ORG>\r\n":                                "example.org",
		"From : a@example.org.\r\n":                                  "example.org",
		"FROM:\r\n A\r\n\t<a@example.org>\r\n":                       "example.org",
		"From: \"a@good.example\" <b@evil.example>\r\n":              "evil.example",
		"From: a@good.example <b@evil.example>\r\n":                  "evil.example",
		"From: <b@evil.example> (a@good.example)\r\n":                "evil.example",
		"From: (a@good.example) b@evil.example\r\n":                  "evil.example",
		"From: =?utf-8?q?a=40good.example?= <b@evil.example>\r\n":    "evil.example",
		"From: Doe, Inc. <a@example.org>\r\n":                        "example.org",
		"From: \"a\\\"<x@good.example>\" <b@evil.example>\r\n":       "evil.example",
		"From: \"x@y\"@example.org\r\n":                              "example.org",
		"From: <\"<x@good.example>\"@evil.example>\r\n":              "evil.example",
		"From: <@good.example,@b.example:c@evil.example>\r\n":        "evil.example",
		"From: a@(good.example)evil.example\r\n":                     "evil.example",
		"From: Team: a@example.org, B <b@example.org>;\r\n":          "example.org",
		"From: a@example.org, b@example.org\r\n":                     "example.org",
		"From: a@b\u00fccher.example\r\n":                            "xn--bcher-kva.example",
		"From: a@XN--Bcher-KVA.example\r\n":                          "xn--bcher-kva.example",
		"From: a@ex\u00adample.org\r\n":                              "example.org",
		"From: root@localhost\r\n":                                   "localhost",
		"From: a@example.org, b@other.example\r\n":                   problem,
		"From: Team: a@example.org;, b@other.example\r\n":            problem,
		"From: a@example.org\r\nFrom: a@example.org\r\n":             problem,
		"From: a@example.org\r\nfrom : b@example.org\r\n":            problem,
		"From: a@example.org\r\nFrom\r\n : b@example.org\r\n":        problem,
		"From: a@example . org\r\n":                                  "example.org",
		"From: a@example.(x) org (y)\r\n":                            "example.org",
		"From: A <a@example.org> (A)\r\n":                            "example.org",
		"From: a@good.example x.evil.example\r\n":                    problem,
		"From: a@good(x)evil.example\r\n":                            problem,
		"From: a@good.example: b@evil.example;\r\n":                  problem,
		"From: <b@evil.example> a@good.example\r\n":                  problem,
		"Subject: x\r\n":                                             problem,
		"From:\r\n":                                                  problem,
		"From: nobody\r\n":                                           problem,
		"From: undisclosed-recipients:;\r\n":                         problem,
		"From: a@[192.0.2.1]\r\n":                                    problem,
		"From: a@good.example@evil.example\r\n":                      problem,
		"From: <a@good.example> <b@evil.example>\r\n":                problem,
		"From: <a@good.example\r\n":                                  problem,
		"From: a@good.example>\r\n":                                  problem,
		"From: \"a <a@good.example>\r\n":                             problem,
		"From: (a <a@good.example>\r\n":                              problem,
		"From: <a@good.example\x00.evil.example>\r\n":                problem,
		"From: a@exa mple..org\r\n":                                  problem,
		"From: @example.org\r\n":                                     problem,
		"From: a@\r\n":                                               problem,
		"From: a@" + strings.Repeat("x", 64) + ".org\r\n":            problem,
		"From: a@b\xfccher.example\r\n":                              problem,
		"From: " + strings.Repeat("a@example.org,", 200) + "b\r\n":   problem,
		"From: \"\\\" <a@good.example>\" <b@evil.example> \"x\"\r\n": "evil.example",
	} {
		got, why := authorDomain(splitFields([]byte(header)))
		if want == problem && (got != "" || why == "") || want != problem && (got != want || why != "") {
			t.Errorf("%q: %q (%s), want %q", header[:min(len(header), 80)], got, why, want)
		}
	}
}

// FuzzDMARC: no record, no From makes a reader panic or say what cannot be.
func FuzzDMARC(f *testing.F) {
	f.Add("v=DMARC1; p=reject; sp=none; rua=mailto:a@b", "From: A <a@example.org>\r\n")
	f.Add("v = DMARC1;;p=;np=reject;t=y;psd=y", "From: g: \"a\" <b@c>, (x) d@e;\r\n")
	f.Fuzz(func(t *testing.T, record, header string) {
		if r, ok := parseDMARC(record); ok {
			p, tag, _ := r.wants(false, false)
			if p != None && p != Quarantine && p != Reject || tag != "p" && tag != "sp" && tag != "np" {
				t.Fatalf("%q %q", p, tag)
			}
		}
		d, why := authorDomain(splitFields([]byte(header)))
		if (d == "") == (why == "") || d != "" && (!askable(d) || d != strings.ToLower(d)) {
			t.Fatalf("%q %q", d, why)
		}
		if d != "" && len(treeNames(d)) > maxTreeQueries {
			t.Fatal("too many names")
		}
	})
}
