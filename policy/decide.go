package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Input is all that a decision may depend on.
type Input struct {
	Report     Report
	Auth       Auth
	Mail       Mail
	Recipients []Recipient
	Entries    *EntrySet // of the recipients' workspace; nil: none
	// Measures are the reactions to alerts that are in force for the workspace.
	Measures []*Measure
	// Released is set where a person has released this very mail before, and it
	// comes by once more.
	Released *Released
	// SandboxConfigured says whether a held mail would ever get an answer.
	SandboxConfigured bool
}

// RecipientDecision is what happens to one recipient's copy.
type RecipientDecision struct {
	Address       string    `json:"address"`
	Domain        string    `json:"domain"`
	Direction     Direction `json:"direction"`
	Class         Class     `json:"class,omitempty"` // for this recipient
	Action        Action    `json:"action"`
	PolicyID      uuid.UUID `json:"policy_id"`
	PolicyVersion int64     `json:"policy_version"`
	Why           string    `json:"why"`
	// Explain says how it came to this: findings, rules, and which line of which
	// layer. Its order is that of the steps.
	Explain []Line `json:"explain,omitempty"`
	// DMARC is the author's domain where its policy is why the action is so strict.
	DMARC string `json:"dmarc,omitempty"`
	// Else is what would be done if the sandbox were not asked first.
	Else Action `json:"else,omitempty"`
	// Detonate are the parts that the sandbox is asked about where the copy is
	// held, and Wait is how long.
	Detonate []Part        `json:"-"`
	Wait     time.Duration `json:"-"`
	// Locked says that nothing but a reaction to an alert keeps the copy.
	Locked bool `json:"-"`
}

// Decision is what happens to a mail, and why.
type Decision struct {
	Class         Class               `json:"class"`
	Score         float64             `json:"score"` // as the strictest recipient's policy weighs the findings
	Reasons       []string            `json:"reasons"`
	Findings      []Finding           `json:"findings"` // the report's, and what the sender's authentication adds
	Action        Action              `json:"action"`   // of all recipients; mixed where they differ
	Recipients    []RecipientDecision `json:"recipients"`
	FailedEngines []string            `json:"failed_engines,omitempty"`
	// Touched are the reactions that have had a part in it, trials too.
	Touched []*Measure `json:"-"`
}

// For lists the recipients whose copies get one of the actions.
func (d Decision) For(actions ...Action) []RecipientDecision {
	var out []RecipientDecision
	for _, r := range d.Recipients {
		if slices.Contains(actions, r.Action) {
			out = append(out, r)
		}
	}
	return out
}

// Decide says what happens to a mail. It is pure: the same input always gives
// the same decision.
//
// An engine that gave no answer defers the mail, unless another one's finding
// already keeps it from every recipient: a hit stays a hit, whoever else is
// down. When one recipient's copy is deferred, all are, since SMTP has one
// reply for the whole mail; and in a mixed mail a reject becomes quarantine.
//
// A failed DMARC check counts for those recipients whose domain says so; for the
// others the content decides alone. Of the two the stricter action is taken.
//
// An allow entry sets findings of its classes aside, never malware, never what
// could not be looked into, and only where the sender is proven. A block entry
// is stricter than all of it, so it also wins over an allow.
func Decide(in Input) Decision {
	d := Decision{FailedEngines: in.Report.Failed(), Findings: slices.Clone(in.Report.Findings)}
	d.Findings, _ = Policy{}.weighIntel(d.Findings)
	d.Class, _ = Policy{}.classFor(d.Findings)
	if len(in.Recipients) > 0 {
		d.Class = Clean
	}
	hits := in.Entries.find(in)
	var notes []string
	for _, r := range in.Recipients {
		o := in.decideFor(r, hits)
		if graver(o.Class, d.Class) {
			d.Class = o.Class
		}
		for _, n := range o.notes {
			if !slices.Contains(notes, n) {
				notes = append(notes, n)
			}
		}
		for _, f := range o.adds {
			if !slices.ContainsFunc(d.Findings, func(have Finding) bool { return have.Engine == f.Engine && have.Reason == f.Reason }) {
				d.Findings = append(d.Findings, f)
			}
		}
		for _, m := range o.touched {
			if !slices.Contains(d.Touched, m) {
				d.Touched = append(d.Touched, m)
			}
		}
		d.Recipients = append(d.Recipients, o.RecipientDecision)
	}
	in.recordIntel(&d)
	for i, r := range in.Recipients {
		if s := r.Policy.score(d.Findings); i == 0 || s > d.Score {
			d.Score = s
		}
	}
	d.Reasons = append(reasons(d.Findings, d.Class), notes...)
	failClosed(&d, in.Recipients)
	mergeActions(&d)
	return d
}

// outcome is one recipient's decision, before those of the others count.
type outcome struct {
	RecipientDecision
	notes   []string   // for the reasons of the mail
	adds    []Finding  // what the sender's authentication, block entries and locks add
	touched []*Measure // reactions that have, or would have, made a difference
}

