package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var entryNow = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// entry makes one as the store would have it.
func entry(t testing.TB, e Entry) Entry {
	t.Helper()
	e.ID = uuid.New()
	if e.Domain == "" {
		e.Domain = "*"
	}
	e.Owner, e.Reason = "soc@ours.example", "agreed in TICKET-1"
	if err := e.check(entryNow); err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	return e
}

func TestEntry_Check(t *testing.T) {
	t.Parallel()
	past, far, soon := entryNow.Add(-time.Hour), entryNow.Add(400*24*time.Hour), entryNow.Add(time.Hour)
	good := Entry{Kind: EntryAllow, Match: MatchDomain, Value: "Partner.Example.", Classes: []Class{Spam}, Owner: "a", Reason: "why not"}
	e := good
	if err := e.check(entryNow); err != nil || e.Value != "partner.example" || !e.ExpiresAt.Equal(entryNow.Add(AllowFor)) || e.Direction != Inbound {
		t.Errorf("%+v, %v", e, err)
	}
	block := Entry{Kind: EntryBlock, Match: MatchSubject, Value: "(?i)free money", Owner: "a", Reason: "why not"}
	e = block
	if err := e.check(entryNow); err != nil || e.Class != Spam || e.Action != Quarantine || e.ExpiresAt != nil {
		t.Errorf("%+v, %v", e, err)
	}
	for name, change := range map[string]func(e, b *Entry){
		"no reason":               func(e, _ *Entry) { e.Reason = "x" },
		"no owner":                func(e, _ *Entry) { e.Owner = " " },
		"no classes":              func(e, _ *Entry) { e.Classes = nil },
		"malware":                 func(e, _ *Entry) { e.Classes = []Class{Malware} },
		"unscannable":             func(e, _ *Entry) { e.Classes = []Class{Spam, Unscannable} },
		"an allow for a link":     func(e, _ *Entry) { e.Match = MatchLink },
		"an allow for a subject":  func(e, _ *Entry) { e.Match = MatchSubject },
		"ended":                   func(e, _ *Entry) { e.ExpiresAt = &past },
		"too long":                func(e, _ *Entry) { e.ExpiresAt = &far },
		"no domain":               func(e, _ *Entry) { e.Value = "a b" },
		"no address":              func(e, _ *Entry) { e.Match, e.Value = MatchSender, "partner.example" },
		"a huge network":          func(e, _ *Entry) { e.Match, e.Value = MatchClient, "10.0.0.0/8" },
		"no network":              func(e, _ *Entry) { e.Match, e.Value = MatchClient, "10.0.0.0/33" },
		"no hash":                 func(e, _ *Entry) { e.Match, e.Value = MatchAttachment, "abc" },
		"another kind":            func(e, _ *Entry) { e.Kind = "maybe" },
		"sideways":                func(e, _ *Entry) { e.Direction = "sideways" },
		"a block that delivers":   func(_, b *Entry) { b.Action = Deliver },
		"a block as clean":        func(_, b *Entry) { b.Class = Clean },
		"a bad pattern":           func(_, b *Entry) { b.Value = "(" },
		"a pattern for all":       func(_, b *Entry) { b.Value = ".*" },
		"a long pattern":          func(_, b *Entry) { b.Value = strings.Repeat("a", 201) },
		"a block that ended":      func(_, b *Entry) { b.ExpiresAt = &past },
		"a block of what is not":  func(_, b *Entry) { b.Match = "weather" },
		"a value with a line end": func(_, b *Entry) { b.Value = "a\nb" },
	} {
		e, b := good, block
		e.ExpiresAt = &soon
		change(&e, &b)
		if errE, errB := e.check(entryNow), b.check(entryNow); errE == nil && errB == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestDecide_Entries(t *testing.T) {
	t.Parallel()
	finance, sha := uuid.New(), strings.Repeat("ab", 32)
	allow := func(match, value string, classes ...Class) Entry {
		return entry(t, Entry{Kind: EntryAllow, Match: match, Value: value, Classes: classes})
	}
	block := func(match, value string) Entry { return entry(t, Entry{Kind: EntryBlock, Match: match, Value: value}) }
	scoped := func(e Entry, domain string, group uuid.UUID, dir Direction) Entry {
		e.Domain, e.Group, e.Direction = domain, group, dir
		return e
	}
	hit := func(c Class) []Finding {
		return []Finding{{Engine: "yara", Name: "n", Class: c, Score: 5, Part: "1.2"}}
	}
	signs := []Finding{{Engine: PhishingEngine, Name: "S", Score: 7}}
	proven, forged := Auth{Author: "partner.example", Authenticated: true}, Auth{Author: "partner.example"}
	failed := Auth{Author: "partner.example", Domain: "partner.example", Wanted: "reject", Policy: "reject"}
	rejecting := Policy{Domain: "x.example", Actions: map[Class]Action{Spam: Tag, DLP: Reject}}
	for name, tt := range map[string]struct {
		entries  []Entry
		auth     Auth
		findings []Finding
		dir      Direction
		class    Class
		action   Action
		says     string
	}{
		"nothing":                              {nil, proven, hit(Suspicious), "", Suspicious, Quarantine, "says hold for suspicious"},
		"a proven domain is allowed":           {[]Entry{allow(MatchDomain, "partner.example", Suspicious)}, proven, hit(Suspicious), "", Clean, Deliver, "sets aside what was found as suspicious"},
		"a domain above it":                    {[]Entry{allow(MatchDomain, "example.net", Suspicious)}, proven, hit(Suspicious), "", Suspicious, Quarantine, ""},
		"a proven address":                     {[]Entry{allow(MatchSender, "Bob@partner.example", Suspicious)}, proven, hit(Suspicious), "", Clean, Deliver, "TICKET-1"},
		"forged: the entry does not count":     {[]Entry{allow(MatchDomain, "partner.example", Suspicious)}, forged, hit(Suspicious), "", Suspicious, Quarantine, "does not count"},
		"another class":                        {[]Entry{allow(MatchDomain, "partner.example", Spam)}, proven, hit(Suspicious), "", Suspicious, Quarantine, ""},
		"never malware":                        {[]Entry{allow(MatchDomain, "partner.example", Liftable()...)}, proven, hit(Malware), "", Malware, Quarantine, "yara found n"},
		"never unscannable":                    {[]Entry{allow(MatchClient, "192.0.2.0/24", Liftable()...)}, proven, hit(Unscannable), "", Unscannable, Quarantine, ""},
		"signs of spam and phishing":           {[]Entry{allow(MatchDomain, "partner.example", Spam, Phishing)}, proven, signs, "", Clean, Deliver, "sets aside"},
		"signs of phishing alone":              {[]Entry{allow(MatchDomain, "partner.example", Phishing)}, proven, signs, "", Spam, Tag, "add up to 7"},
		"the client is what it is":             {[]Entry{allow(MatchClient, "192.0.2.7", Suspicious)}, forged, hit(Suspicious), "", Clean, Deliver, "192.0.2.7/32"},
		"another client":                       {[]Entry{allow(MatchClient, "192.0.2.8", Suspicious)}, forged, hit(Suspicious), "", Suspicious, Quarantine, ""},
		"a client does not lift DMARC":         {[]Entry{allow(MatchClient, "192.0.2.7", Phishing, Spam)}, failed, nil, "", Phishing, Quarantine, "fails DMARC"},
		"an attachment lifts what it is":       {[]Entry{allow(MatchAttachment, sha, Suspicious)}, forged, hit(Suspicious), "", Clean, Deliver, "the attachment"},
		"an attachment lifts nothing else":     {[]Entry{allow(MatchAttachment, sha, Suspicious)}, forged, append(hit(Suspicious), Finding{Engine: "yara", Name: "m", Class: Suspicious, Part: "1.1"}), "", Suspicious, Quarantine, ""},
		"an attachment lifts no signs of text": {[]Entry{allow(MatchAttachment, sha, Spam, Phishing)}, forged, signs, "", Phishing, Quarantine, ""},
		"blocked by address":                   {[]Entry{block(MatchSender, "bob@partner.example")}, forged, nil, "", Spam, Quarantine, "the block entry for the sender bob@partner.example"},
		"blocked by envelope":                  {[]Entry{block(MatchDomain, "bounces.example")}, proven, nil, "", Spam, Quarantine, "bounces.example"},
		"blocked by a domain above":            {[]Entry{block(MatchDomain, "bounces.example")}, proven, nil, "", Spam, Quarantine, ""},
		"blocked by link":                      {[]Entry{block(MatchLink, "evil.example")}, proven, nil, "", Spam, Quarantine, "links to evil.example"},
		"blocked by attachment":                {[]Entry{block(MatchAttachment, sha)}, proven, nil, "", Spam, Quarantine, ""},
		"blocked by subject":                   {[]Entry{block(MatchSubject, "(?i)free")}, proven, nil, "", Spam, Quarantine, ""},
		"not blocked by another subject":       {[]Entry{block(MatchSubject, "^money")}, proven, nil, "", Clean, Deliver, ""},
		"a block wins over an allow":           {[]Entry{allow(MatchDomain, "partner.example", Liftable()...), block(MatchDomain, "partner.example")}, proven, hit(Suspicious), "", Spam, Quarantine, "says quarantine"},
		"a reject of the policy is stricter":   {[]Entry{block(MatchDomain, "partner.example")}, proven, hit(DLP), "", DLP, Reject, "done anyway"},
		"another domain of ours":               {[]Entry{scoped(block(MatchDomain, "partner.example"), "y.example", uuid.Nil, Inbound)}, proven, nil, "", Clean, Deliver, ""},
		"this domain of ours":                  {[]Entry{scoped(block(MatchDomain, "partner.example"), "x.example", uuid.Nil, Inbound)}, proven, nil, "", Spam, Quarantine, ""},
		"its group":                            {[]Entry{scoped(block(MatchDomain, "partner.example"), "*", finance, Inbound)}, proven, nil, "", Spam, Quarantine, ""},
		"another group":                        {[]Entry{scoped(block(MatchDomain, "partner.example"), "*", uuid.New(), Inbound)}, proven, nil, "", Clean, Deliver, ""},
		"another direction":                    {[]Entry{scoped(block(MatchDomain, "partner.example"), "*", uuid.Nil, Outbound)}, proven, nil, "", Clean, Deliver, ""},
		"outbound of a client of ours":         {[]Entry{scoped(allow(MatchDomain, "partner.example", Suspicious), "*", uuid.Nil, Outbound)}, Auth{Trusted: true}, hit(Suspicious), Outbound, Clean, Deliver, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Auth: tt.auth, Entries: NewEntrySet(tt.entries), Report: Report{Subject: "Get FREE money", Findings: tt.findings, Parts: []Part{{Path: "1.2", SHA256: sha}}},
				Mail:       Mail{EnvelopeFrom: "m@a.bounces.example", From: []string{"Bob@Partner.example"}, ClientIP: netip.MustParseAddr("::ffff:192.0.2.7"), LinkDomains: []string{"www.evil.example"}},
				Recipients: []Recipient{{Address: "a@x.example", Direction: tt.dir, Domain: Domain{Name: "x.example"}, Policy: rejecting, Groups: []uuid.UUID{finance}}}}
			d := Decide(in)
			r := d.Recipients[0]
			if d.Class != tt.class || r.Class != tt.class || d.Action != tt.action {
				t.Errorf("got %s, %s: %+v", d.Class, d.Action, r.Explain)
			}
			if !slices.ContainsFunc(r.Explain, func(l Line) bool { return strings.Contains(l.Text, tt.says) }) {
				t.Errorf("nothing says %q: %+v", tt.says, r.Explain)
			}
		})
	}
}

