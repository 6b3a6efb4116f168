package intel

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailward/policy"
	"mailward/scanner"
)

// The signs.
const (
	SignURL     = "INTEL_URL"
	SignDomain  = "INTEL_DOMAIN"
	SignSender  = "INTEL_SENDER"
	SignIP      = "INTEL_IP"
	SignHash    = "INTEL_HASH"
	SignBreach  = "INTEL_BREACH"  // criminals say that they have robbed the sender: for people, and without weight
	SignUnknown = "INTEL_UNKNOWN" // nobody could be asked
)

// weightsFile is what an indicator of a class counts where its confidence is 100
// but does not decide by itself.
//
//go:embed data/weights.json
var weightsFile []byte

var weights = sync.OnceValue(func() (w map[policy.Class]float64) {
	if err := json.Unmarshal(weightsFile, &w); err != nil {
		panic(err) // It is part of the program, and tested.
	}
	return w
})

const findingsMost = 20 // of one mail

// Judge says which indicators a mail names.
type Judge struct{ store *Store }

// NewJudge returns a judge that goes by a store.
func NewJudge(s *Store) *Judge { return &Judge{store: s} }

// Name is the name of the engine.
func (*Judge) Name() string { return policy.IntelEngine }

// Judge looks the mail up. Without an answer from the database in time nothing is
// known: that is a sign without weight and no failure of the engine, which would
// put the mail off.
func (j *Judge) Judge(ctx context.Context, q scanner.Question) ([]policy.Finding, scanner.Info, error) {
	s := j.store
	info := scanner.Info{Version: "1"}
	if f := s.filter.Load(); f != nil {
		info.Database, info.DatabaseTime = strconv.FormatInt(f.held.Load(), 10)+" indicators", *s.newest.Load()
	}
	things := thingsOf(q)
	var values []Value
	for _, t := range things {
		values = append(values, t.chain...)
	}
	known, err := s.find(ctx, values)
	var found []policy.Finding
	if err != nil {
		s.log.Warn("threat intelligence not asked about a mail", "mail", q.MailID, "error", err)
		found = append(found, policy.Finding{Engine: policy.IntelEngine, Name: SignUnknown, Reason: "threat intelligence gave no answer in time: what it knows of this mail did not count"})
	}
	overrides, now := s.overrides.Load(), s.now()
	seen := map[string]bool{}
	for _, t := range things {
		for _, f := range t.all(overrides, known, q, now) {
			id := f.Name + "\x00" + f.Meta["value"]
			if seen[id] || len(found) == findingsMost {
				continue
			}
			seen[id] = true
			if f.Meta["override"] == "" && !q.Trial {
				s.countAll(known[Value{Kind(f.Meta["kind"]), f.Meta["value"]}])
			}
			found = append(found, f)
		}
	}
	return found, info, nil
}

func (s *Store) countAll(list []Indicator) {
	for _, i := range list {
		s.counted(i)
	}
}

// thing is one thing that a mail names.
type thing struct {
	sign  string
	what  string  // for people: a link to, the sender
	part  string  // of the mail
	name  string  // of the part
	chain []Value // itself, and what is above it: the most exact first
}

// all is what there is to say of a thing.
func (t thing) all(overrides *overrideSet, known map[Value][]Indicator, q scanner.Question, now time.Time) (found []policy.Finding) {
	if f, ok := t.judge(overrides, known, q, now); ok {
		found = append(found, f)
	}
	if t.sign != SignSender {
		return found
	}
	for _, v := range t.chain {
		for _, i := range known[v] {
			if i.Class == Breach && overrides.get(q.Workspace, v, now) == nil {
				return append(found, t.breach(i, now))
			}
		}
	}
	return found
}

// breach tells of a sender whom criminals name as a victim. It has no class and
// no weight: the claim may be false, and who was robbed is still who they are.
func (t thing) breach(i Indicator, now time.Time) policy.Finding {
	f := policy.Finding{Engine: policy.IntelEngine, Name: SignBreach,
		Reason: fmt.Sprintf("%s %s, whose owner %s names as a victim of ransomware (%s), noted %s: its mailboxes may be in other hands", t.what, Defang(i.Value), i.Source, i.Note, ago(int(now.Sub(i.LastSeen)/(24*time.Hour)))),
		Meta:   map[string]string{"kind": string(i.Kind), "value": i.Value, "source": i.Source, "first_seen": i.FirstSeen.UTC().Format(time.RFC3339)}}
	if i.Reference != "" {
		f.Meta["reference"] = i.Reference
	}
	return f
}

// judge goes through what is said of a thing. Any block counts. Else the most
// exact word does: an allow of a name lifts what is said of the names above it,
// and leaves what is said of those below.
func (t thing) judge(overrides *overrideSet, known map[Value][]Indicator, q scanner.Question, now time.Time) (policy.Finding, bool) {
	for _, v := range t.chain {
		if o := overrides.get(q.Workspace, v, now); o != nil && o.Effect == Block {
			return t.blocked(*o), true
		}
	}
	for _, v := range t.chain {
		if overrides.get(q.Workspace, v, now) != nil {
			return policy.Finding{}, false
		}
		if list := withoutBreaches(known[v]); len(list) > 0 {
			return t.finding(list, now), true
		}
	}
	return policy.Finding{}, false
}

func withoutBreaches(list []Indicator) []Indicator {
	is := func(i Indicator) bool { return i.Class == Breach }
	if !slices.ContainsFunc(list, is) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), is)
}

