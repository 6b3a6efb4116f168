// Package facts puts what is known of a mail into the form that a decision
// hears: who wrote it, whether that is shown, and where its links lead.
//
// On a mail's path the gateway calls it between the engines and
// [policy.Decide]. A decision that is tried again later, on what the ledger
// has kept, goes through the same functions, so that both hear the same.
package facts

import (
	"encoding/json"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"mailward/gateway/ledger"
	"mailward/mailauth"
	"mailward/policy"
	"mailward/scanner/content"
)

// Auth is what the decision hears of the sender. relays says that the mail goes
// out, from a client that may do that: nobody asks who that is.
func Auth(r mailauth.Result, relays bool) policy.Auth {
	a := policy.Auth{Wanted: r.DMARC.Wanted(), Domain: r.DMARC.Domain, Policy: r.DMARC.Policy, Record: r.DMARC.RecordDomain, Author: r.From, Trusted: relays}
	a.Authenticated = r.From != "" && authenticated(r)
	if r.ARC.Result != mailauth.Pass || a.Domain == "" {
		return a
	}
	for _, s := range r.ARC.Seen {
		a.Sealers = append(a.Sealers, policy.Sealer{Domain: s.Sealer, Authenticated: inOrder(s, r.DMARC)})
	}
	return a
}

// authenticated says whether SPF or DKIM shows that a mail is from its author's
// domain: aligned, as DMARC compares domains, or where there is no record, for
// that domain itself.
func authenticated(r mailauth.Result) bool {
	if r.DMARC.SPFAligned || r.DMARC.DKIMAligned {
		return true
	}
	if r.SPF.Result == mailauth.Pass && strings.EqualFold(r.SPF.Domain, r.From) {
		return true
	}
	return slices.ContainsFunc(r.DKIM, func(k mailauth.DKIM) bool { return k.Result == mailauth.Pass && strings.EqualFold(k.Domain, r.From) })
}

// inOrder says whether a sealer saw the author's domain confirmed: DMARC passed
// for it, or a signature of it did, which is what DMARC would have asked for.
func inOrder(s mailauth.Seen, d mailauth.DMARC) bool {
	if s.DMARC != "" {
		return s.DMARC == mailauth.Pass && strings.EqualFold(s.From, d.Domain)
	}
	return slices.ContainsFunc(s.DKIM, func(k mailauth.DKIM) bool {
		return k.Result == mailauth.Pass && (k.Domain == d.Domain || d.OrgDomain != "" && !d.StrictDKIM && (k.Domain == d.OrgDomain || strings.HasSuffix(k.Domain, "."+d.OrgDomain)))
	})
}

// maxAuthors bounds how many authors of a mail are looked at.
const maxAuthors = 20

// Authors are the addresses of a decoded From field. What cannot be read as RFC
// 5322 has it gives what stands in its last angle brackets, or all of it.
func Authors(from string) (list []string) {
	if parsed, err := mail.ParseAddressList(from); err == nil {
		for _, a := range parsed[:min(len(parsed), maxAuthors)] {
			list = append(list, a.Address)
		}
		return list
	}
	from = strings.TrimSpace(from)
	if i := strings.LastIndexByte(from, '<'); i >= 0 && strings.HasSuffix(from, ">") {
		from = from[i+1 : len(from)-1]
	}
	if from == "" {
		return nil
	}
	return []string{from}
}

// maxLinkDomains bounds how many domains of links are kept of a mail.
const maxLinkDomains = 100

// LinkDomains are the domains that a mail's links lead to, each once, in
// A-labels.
func LinkDomains(c *content.Content) (list []string) {
	if c == nil {
		return nil
	}
	for _, l := range c.Links {
		u, err := url.Parse(strings.TrimSpace(l.Target))
		if err != nil {
			continue
		}
		name, err := policy.NormaliseDomain(u.Hostname())
		if err != nil || slices.Contains(list, name) {
			continue
		}
		if list = append(list, name); len(list) == maxLinkDomains {
			break
		}
	}
	return list
}

// LinkTargets are the links of a mail as they are written, the first ones.
func LinkTargets(c *content.Content) (list []string) {
	if c == nil {
		return nil
	}
	for _, l := range c.Links {
		if len(list) < maxLinkDomains && !slices.Contains(list, l.Target) {
			list = append(list, l.Target)
		}
	}
	return list
}

// Stored is what a decision heard of a mail, as far as the ledger has kept it:
// everything but the recipients and entries. What the decision itself had added
// to the findings is left out.
func Stored(r ledger.Row) policy.Input {
	var a mailauth.Result
	asked := json.Unmarshal(r.Auth, &a) == nil && a.SPF.Result != ""
	in := policy.Input{
		Auth:   Auth(a, !asked && r.Direction == policy.Outbound),
		Report: policy.Report{Engines: r.Engines, Parts: r.Parts, Subject: r.Subject, HeaderFrom: r.HeaderFrom},
		Mail:   policy.Mail{EnvelopeFrom: r.EnvelopeFrom, From: Authors(r.HeaderFrom), LinkDomains: r.LinkDomains},
	}
	in.Mail.ClientIP, _ = netip.ParseAddr(r.ClientIP)
	for _, f := range r.Findings {
		if f.Engine != policy.AuthEngine && f.Engine != policy.EntryEngine {
			in.Report.Findings = append(in.Report.Findings, f)
		}
	}
	return in
}