// TestDecide_TwoAuthors: a mail that names two authors has no proven one.
func TestDecide_TwoAuthors(t *testing.T) {
	t.Parallel()
	set := NewEntrySet([]Entry{entry(t, Entry{Kind: EntryAllow, Match: MatchDomain, Value: "partner.example", Classes: []Class{Spam}})})
	d := Decide(Input{Entries: set, Auth: Auth{Author: "partner.example", Authenticated: true}, Mail: Mail{From: []string{"a@partner.example", "b@evil.example"}},
		Report: Report{Findings: []Finding{{Engine: "e", Name: "n", Class: Spam}}}, Recipients: []Recipient{{Address: "a@x.example"}}})
	if d.Class != Spam {
		t.Errorf("a mail with two authors was allowed: %+v", d.Recipients)
	}
}

// TestDecide_Explains goes through sentences with the layers that they rest on.
func TestDecide_Explains(t *testing.T) {
	t.Parallel()
	p := layered(Inbound, layer{Policy: Policy{ID: uuid.UUID{1}, Domain: "*", Version: 4, Weights: map[string]float64{"link": 4.5}, EngineFailure: map[string]Action{AnyEngine: Quarantine}}},
		layer{Policy: Policy{ID: uuid.UUID{2}, Domain: "x.example", Version: 2, Actions: map[Class]Action{Phishing: Quarantine}}},
		layer{Policy{ID: uuid.UUID{3}, Domain: "*", Version: 9, Thresholds: Thresholds{Phishing: 6}}, "Finance"})
	r := Recipient{Address: "a@x.example", Domain: Domain{Name: "x.example"}, Policy: p}
	in := Input{Recipients: []Recipient{r}, Report: Report{Findings: []Finding{{Engine: PhishingEngine, Name: "link", Score: 1}, {Engine: PhishingEngine, Name: "form", Score: 3}}}}
	got := Decide(in).Recipients[0].Explain
	for i, want := range []struct {
		en, de, layer string
		id            byte
		version       int64
	}{
		{"its signs of phishing add up to 7.5: link 4.5, form 3; from 6 on it counts as phishing; the threshold comes from the policy of the group Finance",
			"Ihre Anzeichen für <class phishing> ergeben zusammen <number 7.5>: link 4.5, form 3. Ab <number 6> gilt sie als <class phishing>. Die Schwelle bestimmt <origin group:Finance>", LayerGroup, 3, 9},
		{"the weight of link comes from the policy of the workspace", "Das Gewicht von link bestimmt <origin workspace:>", LayerWorkspace, 1, 4},
		{"the policy of x.example says quarantine for phishing mail", "<origin domain:x.example> verlangt für <class phishing>: <action quarantine>", LayerDomain, 2, 2},
	} {
		if i >= len(got) {
			t.Fatalf("only %+v", got)
		}
		l := got[i]
		if l.Text != want.en || l.Layer != want.layer || l.PolicyID != (uuid.UUID{want.id}) || l.Version != want.version {
			t.Errorf("got %+v", l)
		}
		if de := l.In("de", func(kind, value string) string { return "<" + kind + " " + value + ">" }); de != want.de {
			t.Errorf("in German: %s", de)
		}
	}
	in.Report = Report{Engines: []EngineAnswer{{Engine: "clamav"}}}
	d := Decide(in)
	if last := d.Recipients[0].Explain[len(d.Recipients[0].Explain)-1]; d.Action != Quarantine || last.Text != "no answer from clamav; the policy of the workspace says quarantine" || last.Layer != LayerWorkspace {
		t.Errorf("%s: %+v", d.Action, d.Recipients[0])
	}
	// One recipient whose policy wants a silent engine's mail put off puts off all.
	in.Recipients = append(in.Recipients, Recipient{Address: "b@x.example"})
	if d := Decide(in); d.Action != Defer || len(d.For(Defer)) != 2 {
		t.Errorf("%+v", d)
	}
}