func (t thing) blocked(o Override) policy.Finding {
	return policy.Finding{Engine: policy.IntelEngine, Name: t.sign, Class: o.Class, Score: weights()[o.Class], Part: t.part, PartName: t.name,
		Reason: fmt.Sprintf("%s %s, which %s blocks as %s: %s", t.what, Defang(o.Value), o.Owner, o.Class, o.Reason),
		Meta:   map[string]string{"kind": string(o.Kind), "value": o.Value, "class": string(o.Class), "confidence": "100", "source": "override", "override": o.ID.String()}}
}

// finding is of the source that is surest of the gravest class. It has no class:
// from which confidence on it decides by itself is each policy's to say.
func (t thing) finding(list []Indicator, now time.Time) policy.Finding {
	i := slices.MaxFunc(list, func(a, b Indicator) int {
		decides := func(i Indicator) int {
			if i.Class == policy.Malware || i.Class == policy.Phishing {
				return 1000
			}
			return 0
		}
		return a.Confidence + decides(a) - b.Confidence - decides(b)
	})
	var also []string
	for _, x := range list {
		if x.Source != i.Source && !slices.Contains(also, x.Source) {
			also = append(also, x.Source)
		}
	}
	days := int(now.Sub(i.LastSeen) / (24 * time.Hour))
	f := policy.Finding{Engine: policy.IntelEngine, Name: t.sign, Score: weights()[i.Class] * float64(i.Confidence) / 100, Part: t.part, PartName: t.name,
		Reason: fmt.Sprintf("%s %s, which %s lists as %s: last seen %s, confidence %d", t.what, Defang(i.Value), i.Source, i.Class, ago(days), i.Confidence),
		Meta: map[string]string{"kind": string(i.Kind), "value": i.Value, "class": string(i.Class), "confidence": strconv.Itoa(i.Confidence), "source": i.Source,
			"first_seen": i.FirstSeen.UTC().Format(time.RFC3339), "last_seen": i.LastSeen.UTC().Format(time.RFC3339)}}
	if len(also) > 0 {
		slices.Sort(also)
		f.Reason += "; also on " + strings.Join(also[:min(len(also), 5)], ", ")
	}
	if i.Reference != "" {
		f.Meta["reference"] = i.Reference
	}
	return f
}

func ago(days int) string {
	switch {
	case days < 1:
		return "today"
	case days == 1:
		return "a day ago"
	}
	return strconv.Itoa(days) + " days ago"
}

// things collects what a mail names, each once.
type things struct {
	list  []thing
	seen  map[Value]bool
	hosts map[string]bool // that links lead to: mostly many lead to one
}

func thingsOf(q scanner.Question) []thing {
	t := &things{seen: map[Value]bool{}, hosts: map[string]bool{}}
	if q.SHA256 != "" {
		t.add(thing{sign: SignHash, what: "the mail itself has the digest", chain: []Value{{SHA256, q.SHA256}}})
	}
	for _, p := range q.Parts {
		if v, err := Parse(SHA256, p.SHA256); err == nil {
			t.add(thing{sign: SignHash, what: "a part has the digest", part: p.Path, name: p.Name, chain: []Value{v}})
		}
	}
	if q.Client.IsValid() {
		t.add(thing{sign: SignIP, what: "it comes from", chain: []Value{{IP, q.Client.WithZone("").Unmap().String()}}})
	}
	t.sender("the envelope's sender is", q.EnvelopeFrom)
	if c := q.Content; c != nil {
		for _, a := range c.From {
			t.sender("the author is", a.Address)
		}
		for _, a := range c.Sender {
			t.sender("the sender is", a.Address)
		}
		for _, a := range c.ReplyTo {
			t.sender("answers go to", a.Address)
		}
		for _, l := range c.Links {
			t.link(l.Part, l.Target)
		}
	}
	return t.list
}

// add keeps a thing where what is most exact of it is new.
func (t *things) add(x thing) {
	if !t.seen[x.chain[0]] {
		t.seen[x.chain[0]] = true
		t.list = append(t.list, x)
	}
}

func (t *things) sender(what, address string) {
	v, err := Parse(Email, address)
	if err != nil {
		return
	}
	t.add(thing{sign: SignSender, what: what, chain: []Value{v}})
	t.add(thing{sign: SignSender, what: what + " of", chain: nameChain(v.Text[strings.LastIndexByte(v.Text, '@')+1:])})
}

func (t *things) link(part, target string) {
	const mailto = "mailto:"
	if s := strings.TrimSpace(target); len(s) >= len(mailto) && strings.EqualFold(s[:len(mailto)], mailto) {
		rest, _, _ := strings.Cut(strings.ToLower(s[len(mailto):]), "?")
		t.sender("a link writes to", rest)
		return
	}
	v, err := Parse(URL, target)
	if err != nil {
		return
	}
	chain := []Value{v}
	if bare, _, ok := strings.Cut(v.Text, "?"); ok {
		chain = append(chain, Value{URL, bare})
	}
	t.add(thing{sign: SignURL, what: "a link leads to", part: part, chain: chain})
	host := hostOf(v.Text)
	if t.hosts[host] {
		return
	}
	t.hosts[host] = true
	if a, err := netip.ParseAddr(host); err == nil {
		t.add(thing{sign: SignIP, what: "a link leads to", part: part, chain: []Value{{IP, a.Unmap().String()}}})
		return
	}
	x := thing{sign: SignDomain, what: "a link leads to", part: part, chain: nameChain(host)}
	t.add(x)
}

// nameChain is a name and those above it.
func nameChain(name string) []Value {
	chain := []Value{{Domain, name}}
	for _, p := range parents(name) {
		chain = append(chain, Value{Domain, p})
	}
	return chain
}
