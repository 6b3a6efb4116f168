package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Auth is what a decision needs to know of the sender. The gateway fills it from
// what package mailauth has found out; the zero value is a mail that nobody asked
// about, such as an outbound one.
type Auth struct {
	Wanted  string // what the author's domain asks for this mail: none, quarantine or reject
	Domain  string // the author's domain
	Policy  string // what its record says; more than Wanted while the domain is testing (RFC 9989 §4.7)
	Record  string // the domain whose record it is
	Sealers []Sealer

	Author        string // the domain that From names, "" where it is not exactly one
	Authenticated bool   // SPF or DKIM, aligned, shows that it is from there
	Trusted       bool   // the client may relay: nobody asks who it is
}

// Sealer is one who passed the mail on before us, by an ARC chain that holds. A
// chain that does not hold has none.
type Sealer struct {
	Domain        string
	Authenticated bool // when it came there, it was in order
}

// DMARCMode is how much the author's domain has to say about mail in its name
// that fails DMARC.
type DMARCMode string

// The modes.
const (
	Honour         DMARCMode = "honour"     // reject what it wants rejected, quarantine what it wants quarantined
	QuarantineOnly DMARCMode = "quarantine" // quarantine both
	ReportOnly     DMARCMode = "report"     // on record only
)

// AuthSettings are what a policy says of senders. What is empty is as the
// workspace has it.
type AuthSettings struct {
	DMARC DMARCMode `json:"dmarc,omitempty" enum:"honour,quarantine,report"`
	// TrustedARCSealers are domains that are believed when they say that a mail
	// was in order before they passed it on (RFC 8617 §5.2). An empty list trusts
	// nobody.
	TrustedARCSealers []string `json:"trusted_arc_sealers,omitzero" required:"false" doc:"left out: the default policy's; empty: nobody"`
}

// over is a domain's own settings on top of the workspace's.
func (a *AuthSettings) over(base *AuthSettings) *AuthSettings {
	merged := AuthSettings{DMARC: QuarantineOnly}
	for _, s := range []*AuthSettings{base, a} {
		if s == nil {
			continue
		}
		if s.DMARC != "" {
			merged.DMARC = s.DMARC
		}
		if s.TrustedARCSealers != nil {
			merged.TrustedARCSealers = s.TrustedARCSealers
		}
	}
	return &merged
}

// maxSealers bounds a list of trusted sealers.
const maxSealers = 1000

// check brings the settings into the form in which they are compared.
func (a *AuthSettings) check() error {
	if !slices.Contains([]DMARCMode{"", Honour, QuarantineOnly, ReportOnly}, a.DMARC) {
		return &InvalidError{"auth.dmarc", fmt.Sprintf("must be honour, quarantine or report, is %q", a.DMARC)}
	}
	if len(a.TrustedARCSealers) > maxSealers {
		return &InvalidError{"auth.trusted_arc_sealers", fmt.Sprintf("must not have more than %d domains", maxSealers)}
	}
	for i, d := range a.TrustedARCSealers {
		name, err := NormaliseDomain(d)
		if err != nil {
			return &InvalidError{"auth.trusted_arc_sealers", fmt.Sprintf("has %q, which is not a domain name", d)}
		}
		a.TrustedARCSealers[i] = name
	}
	return nil
}

// verdict is what DMARC means for one recipient: an action, or "" with the
// reason why a failure is passed over. No reason means that nothing is wanted.
type verdict struct {
	action Action
	why    Line
}

// judge applies a recipient's settings to a mail. Only a failure has something
// wanted: DNS trouble never acts.
func (a Auth) judge(r Recipient) verdict {
	if r.Direction == Outbound || a.Wanted != "quarantine" && a.Wanted != "reject" {
		return verdict{}
	}
	settings := r.Policy.Auth.over(nil)
	mode, sealers := r.Policy.Origin(LineDMARC), r.Policy.Origin(LineSealers)
	if settings.DMARC == ReportOnly {
		return verdict{why: say(mode, "dmarc.report", plainArg(a.Domain), plainArg(r.Domain.Name))}
	}
	if s, ok := a.vouched(settings.TrustedARCSealers); ok {
		return verdict{why: say(sealers, "dmarc.vouched", plainArg(a.Domain), plainArg(s))}
	}
	if settings.DMARC == Honour && a.Wanted == "reject" {
		return verdict{Reject, say(mode, "dmarc.reject", plainArg(a.Domain), originArg(mode))}
	}
	return verdict{Quarantine, say(mode, "dmarc.quarantine", plainArg(a.Domain), plainArg(a.Policy), originArg(mode))}
}

// vouched finds the sealer whose word counts. The newest must be trusted, or
// nothing in the chain can be believed, since a stranger can write a whole chain
// (RFC 8617 §9.3); from there back it is the oldest one before the first
// stranger, who saw the mail when it came into trusted hands.
func (a Auth) vouched(trusted []string) (string, bool) {
	var oldest Sealer
	for _, s := range slices.Backward(a.Sealers) {
		if !slices.Contains(trusted, strings.ToLower(s.Domain)) {
			break
		}
		oldest = s
	}
	return oldest.Domain, oldest.Authenticated
}

// dmarcScore is what a failed DMARC check weighs.
const dmarcScore = 8

// AuthEngine is the engine of the finding that a failed DMARC check makes.
const AuthEngine = "mailauth"

func (a Auth) finding() Finding {
	name, asks := "DMARC.Quarantine", a.Policy
	if a.Wanted == "reject" {
		name = "DMARC.Reject"
	}
	if a.Policy != a.Wanted {
		asks += ", for a test"
	}
	return Finding{Engine: AuthEngine, Name: name, Class: Phishing, Score: dmarcScore,
		Reason: fmt.Sprintf("It says that it is from %s, but neither SPF nor DKIM can show that; the domain asks that such mail be treated with: %s", a.Domain, asks),
		Meta:   map[string]string{"domain": a.Domain, "policy": a.Policy, "record": a.Record}}
}