func TestDecide_DLPSets(t *testing.T) {
	t.Parallel()
	found := []Finding{{Engine: DLPEngine, Name: "CARDS", Class: DLP, Meta: map[string]string{"set": "id-1", "set_name": "Payment cards"}}, {Engine: DLPEngine, Name: "Truncated"}}
	for name, tt := range map[string]struct {
		sets []string
		want Class
	}{"all": {nil, DLP}, "by name": {[]string{"Payment cards"}, DLP}, "by id": {[]string{"id-1"}, DLP}, "another": {[]string{"IBAN"}, Clean}, "none": {[]string{}, Clean}} {
		d := Decide(Input{Report: Report{Findings: found}, Recipients: []Recipient{{Address: "a@x.example", Domain: Domain{Name: "x.example"}, Policy: Policy{Domain: "x.example", DLPSets: tt.sets}}}})
		if said := strings.Contains(d.Recipients[0].Explain[0].Text, "the policy of x.example leaves out what the DLP set Payment cards found"); d.Class != tt.want || said != (tt.want == Clean) {
			t.Errorf("%s: %s, %+v", name, d.Class, d.Recipients[0].Explain)
		}
	}
}

func TestDecide_ExplanationIsBounded(t *testing.T) {
	t.Parallel()
	var list []Entry
	for range 50 {
		list = append(list, entry(t, Entry{Kind: EntryBlock, Match: MatchSubject, Value: "x" + strings.Repeat("y?", 90)}))
	}
	d := Decide(Input{Entries: NewEntrySet(list), Report: Report{Subject: "x"}, Recipients: []Recipient{{Address: "a@x.example"}}})
	if n := len(d.Recipients[0].Explain); n != maxLines {
		t.Errorf("%d lines", n)
	}
	for _, l := range d.Recipients[0].Explain {
		if len(l.Text) > maxLineSize+len("…") {
			t.Errorf("%d bytes in a line", len(l.Text))
		}
	}
}

