package policy

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// MeasureKind is what a reaction to an alert does.
type MeasureKind string

// The kinds of measures.
const (
	MeasureLock    MeasureKind = "lock"    // mail is quarantined, whatever was found
	MeasureSandbox MeasureKind = "sandbox" // every file that a sandbox could run goes there first
	MeasureTighten MeasureKind = "tighten" // limits of clients and senders are tighter
	MeasurePause   MeasureKind = "pause"   // nothing leaves the quarantine
)

// Measure is a reaction to an alert while it is in force.
type Measure struct {
	ID        uuid.UUID
	Workspace uuid.UUID // zero: all
	Kind      MeasureKind
	Trial     bool   // it only counts what it would do
	Domain    string // of ours; "": all
	Direction Direction
	// Match and Value narrow it to mail of a sender, of a sender's domain, or with a
	// subject; "": all mail.
	Match, Value string
	Divisor      int
	Most         int // mails that it may touch
	Cause        string
	Ends         time.Time
	Taken        int // of that, touched or taken by processes, as the database knows it

	re *regexp.Regexp
}

// CheckMatch brings what a reaction looks for into the form in which it is
// compared, as that of a block entry.
func CheckMatch(match, value string) (string, error) {
	if !slices.Contains([]string{MatchSender, MatchDomain, MatchSubject}, match) {
		return "", &InvalidError{"match", "must be sender, sender_domain or subject"}
	}
	e := Entry{Kind: EntryBlock, Match: match, Value: strings.TrimSpace(value)}
	err := e.compile()
	return e.Value, err
}

// compile prepares the pattern of a subject.
func (m *Measure) compile() error {
	if m.Match != MatchSubject {
		return nil
	}
	e := Entry{Kind: EntryBlock, Match: m.Match, Value: m.Value}
	if err := e.compile(); err != nil {
		return err
	}
	m.re = e.re
	return nil
}

// covers says whether a measure is for a recipient's copy.
func (m *Measure) covers(r Recipient) bool {
	dir := r.Direction
	if dir == "" {
		dir = Inbound
	}
	return (m.Domain == "" || m.Domain == r.ours()) && (m.Direction == "" || m.Direction == dir)
}

// matches says whether a mail is what a measure looks for.
func (m *Measure) matches(in Input) bool {
	switch m.Match {
	case "":
		return true
	case MatchSubject:
		return m.re != nil && m.re.MatchString(in.Report.Subject[:min(len(in.Report.Subject), maxSubject)])
	}
	return slices.ContainsFunc(append([]string{in.Mail.EnvelopeFrom}, in.Mail.From...), func(a string) bool {
		local, domain, ok := cutAddress(a)
		if m.Match == MatchSender {
			return ok && m.Value == local+"@"+domain
		}
		return ok && slices.Contains(parents(domain), m.Value)
	})
}

// say makes a sentence about a measure.
func (m *Measure) say(id string, rest ...string) Line {
	if m.Trial {
		id += ".trial"
	}
	l := say(Origin{Layer: "reaction"}, id, append([]string{plainArg(m.Cause)}, rest...)...)
	return l
}

// measured are the measures of a kind that a copy of the mail meets.
func (in Input) measured(kind MeasureKind, r Recipient) (list []*Measure) {
	for _, m := range in.Measures {
		if m.Kind == kind && m.covers(r) && m.matches(in) {
			list = append(list, m)
		}
	}
	return list
}

// lock quarantines a copy that would get through. It comes last: while a lock is
// in force neither an allow entry nor a release of the past lets mail pass.
func (in Input) lock(r Recipient, o *outcome) {
	for _, m := range in.measured(MeasureLock, r) {
		if !stricter(Quarantine, o.Action) {
			return
		}
		o.touched = append(o.touched, m)
		line := m.say("reaction.lock")
		if m.Trial {
			o.explain(line)
			continue
		}
		o.Action, o.Else, o.Detonate, o.DMARC, o.Locked = Quarantine, "", nil, "", true
		o.because(line)
		o.notes = append(o.notes, line.Text)
		o.adds = append(o.adds, Finding{Engine: EntryEngine, Name: LockName(m.ID), Reason: line.Text, Meta: map[string]string{"reaction": m.ID.String()}})
	}
}

// LockName is the name of the finding by which mail is found that a lock holds.
func LockName(reaction uuid.UUID) string { return "Locked." + reaction.String() }

// widen has all files go to the sandbox that it could run, where a measure says
// so and that makes a difference. It gives the measure that does.
func (in Input) widen(r *Recipient, o *outcome) *Measure {
	list := in.measured(MeasureSandbox, *r)
	if len(list) == 0 {
		return nil
	}
	settings := r.Policy.sandbox()
	settings.Types = SandboxKinds()
	wide := r.Policy
	wide.Sandbox = settings.encode()
	if len(wide.ForSandbox(in.Report)) <= len(r.Policy.ForSandbox(in.Report)) {
		return nil
	}
	for _, m := range list {
		o.touched = append(o.touched, m)
		if !m.Trial {
			r.Policy = wide
			return m
		}
		o.explain(m.say("reaction.sandbox"))
	}
	return nil
}
