package quarantine

import (
	"crypto/sha256"
	"encoding/hex"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"mailward/policy"
)

// What an item is found by. A term is one exact thing, its kind in front; words
// are text of which a part is looked for.
const (
	maxTerms     = 400
	maxTermBytes = 300
	maxWords     = 8000 // bytes; a subject or a list of recipients may be longer
	maxLinks     = 20
)

// searchable is as much of the coming item as terms and words are made of.
func (h Hold) searchable() Item {
	sum := h.Spool.SHA256()
	i := Item{EnvelopeFrom: h.Envelope.From, HeaderFrom: h.Report.HeaderFrom, Subject: h.Report.Subject, MessageID: h.Report.MessageID,
		SHA256: hex.EncodeToString(sum[:]), Findings: h.Report.Findings, Parts: h.Report.Parts}
	for _, r := range h.Recipients {
		i.Recipients = append(i.Recipients, ItemRecipient{Address: r.Address})
	}
	return i
}

// links are where the mail leads. What a leak was found in stays in the mail: a
// link's path may be what leaked.
func (h Hold) links() []string {
	if h.Class == policy.DLP {
		return []string{}
	}
	return Links(h.Links)
}

// terms lists what an item is found by exactly.
func (i Item) terms(links []string) []string {
	var out []string
	add := func(kind, value string) {
		value = strings.ToLower(strings.TrimSpace(clean(value)))
		if t := kind + value; value != "" && len(out) < maxTerms && !slices.Contains(out, t) {
			out = append(out, cutText(t, maxTermBytes))
		}
	}
	for _, a := range append(headerAddresses(i.HeaderFrom), i.EnvelopeFrom) {
		add("from:", a)
		for _, d := range domainsAbove(a) {
			add("from:@", d)
		}
	}
	add("hash:", i.SHA256)
	add("mid:", strings.Trim(i.MessageID, "<> "))
	add("shape:", Shape(i.Subject))
	for _, r := range i.Recipients {
		add("to:", r.Address)
		if _, domain, ok := cutLast(r.Address, "@"); ok {
			add("to:@", domain)
		}
	}
	for _, f := range i.Findings {
		add(termKind(f.Engine), f.Name)
	}
	for _, l := range links {
		add("url:", l)
	}
	for _, p := range i.Parts {
		add("hash:", p.SHA256)
	}
	return out
}

// termKind tells rules and signatures from signs, which all other engines give.
func termKind(engine string) string {
	switch engine {
	case "yara":
		return "yara:"
	case "clamav":
		return "sig:"
	}
	return "sym:"
}

// findingTerms are the terms and words that later findings add.
func findingTerms(list []policy.Finding) (terms []string, words string) {
	i := Item{Findings: list}
	return i.terms(nil), i.words()
}

// words is the text of which a part can be looked for.
func (i Item) words() string {
	all := []string{i.Subject, i.HeaderFrom, i.EnvelopeFrom}
	all = append(all, i.Addresses()...)
	for _, f := range i.Findings {
		all = append(all, f.Name)
	}
	return cutText(strings.ToLower(clean(strings.Join(slices.Compact(all), "\n"))), maxWords)
}

// headerAddresses are the addresses of a From field; where it cannot be read,
// what stands between the last angle brackets.
func headerAddresses(from string) (out []string) {
	if list, err := mail.ParseAddressList(from); err == nil {
		for _, a := range list[:min(len(list), 5)] {
			out = append(out, a.Address)
		}
		return out
	}
	if _, rest, ok := cutLast(from, "<"); ok {
		rest, _, _ = strings.Cut(rest, ">")
		return []string{rest}
	}
	return []string{from}
}

// domainsAbove is an address's domain with those above it, without the last
// label: mail.evil.example is found by evil.example too.
func domainsAbove(address string) (out []string) {
	_, domain, ok := cutLast(address, "@")
	for ok && domain != "" && len(out) < 5 {
		out = append(out, domain)
		_, above, more := strings.Cut(domain, ".")
		domain, ok = above, more && strings.Contains(above, ".")
	}
	return out
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func cutText(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}

// Links makes addresses of links comparable: host and path, without scheme,
// query and fragment, each once.
func Links(targets []string) []string {
	out := []string{}
	for _, t := range targets {
		if l := linkOf(t); l != "" && len(out) < maxLinks && !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

func linkOf(target string) string {
	target = strings.TrimSpace(clean(target))
	if !strings.Contains(target, "://") {
		if otherScheme.MatchString(target) {
			return ""
		}
		target = "http://" + target
	}
	u, err := url.Parse(target)
	if err != nil || !strings.HasPrefix(u.Scheme, "http") || !strings.Contains(u.Hostname(), ".") {
		return ""
	}
	return cutText(strings.ToLower(u.Hostname()+strings.TrimRight(u.Path, "/")), 200)
}

var (
	// otherScheme is mailto:, javascript: and the like; a host with a port has digits there.
	otherScheme = regexp.MustCompile(`^(?i:[a-z][a-z0-9+.-]*):[^0-9]`)
	answerMark  = regexp.MustCompile(`^(?i:(re|aw|fwd?|wg|antw|sv|tr)\s*(\[\d+\])?\s*:\s*)+`)
	wordSplit   = regexp.MustCompile(`[\s\pZ]+`)
)

// Shape is a subject without what differs from mail to mail of one campaign:
// "Invoice 4711 for Bob" and "invoice 0815 for bob" have the same. Words with a
// digit become #, answer marks and punctuation go. Empty where too little is left
// to say anything.
func Shape(subject string) string {
	s := answerMark.ReplaceAllString(strings.TrimSpace(clean(subject)), "")
	var out []string
	letters := 0
	for _, w := range wordSplit.Split(strings.ToLower(s), -1) {
		w = strings.TrimFunc(w, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		switch {
		case w == "":
			continue
		case strings.ContainsFunc(w, unicode.IsDigit):
			w = "#"
		default:
			letters += len([]rune(w))
		}
		if w != "#" || len(out) == 0 || out[len(out)-1] != "#" {
			out = append(out, w)
		}
	}
	if letters < 4 {
		return ""
	}
	shape := strings.Join(out, " ")
	if len(shape) > 200 {
		sum := sha256.Sum256([]byte(shape))
		shape = cutText(shape, 160) + " " + hex.EncodeToString(sum[:8])
	}
	return shape
}