// FuzzEntries: whatever a stranger writes, malware stays malware, and an allow
// needs a proven sender.
func FuzzEntries(f *testing.F) {
	f.Add("a@x.example", "b@partner.example", "evil.example", "Free money", "partner.example")
	f.Add("", "@partner.example", ".", "\xff\x00", "")
	f.Fuzz(func(t *testing.T, envelope, from, link, subject, author string) {
		set := NewEntrySet([]Entry{entry(t, Entry{Kind: EntryAllow, Match: MatchDomain, Value: "partner.example", Classes: Liftable()}), entry(t, Entry{Kind: EntryBlock, Match: MatchSubject, Value: "(?i)fr+ee|mo(n|m)ey$"}),
			entry(t, Entry{Kind: EntryBlock, Match: MatchLink, Value: "evil.example"})})
		in := Input{Entries: set, Auth: Auth{Author: author}, Mail: Mail{EnvelopeFrom: envelope, From: []string{from}, LinkDomains: []string{link}}, Recipients: []Recipient{{Address: envelope}},
			Report: Report{Subject: subject, Findings: []Finding{{Engine: "e", Name: subject, Class: Phishing}}}}
		if d := Decide(in); d.Class != Phishing || d.Action != Quarantine {
			t.Errorf("a sender that nobody confirmed was allowed: %+v", d)
		}
		in.Auth.Authenticated, in.Report.Findings[0].Class = true, Malware
		d := Decide(in)
		if d.Class != Malware || d.Action != Quarantine {
			t.Errorf("malware was let through: %+v", d)
		}
		for _, l := range d.Recipients[0].Explain {
			if len(l.Text) > maxLineSize+len("…") {
				t.Errorf("%d bytes in a sentence", len(l.Text))
			}
		}
	})
}