// decideFor goes through the steps for one recipient: entries that allow, what
// was found, the action for it, entries that block, DMARC.
func (in Input) decideFor(r Recipient, hits []hit) outcome {
	o := outcome{RecipientDecision: RecipientDecision{Address: r.Address, Domain: r.Domain.Name, Direction: cmp.Or(r.Direction, Inbound), PolicyID: r.Policy.ID, PolicyVersion: r.Policy.Version}}
	counted, lines := r.Policy.setsThatCount(in.Report.Findings)
	counted, weighed := r.Policy.weighIntel(counted)
	left, lifted, said := lift(counted, hits, r)
	lines = append(lines, said...)
	o.explain(weighed...)
	o.explain(lines...)
	var sum []Line
	o.Class, sum = r.Policy.classWithout(left, lifted)
	o.explain(sum...)
	for _, l := range slices.Concat(lines, sum) {
		o.notes = append(o.notes, l.Text)
	}
	if l, ok := foundLine(left, o.Class); ok && len(sum) == 0 {
		o.explain(l)
	}
	o.act(r)
	in.askSandbox(r, &o)
	for _, h := range hits {
		if h.Kind == EntryBlock && h.covers(r) {
			o.block(h)
		}
	}
	o.authenticate(in.Auth, r)
	in.letPass(r, &o)
	in.lock(r, &o)
	return o
}

// Released is to whom a person has let a mail go, which then was of a class.
type Released struct {
	Release    uuid.UUID
	Recipients []string
	Class      Class
}

// letPass passes a copy on that a person has released before to the same
// recipient, as long as it is known as nothing worse than then.
func (in Input) letPass(r Recipient, o *outcome) {
	if in.Released == nil || graver(o.Class, in.Released.Class) || !stricter(o.Action, Tag) ||
		!slices.ContainsFunc(in.Released.Recipients, func(a string) bool { return strings.EqualFold(a, r.Address) }) {
		return
	}
	o.Action, o.Else, o.Detonate, o.DMARC = Deliver, "", nil, ""
	o.because(say(Origin{}, "released", plainArg(in.Released.Release.String())))
}

// DLPEngine is the engine whose findings name the set of rules that they are of,
// as set_name and, by its id, as set.
const DLPEngine = "dlp"

// setsThatCount leaves out what sets of DLP rules have found that do not count
// for a recipient.
func (p Policy) setsThatCount(findings []Finding) (left []Finding, lines []Line) {
	if p.DLPSets == nil {
		return findings, nil
	}
	from := p.Origin(LineDLP)
	for _, f := range findings {
		if name := f.Meta["set_name"]; f.Engine == DLPEngine && name != "" && !slices.Contains(p.DLPSets, name) && !slices.Contains(p.DLPSets, f.Meta["set"]) {
			lines = append(lines, say(from, "dlp.left", originArg(from), plainArg(name)))
			continue
		}
		left = append(left, f)
	}
	return left, lines
}

// act takes the action of the policy for the class.
func (o *outcome) act(r Recipient) {
	var from Origin
	o.Action, from = r.Policy.action(o.Class, o.Direction)
	o.because(say(from, "action", originArg(from), actionArg(o.Action), classArg(o.Class)))
}

// action is what is done with a class of mail, and which layer says so. A word
// that is no action falls back to the built-in default.
func (p Policy) action(c Class, d Direction) (Action, Origin) {
	if a := p.Actions[c]; slices.Contains(Actions(), a) {
		return a, p.Origin(LineAction + string(c))
	}
	return DefaultActions(cmp.Or(d, Inbound))[c], Origin{Layer: LayerBuiltIn}
}

// block makes the decision as strict as an entry asks for.
func (o *outcome) block(h hit) {
	o.adds = append(o.adds, h.finding())
	if graver(h.Class, o.Class) {
		o.Class = h.Class
	}
	if !stricter(h.Entry.Action, o.Action) {
		o.explain(h.say("entry.idle", actionArg(h.Entry.Action)))
		return
	}
	o.Action = h.Entry.Action
	o.because(h.say("entry.asks", actionArg(h.Entry.Action)))
}

// authenticate applies what the author's domain wants.
func (o *outcome) authenticate(a Auth, r Recipient) {
	v := a.judge(r)
	if v.why.Text == "" {
		return
	}
	o.explain(v.why)
	if v.action == "" {
		o.notes = append(o.notes, v.why.Text)
		return
	}
	f := a.finding()
	if o.adds = append(o.adds, f); graver(f.Class, o.Class) {
		o.Class = f.Class
	}
	if stricter(v.action, o.Action) {
		o.Action, o.Why, o.DMARC = v.action, v.why.Text, a.Domain
	}
}

// Deferred is the decision with every copy put off, for trouble that came after
// it: nothing of it has been done yet.
func (d Decision) Deferred(why string) Decision {
	d.Recipients, d.Reasons, d.Action = slices.Clone(d.Recipients), append(slices.Clone(d.Reasons), why), Defer
	for i := range d.Recipients {
		d.Recipients[i].Action, d.Recipients[i].Why = Defer, why
		d.Recipients[i].Explain = append(slices.Clone(d.Recipients[i].Explain), Line{Text: cut(why)})
	}
	return d
}

