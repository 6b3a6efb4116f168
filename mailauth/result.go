package mailauth

import "encoding/json"

// Results of the methods, as RFC 8601 §2.7 names them. A method knows some of
// them only.
const (
	None      = "none"
	Pass      = "pass"
	Fail      = "fail"
	SoftFail  = "softfail"
	Neutral   = "neutral"
	Policy    = "policy"
	TempError = "temperror"
	PermError = "permerror"
)

// Result is what is known about the sender of a mail. Text in it that comes
// from the mail or from DNS is printable ASCII, and bounded.
type Result struct {
	From        string `json:"from,omitempty"`         // the author's domain, in A-labels; "" where there is not exactly one
	FromProblem string `json:"from_problem,omitempty"` // why From says no single domain
	SPF         SPF    `json:"spf"`                    // of MAIL FROM, or of HELO for the null sender
	HELO        SPF    `json:"helo"`
	DKIM        []DKIM `json:"dkim,omitempty"`      // the signatures that were checked, the author's own first
	Unchecked   int    `json:"unchecked,omitempty"` // signatures over the limit, not looked at
	DMARC       DMARC  `json:"dmarc"`
	ARC         ARC    `json:"arc"`
	IPRev       IPRev  `json:"iprev"`

	Header string          `json:"-"` // the results, as they follow the authserv-id; "" is "none"
	JSON   json.RawMessage `json:"-"` // for the record
}

// SPF is RFC 7208's answer for one identity.
type SPF struct {
	Result   string `json:"result"`
	Identity string `json:"identity,omitempty"` // mailfrom or helo
	Domain   string `json:"domain,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// DKIM is what one signature is worth (RFC 6376).
type DKIM struct {
	Result    string `json:"result"`
	Domain    string `json:"domain,omitempty"`
	Selector  string `json:"selector,omitempty"`
	Identity  string `json:"identity,omitempty"`  // i=
	Algorithm string `json:"algorithm,omitempty"` // a=
	Signature string `json:"signature,omitempty"` // the start of b=, to tell signatures apart
	Bits      int    `json:"bits,omitempty"`      // of an RSA key
	Weak      bool   `json:"weak,omitempty"`      // RSA below 2048 bits (RFC 8301 §3.2)
	Testing   bool   `json:"testing,omitempty"`   // the key says t=y
	Partial   bool   `json:"partial,omitempty"`   // l= leaves a part of the body unsigned
	Aligned   bool   `json:"aligned,omitempty"`   // with the author's domain, for DMARC
	Reason    string `json:"reason,omitempty"`
}

// DMARC is what the author's domain says about mail in its name (RFC 9989).
type DMARC struct {
	Result       string `json:"result"`                  // none, pass, fail, temperror, permerror
	Domain       string `json:"domain,omitempty"`        // the author's domain
	OrgDomain    string `json:"org_domain,omitempty"`    // its organizational domain
	RecordDomain string `json:"record_domain,omitempty"` // the domain whose record applies
	Policy       string `json:"policy,omitempty"`        // none, quarantine, reject: what the record wants of a mail that fails
	Tag          string `json:"tag,omitempty"`           // which tag says so: p, sp, np
	Testing      bool   `json:"testing,omitempty"`       // t=y: one step milder, see [DMARC.Wanted]
	StrictSPF    bool   `json:"strict_spf,omitempty"`    // aspf=s
	StrictDKIM   bool   `json:"strict_dkim,omitempty"`   // adkim=s
	SPFAligned   bool   `json:"spf_aligned,omitempty"`   // SPF passed for an aligned domain
	DKIMAligned  bool   `json:"dkim_aligned,omitempty"`  // a signature of an aligned domain passed
	Reason       string `json:"reason,omitempty"`
}

// Wanted is what the author's domain wants done with this mail: none,
// quarantine or reject. It is none for all results but fail. RFC 9989 §4.7: t=y
// asks for one step less than the policy says.
func (d DMARC) Wanted() string {
	switch {
	case d.Result != Fail:
		return None
	case d.Testing && d.Policy == Reject:
		return Quarantine
	case d.Testing && d.Policy == Quarantine:
		return None
	case d.Policy == "":
		return None
	}
	return d.Policy
}

// What a DMARC record can ask for, besides None.
const (
	Quarantine = "quarantine"
	Reject     = "reject"
)

// IPRev says whether the client's address has a name that has this address
// (RFC 8601 §3).
type IPRev struct {
	Result string `json:"result"`
	IP     string `json:"ip,omitempty"`
	Name   string `json:"name,omitempty"`
	Reason string `json:"reason,omitempty"`
}
