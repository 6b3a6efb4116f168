package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Input is all that a decision may depend on.
type Input struct {
	Report     Report
	Auth       Auth
	Recipients []Recipient
	// SandboxConfigured says whether a held mail would ever get an answer.
	SandboxConfigured bool
}

// RecipientDecision is what happens to one recipient's copy.
type RecipientDecision struct {
	Address       string    `json:"address"`
	Domain        string    `json:"domain"`
	Direction     Direction `json:"direction"`
	Action        Action    `json:"action"`
	PolicyID      uuid.UUID `json:"policy_id"`
	PolicyVersion int64     `json:"policy_version"`
	Why           string    `json:"why"`
	// DMARC is the author's domain where its policy is why the action is so strict.
	DMARC string `json:"dmarc,omitempty"`
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
func Decide(in Input) Decision {
	d := Decision{FailedEngines: in.Report.Failed(), Findings: slices.Clone(in.Report.Findings)}
	d.Class, _ = Policy{}.classFor(in.Report.Findings)
	if len(in.Recipients) > 0 {
		d.Class = Clean
	}
	counts, notes := false, []string(nil)
	for _, r := range in.Recipients {
		content, sum := r.Policy.classFor(in.Report.Findings)
		if graver(content, d.Class) {
			d.Class = content
		}
		if sum != "" && !slices.Contains(notes, sum) {
			notes = append(notes, sum)
		}
		rd := decideFor(r, content, in.SandboxConfigured)
		v := in.Auth.judge(r)
		if v.action != "" {
			counts = true
			if stricter(v.action, rd.Action) {
				rd.Action, rd.Why, rd.DMARC = v.action, v.why, in.Auth.Domain
			}
		} else if v.why != "" && !slices.Contains(notes, v.why) {
			notes = append(notes, v.why)
		}
		d.Recipients = append(d.Recipients, rd)
	}
	if counts {
		f := in.Auth.finding()
		d.Findings = append(d.Findings, f)
		if graver(f.Class, d.Class) {
			d.Class = f.Class
		}
	}
	for i, r := range in.Recipients {
		if s := r.Policy.score(d.Findings); i == 0 || s > d.Score {
			d.Score = s
		}
	}
	d.Reasons = append(reasons(d.Findings, d.Class), notes...)
	failClosed(&d)
	mergeActions(&d)
	return d
}

// Deferred is the decision with every copy put off, for trouble that came after
// it: nothing of it has been done yet.
func (d Decision) Deferred(why string) Decision {
	d.Recipients, d.Reasons, d.Action = slices.Clone(d.Recipients), append(slices.Clone(d.Reasons), why), Defer
	for i := range d.Recipients {
		d.Recipients[i].Action, d.Recipients[i].Why = Defer, why
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

func classOf(findings []Finding) Class {
	for _, c := range Classes() {
		if slices.ContainsFunc(findings, func(f Finding) bool { return f.Class == c }) {
			return c
		}
	}
	return Clean
}

func decideFor(r Recipient, c Class, sandbox bool) RecipientDecision {
	dir := r.Direction
	if dir == "" {
		dir = Inbound
	}
	rd := RecipientDecision{Address: r.Address, Domain: r.Domain.Name, Direction: dir, PolicyID: r.Policy.ID, PolicyVersion: r.Policy.Version}
	a, ok := r.Policy.Actions[c]
	if !ok || !slices.Contains(Actions(), a) {
		a, ok = DefaultActions(dir)[c], false
	}
	rd.Action = a
	switch {
	case ok:
		rd.Why = fmt.Sprintf("the policy of %s says %s for %s mail", policyName(r.Policy), a, c)
	default:
		rd.Why = fmt.Sprintf("the built-in default says %s for %s mail", a, c)
	}
	if a == Hold && !sandbox {
		rd.Action = Quarantine
		rd.Why += "; no sandbox is set up, so it is quarantined"
	}
	return rd
}

func policyName(p Policy) string {
	if p.Domain == "" || p.Domain == "*" {
		return "the workspace"
	}
	return p.Domain
}

// failClosed defers a mail that not every engine has seen, unless it is kept
// from everyone anyway.
func failClosed(d *Decision) {
	if len(d.FailedEngines) == 0 {
		return
	}
	kept := len(d.Recipients) > 0 && len(d.For(Quarantine, Hold, Reject)) == len(d.Recipients)
	if kept {
		d.Reasons = append(d.Reasons, "no answer from "+strings.Join(d.FailedEngines, ", ")+", but what was found is enough to keep it")
		return
	}
	why := "no answer from " + strings.Join(d.FailedEngines, ", ") + ": try again later"
	d.Reasons = append(d.Reasons, why)
	for i := range d.Recipients {
		d.Recipients[i].Action, d.Recipients[i].Why = Defer, why
	}
}

// mergeActions makes the recipients' actions fit into one SMTP reply.
func mergeActions(d *Decision) {
	if len(d.For(Defer)) > 0 {
		for i := range d.Recipients {
			if d.Recipients[i].Action != Defer {
				d.Recipients[i].Action = Defer
				d.Recipients[i].Why = "another recipient's copy is deferred, and a mail has one reply"
			}
		}
	}
	if rejects := len(d.For(Reject)); rejects > 0 && rejects < len(d.Recipients) {
		for i := range d.Recipients {
			if d.Recipients[i].Action == Reject {
				d.Recipients[i].Action = Quarantine
				d.Recipients[i].Why += "; quarantined instead, since other recipients get the mail"
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
