package mailauth

import (
	"context"
	"errors"
	"slices"
	"strings"

	"mailward/internal/dns"
)

// dmarc is the check of one mail (RFC 9989 §5.3): discover asks for the record
// while the signatures are verified, evaluate puts it all together.
type dmarc struct {
	ctx    context.Context
	dns    Resolver
	author string

	walk   []step
	own    bool // the record is the author domain's own
	record *dmarcRecord
	org    string // "" where orgErr is set
	orgErr error
	exists bool
	DMARC
}

func (c *Checker) newDMARC(ctx context.Context, author string) *dmarc {
	return &dmarc{ctx: ctx, dns: c.dns, author: author, exists: true, DMARC: DMARC{Result: None, Domain: author}}
}

// newAuthors begins a check of each domain that a mail may be taken to be from:
// the author's, or where there is not exactly one, none and those that From shows.
func (c *Checker) newAuthors(ctx context.Context, f *fields, author string) []*dmarc {
	list := []*dmarc{c.newDMARC(ctx, author)}
	if author == "" {
		for _, d := range shownDomains(f) {
			list = append(list, c.newDMARC(ctx, d))
		}
	}
	return list
}

// strictest is what the checks of newAuthors come to. DMARC says nothing of a
// mail without exactly one author's domain, so a second one would get a forger
// around it (RFC 9989 §11.5): where it fails for one
// of them, what the strictest asks for counts. A pass counts for nothing.
func strictest(list []*dmarc, r *Result) DMARC {
	worst := list[0].evaluate(r)
	order := []string{None, Quarantine, Reject}
	for _, d := range list[1:] {
		other := *r
		other.DKIM = slices.Clone(r.DKIM)
		if got := d.evaluate(&other); slices.Index(order, got.Wanted()) > slices.Index(order, worst.Wanted()) {
			worst = got
			worst.Reason = r.FromProblem
		}
	}
	return worst
}

var errDNS = errors.New("DNS trouble")

// discover finds the record that applies (RFC 9989 §4.10.1).
func (d *dmarc) discover() {
	if d.author == "" {
		return
	}
	d.walk = treeWalk(d.ctx, d.dns, d.author)
	d.org, d.orgErr = organization(d.walk)
	d.OrgDomain = d.org
	if first := d.walk[0]; first.err != nil || first.record != nil {
		d.take(first)
		d.own = true
		return
	}
	if d.orgErr != nil {
		d.stop(TempError, errDNS)
		return
	}
	// The organizational domain's, else the public suffix's above it.
	for _, s := range d.walk {
		if s.record != nil && (s.domain == d.org || s.record.psd == "y") {
			d.take(s)
			break
		}
	}
	if r := d.record; r != nil && r.nonexistent != "" {
		d.askExists()
	}
}

func (d *dmarc) take(s step) {
	if s.err != nil {
		d.stop(TempError, errDNS)
		return
	}
	d.record, d.RecordDomain = s.record, s.domain
}

func (d *dmarc) stop(result string, why error) {
	d.Result, d.Reason = result, note(why)
}

// askExists asks whether there is such a domain, for np (RFC 9989 §3.2.13): not
// where DNS says NXDOMAIN (RFC 8020).
func (d *dmarc) askExists() {
	_, err := d.dns.LookupTXT(d.ctx, d.author)
	switch {
	case errors.Is(err, dns.ErrNoName):
		d.exists = false
	case err != nil && !isMissing(err):
		// Unknown; it matters only where the two policies differ.
		if policy, _, _ := d.record.wants(false, true); policy != d.record.nonexistent {
			d.stop(TempError, errDNS)
		}
	}
}

// evaluate says what DMARC says of the mail, and marks the aligned signatures.
func (d *dmarc) evaluate(r *Result) DMARC {
	switch {
	case d.author == "":
		d.stop(PermError, errors.New(r.FromProblem))
		return d.DMARC
	case d.Result == TempError || d.record == nil:
		return d.DMARC
	}
	var apply bool
	if d.Policy, d.Tag, apply = d.record.wants(d.own, d.exists); !apply {
		d.Policy, d.Tag = "", ""
		d.stop(None, errors.New("the record has no policy that can be read"))
		return d.DMARC
	}
	d.Testing, d.StrictSPF, d.StrictDKIM = d.record.testing, d.record.strictSPF, d.record.strictDKIM
	unknown := false
	for i := range r.DKIM {
		s := &r.DKIM[i]
		if s.Result != Pass && s.Result != TempError {
			continue
		}
		aligned, err := d.aligned(s.Domain, d.StrictDKIM)
		unknown = unknown || err != nil || aligned && s.Result == TempError
		if s.Aligned = aligned && s.Result == Pass; s.Aligned {
			d.DKIMAligned = true
		}
	}
	if r.SPF.Result == Pass || r.SPF.Result == TempError {
		aligned, err := d.aligned(r.SPF.Domain, d.StrictSPF)
		unknown = unknown || err != nil || aligned && r.SPF.Result == TempError
		d.SPFAligned = aligned && r.SPF.Result == Pass
	}
	switch {
	case d.DKIMAligned || d.SPFAligned:
		d.Result = Pass
	case unknown:
		// RFC 9989 §5.3.4: a temporary error is no failure. It counts only where it
		// is the author's: else a forger could choose a domain in trouble.
		d.stop(TempError, errDNS)
	default:
		d.Result = Fail
	}
	return d.DMARC
}

// aligned compares an authenticated domain with the author's (RFC 9989 §4.10.2).
func (d *dmarc) aligned(domain string, strict bool) (bool, error) {
	domain = strings.ToLower(domain)
	switch {
	case domain == d.author:
		return true, nil
	case strict || domain == "":
		return false, nil
	case d.orgErr != nil:
		// Without the organizational domain all that is known is that both are
		// below it: they share at least their last label.
		return false, relatedErr(domain, d.author, d.orgErr)
	case !within(domain, d.org):
		return false, nil
	}
	org, err := organization(treeWalk(d.ctx, d.dns, domain))
	return org == d.org, err
}

// relatedErr is err where two domains could be of one organization.
func relatedErr(a, b string, err error) error {
	if a[strings.LastIndexByte(a, '.')+1:] == b[strings.LastIndexByte(b, '.')+1:] {
		return err
	}
	return nil
}