// RejectedFor is the domain that asked for the rejection, where nothing else is
// the reason for it.
func (d Decision) RejectedFor() (domain string, ok bool) {
	if d.Action != Reject || len(d.Recipients) == 0 {
		return "", false
	}
	for _, r := range d.Recipients {
		if r.DMARC == "" {
			return "", false
		}
	}
	return d.Recipients[0].DMARC, true
}

// stricter says whether a lets less through than b.
func stricter(a, b Action) bool {
	order := []Action{Deliver, Tag, Hold, Quarantine, Defer, Reject}
	return slices.Index(order, a) > slices.Index(order, b)
}

// graver says whether a counts for more than b.
func graver(a, b Class) bool { return slices.Index(Classes(), a) < slices.Index(Classes(), b) }

// Graver says whether mail of class a is worse than that of class b.
func Graver(a, b Class) bool { return graver(a, b) }

// Gravest is the worse of two classes.
func Gravest(a, b Class) Class {
	if graver(b, a) {
		return b
	}
	return a
}

func classOf(findings []Finding) Class {
	for _, c := range Classes() {
		if slices.ContainsFunc(findings, func(f Finding) bool { return f.Class == c }) {
			return c
		}
	}
	return Clean
}

// AnyEngine stands for every engine that a policy does not name.
const AnyEngine = "*"

// failureAction is what a policy says of a mail that some engines gave no answer
// on: one that wants it deferred is enough.
func (p Policy) failureAction(failed []string) (Action, Origin) {
	var from Origin
	for _, engine := range failed {
		name := engine
		if _, named := p.EngineFailure[name]; !named {
			name = AnyEngine
		}
		if from = p.Origin(LineEngine + name); p.EngineFailure[name] != Quarantine {
			return Defer, from
		}
	}
	return Quarantine, from
}

// failClosed keeps back a mail that not every engine has seen: it is put off, or
// quarantined where the policy says so. What is kept from everyone anyway stays
// as it is.
func failClosed(d *Decision, recipients []Recipient) {
	if len(d.FailedEngines) == 0 {
		return
	}
	silent := "no answer from " + strings.Join(d.FailedEngines, ", ")
	// Held mail goes out when the sandbox is content: that does not keep it.
	kept := func(a Action) bool { return a == Quarantine || a == Reject }
	if len(d.Recipients) > 0 && len(d.For(Quarantine, Reject)) == len(d.Recipients) {
		d.Reasons = append(d.Reasons, silent+", but what was found is enough to keep it")
		return
	}
	why := map[Action]string{Defer: silent + ": try again later", Quarantine: silent + ", so it is kept"}
	for i, r := range recipients {
		if kept(d.Recipients[i].Action) {
			continue
		}
		a, from := r.Policy.failureAction(d.FailedEngines)
		if d.Recipients[i].Action == Defer && a != Defer {
			continue
		}
		d.Recipients[i].Action, d.Recipients[i].Why = a, why[a]
		d.Recipients[i].explain(say(from, "silent", plainArg(strings.Join(d.FailedEngines, ", ")), originArg(from), actionArg(a)))
		if !slices.Contains(d.Reasons, why[a]) {
			d.Reasons = append(d.Reasons, why[a])
		}
	}
	if len(recipients) == 0 {
		d.Reasons = append(d.Reasons, why[Defer])
	}
}

// mergeActions makes the recipients' actions fit into one SMTP reply.
func mergeActions(d *Decision) {
	if len(d.For(Defer)) > 0 {
		for i := range d.Recipients {
			if d.Recipients[i].Action != Defer {
				d.Recipients[i].Action = Defer
				d.Recipients[i].because(say(Origin{}, "merge.deferred"))
			}
		}
	}
	if rejects := len(d.For(Reject)); rejects > 0 && rejects < len(d.Recipients) {
		for i := range d.Recipients {
			if d.Recipients[i].Action == Reject {
				d.Recipients[i].Action = Quarantine
				d.Recipients[i].Why += "; quarantined instead, since other recipients get the mail"
				d.Recipients[i].explain(say(Origin{}, "merge.reject"))
			}
		}
	}
	for i, r := range d.Recipients {
		if i == 0 {
			d.Action = r.Action
		} else if r.Action != d.Action {
			d.Action = Mixed
			return
		}
	}
	if len(d.Recipients) == 0 {
		d.Action = Defer
	}
}

// reasons says in words what made the class, the gravest findings first.
func reasons(findings []Finding, c Class) []string {
	if c == Clean {
		return []string{"nothing found"}
	}
	var out []string
	for _, class := range append(Classes(), "") {
		for _, f := range findings {
			if f.Class != class || class == Clean {
				continue
			}
			s := f.Reason
			if s == "" {
				s = fmt.Sprintf("%s: %s", f.Engine, f.Name)
			}
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
