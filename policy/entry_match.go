package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Mail is what entries can match in a mail, beside the report.
type Mail struct {
	EnvelopeFrom string
	From         []string // addresses of the author
	ClientIP     netip.Addr
	LinkDomains  []string // in A-labels
}

// EntrySet finds the entries that match a mail. It is made once for all mails
// of a workspace and never changed.
type EntrySet struct {
	exact    map[entryKey][]*Entry
	networks []*Entry
	subjects []*Entry
}

type entryKey struct{ match, value string }

// NewEntrySet makes a set of entries that have been checked.
func NewEntrySet(list []Entry) *EntrySet {
	s := &EntrySet{exact: map[entryKey][]*Entry{}}
	for i := range list {
		e := &list[i]
		switch {
		case e.prefix.IsValid():
			s.networks = append(s.networks, e)
		case e.re != nil:
			s.subjects = append(s.subjects, e)
		default:
			k := entryKey{e.Match, e.Value}
			s.exact[k] = append(s.exact[k], e)
		}
	}
	return s
}

// hit is an entry that matches a mail.
type hit struct {
	*Entry
	part string // path of the attachment that it matches
	// proven says that the matched sender has been shown to be who it is, or that
	// it could not be forged at all.
	proven bool
}

// find lists the entries that match a mail, whoever gets it.
func (s *EntrySet) find(in Input) (hits []hit) {
	if s == nil {
		return nil
	}
	add := func(h hit) {
		if !slices.ContainsFunc(hits, func(have hit) bool { return have.ID == h.ID && have.part == h.part && (have.proven || !h.proven) }) {
			hits = append(hits, h)
		}
	}
	s.findSenders(in, add)
	for _, e := range s.networks {
		if in.Mail.ClientIP.IsValid() && e.prefix.Contains(in.Mail.ClientIP.Unmap()) {
			add(hit{Entry: e, proven: true})
		}
	}
	for _, d := range in.Mail.LinkDomains {
		for _, name := range parents(d) {
			for _, e := range s.exact[entryKey{MatchLink, name}] {
				add(hit{Entry: e})
			}
		}
	}
	for _, p := range in.Report.Parts {
		for _, e := range s.exact[entryKey{MatchAttachment, p.SHA256}] {
			add(hit{Entry: e, part: p.Path, proven: true})
		}
	}
	subject := in.Report.Subject[:min(len(in.Report.Subject), maxSubject)]
	for _, e := range s.subjects {
		if e.re.MatchString(subject) {
			add(hit{Entry: e})
		}
	}
	return hits
}

// findSenders looks for the envelope's sender and the author. Only an author
// that SPF or DKIM has confirmed is proven, or one of a client that may relay:
// anybody can write the others.
func (s *EntrySet) findSenders(in Input, add func(hit)) {
	look := func(address string, proven func(domain string) bool) {
		local, domain, ok := cutAddress(address)
		if !ok {
			return
		}
		for _, e := range s.exact[entryKey{MatchSender, local + "@" + domain}] {
			add(hit{Entry: e, proven: proven(domain)})
		}
		for _, name := range parents(domain) {
			for _, e := range s.exact[entryKey{MatchDomain, name}] {
				add(hit{Entry: e, proven: proven(domain)})
			}
		}
	}
	for _, a := range in.Mail.From {
		look(a, func(domain string) bool {
			return in.Auth.Trusted || len(in.Mail.From) == 1 && in.Auth.Authenticated && strings.EqualFold(domain, in.Auth.Author)
		})
	}
	look(in.Mail.EnvelopeFrom, func(string) bool { return in.Auth.Trusted })
}

// parents are a domain and those above it.
func parents(domain string) (list []string) {
	for ; strings.Contains(domain, "."); _, domain, _ = strings.Cut(domain, ".") {
		list = append(list, domain)
	}
	return list
}

// lift takes away what allow entries lift for one recipient: findings of their
// classes, and the signs that count for these. It says what it has done.
func lift(findings []Finding, hits []hit, r Recipient) (left []Finding, lifted []Class, lines []Line) {
	left = findings
	for _, h := range hits {
		if h.Kind != EntryAllow || !h.covers(r) {
			continue
		}
		if !h.proven {
			lines = append(lines, say(Origin{}, "entry.proof", entryArgs(h.Entry)...))
			continue
		}
		var gone []string
		var rest []Finding
		for _, f := range left {
			if (f.Class != "" && slices.Contains(h.Classes, f.Class) || f.Class == "" && h.part != "" && slices.Contains(h.Classes, Spam)) && (h.part == "" || f.Part == h.part) {
				gone = append(gone, f.Name)
				continue
			}
			rest = append(rest, f)
		}
		left = rest
		classes := h.Classes
		if h.part != "" {
			classes = nil // signs of other parts still count
		}
		lifted = append(lifted, classes...)
		if len(gone) > 0 || signs(left, classes) {
			lines = append(lines, h.say("entry.lifts", classesArg(h.Classes)))
		}
	}
	return left, lifted, lines
}

// signs says whether there are signs of one of the classes.
func signs(findings []Finding, classes []Class) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool {
		return slices.ContainsFunc(classes, func(c Class) bool { return counts(f, c) })
	})
}

func joinClasses(list []Class) string {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = string(c)
	}
	return strings.Join(names, ", ")
}

// say makes a sentence about an entry.
func (h hit) say(id string, args ...string) Line {
	l := say(Origin{Layer: "entry", Version: h.Version}, id, entryArgs(h.Entry, args...)...)
	l.EntryID = h.ID
	return l
}

// EntryEngine is the engine of the finding that a block entry makes.
const EntryEngine = "policy"

// finding is what a block entry adds to a mail.
func (h hit) finding() Finding {
	return Finding{Engine: EntryEngine, Name: "Blocked." + h.Match, Class: h.Class, Score: blockScore, Part: h.part,
		Reason: cut(fmt.Sprintf("It is blocked by %s", h.Entry)), Meta: map[string]string{"entry": h.ID.String()}}
}

// blockScore is what a block entry weighs.
const blockScore = 10
