package policy

import (
	"reflect"
	"strings"
	"testing"
)

func TestDecide_DMARC(t *testing.T) {
	t.Parallel()
	rcpt := func(domain string, mode DMARCMode, trusted ...string) Recipient {
		return Recipient{Address: "a@" + domain, Direction: Inbound, Domain: Domain{Name: domain},
			Policy: Policy{Domain: domain, Actions: map[Class]Action{Spam: Tag, Malware: Reject, Suspicious: Defer}, Auth: &AuthSettings{DMARC: mode, TrustedARCSealers: trusted}}}
	}
	fails := func(wanted, policy string, chain ...Sealer) Auth {
		return Auth{Wanted: wanted, Policy: policy, Domain: "bank.example", Record: "bank.example", Sealers: chain}
	}
	good, bad := func(d string) Sealer { return Sealer{d, true} }, func(d string) Sealer { return Sealer{d, false} }
	honour, quarantine, report := rcpt("h.example", Honour), rcpt("q.example", QuarantineOnly), rcpt("r.example", ReportOnly)
	trusting := rcpt("t.example", Honour, "list.example", "hub.example")
	out := rcpt("world.example", Honour)
	out.Direction = Outbound
	list := func(r ...Recipient) []Recipient { return r }
	for name, tt := range map[string]struct {
		auth    Auth
		found   Class
		to      []Recipient
		class   Class
		actions []Action
		counts  bool
	}{
		"pass":                           {Auth{Wanted: "none", Policy: "reject", Domain: "bank.example"}, "", list(honour), Clean, []Action{Deliver}, false},
		"nobody asked":                   {Auth{}, "", list(honour), Clean, []Action{Deliver}, false},
		"DNS trouble never acts":         {Auth{Wanted: "none", Domain: "bank.example"}, "", list(honour, quarantine), Clean, []Action{Deliver, Deliver}, false},
		"honour reject":                  {fails("reject", "reject"), "", list(honour), Phishing, []Action{Reject}, true},
		"honour quarantine":              {fails("quarantine", "quarantine"), "", list(honour), Phishing, []Action{Quarantine}, true},
		"quarantine only":                {fails("reject", "reject"), "", list(quarantine), Phishing, []Action{Quarantine}, true},
		"no setting is quarantine":       {fails("reject", "reject"), "", list(rcpt("n.example", "")), Phishing, []Action{Quarantine}, true},
		"report only":                    {fails("reject", "reject"), "", list(report), Clean, []Action{Deliver}, false},
		"testing reject":                 {fails("quarantine", "reject"), "", list(honour), Phishing, []Action{Quarantine}, true},
		"testing quarantine":             {fails("none", "quarantine"), "", list(honour), Clean, []Action{Deliver}, false},
		"outbound":                       {fails("reject", "reject"), "", list(out), Clean, []Action{Deliver}, false},
		"reject in a mixed mail":         {fails("reject", "reject"), "", list(honour, report), Phishing, []Action{Quarantine, Deliver}, true},
		"report is decided by content":   {fails("reject", "reject"), Spam, list(quarantine, report), Phishing, []Action{Quarantine, Tag}, true},
		"content is stricter":            {fails("reject", "reject"), Malware, list(quarantine), Malware, []Action{Reject}, true},
		"a defer is stricter":            {fails("quarantine", "quarantine"), Suspicious, list(quarantine), Phishing, []Action{Defer}, true},
		"trusted sealer":                 {fails("reject", "reject", good("list.example")), "", list(trusting), Clean, []Action{Deliver}, false},
		"sealer in capitals":             {fails("reject", "reject", good("List.Example")), "", list(trusting), Clean, []Action{Deliver}, false},
		"trusted sealer saw a failure":   {fails("reject", "reject", bad("list.example")), "", list(trusting), Phishing, []Action{Reject}, true},
		"stranger":                       {fails("reject", "reject", good("evil.example")), "", list(trusting), Phishing, []Action{Reject}, true},
		"stranger on top":                {fails("reject", "reject", good("list.example"), good("evil.example")), "", list(trusting), Phishing, []Action{Reject}, true},
		"stranger below who says good":   {fails("reject", "reject", good("evil.example"), bad("list.example")), "", list(trusting), Phishing, []Action{Reject}, true},
		"two trusted, the older counts":  {fails("reject", "reject", good("list.example"), bad("hub.example")), "", list(trusting), Clean, []Action{Deliver}, false},
		"two trusted, the older saw bad": {fails("reject", "reject", bad("list.example"), good("hub.example")), "", list(trusting), Phishing, []Action{Reject}, true},
		"trusted by one only":            {fails("reject", "reject", good("list.example")), "", list(trusting, quarantine), Phishing, []Action{Deliver, Quarantine}, true},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Auth: tt.auth, Recipients: tt.to, SandboxConfigured: true, Report: Report{Engines: []EngineAnswer{{Engine: "clamav", Answered: true}}}}
			if tt.found != "" {
				in.Report.Findings = []Finding{{Engine: "clamav", Name: "n", Class: tt.found}}
			}
			before := len(in.Report.Findings)
			d := Decide(in)
			var got []Action
			for _, r := range d.Recipients {
				got = append(got, r.Action)
				if r.Why == "" {
					t.Error("a decision without a reason")
				}
			}
			if d.Class != tt.class || !reflect.DeepEqual(got, tt.actions) {
				t.Errorf("got %s %v, want %s %v", d.Class, got, tt.class, tt.actions)
			}
			if has := len(d.Findings) == before+1 && d.Findings[before].Engine == "mailauth"; has != tt.counts {
				t.Errorf("findings %+v", d.Findings)
			}
			if len(in.Report.Findings) != before {
				t.Error("the report was changed")
			}
			_, refused := d.RejectedFor()
			if want := tt.counts && d.Action == Reject && d.Class == Phishing; refused != want {
				t.Errorf("rejected for the author's domain: %v, want %v", refused, want)
			}
		})
	}
}

func TestDecide_DMARCSaysWhy(t *testing.T) {
	t.Parallel()
	a := Auth{Wanted: "quarantine", Policy: "reject", Domain: "bank.example", Record: "example", Sealers: []Sealer{{"list.example", true}}}
	r := Recipient{Address: "a@x.example", Domain: Domain{Name: "x.example"}, Policy: Policy{Domain: "x.example", Auth: &AuthSettings{DMARC: Honour}}}
	d := Decide(Input{Auth: a, Recipients: []Recipient{r}})
	if f := d.Findings[0]; f.Name != "DMARC.Quarantine" || !strings.Contains(f.Reason, "bank.example") || !strings.Contains(f.Reason, "test") {
		t.Errorf("%+v", f)
	}
	r.Policy.Auth.TrustedARCSealers = []string{"list.example"}
	d = Decide(Input{Auth: a, Recipients: []Recipient{r}})
	if all := strings.Join(d.Reasons, " "); !strings.Contains(all, "list.example, which is trusted") {
		t.Errorf("reasons %q", all)
	}
}

func TestDecision_Deferred(t *testing.T) {
	t.Parallel()
	d := Decide(Input{Recipients: []Recipient{{Address: "a@x.example"}, {Address: "b@x.example"}}})
	late := d.Deferred("later")
	if late.Action != Defer || len(late.For(Defer)) != 2 || d.Action != Deliver || len(d.For(Deliver)) != 2 {
		t.Errorf("%+v, before %+v", late, d)
	}
}
