package phishing

import (
	"slices"
	"strings"

	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/content"
)

// Bounds of what is judged of one mail. They are for time; what is beyond them
// has been matched by the rules.
const (
	textSeen  = 24 << 10 // bytes of text in which words are looked for
	linksSeen = 400
	hostSeen  = 50 // of those, to one host: what counts may stand behind many others
)

// mail is one mail that is being judged.
type mail struct {
	e     *Engine
	q     scanner.Question
	c     *content.Content
	found []policy.Finding

	from          content.Address
	name          string // the sender's name, plain
	local, domain string // the sender's address
	subject       string // plain
	own           string // subject and texts, plain
	text          string // and texts of attachments
	size          int    // bytes of visible text
	links         []target
	list          bool                    // sent by a mailing list
	leave         bool                    // has List-Unsubscribe
	said          map[string]map[int]bool // phrases in text, see says
	saidItself    map[string]map[int]bool // phrases in own
	served        []string
	hosts         map[string]hostFacts // see about
	header        map[string]string
}

// mail prepares what all signs look at.
func (e *Engine) mail(q scanner.Question) *mail {
	m := &mail{e: e, q: q, c: q.Content, header: map[string]string{}}
	if m.c == nil {
		m.c = &content.Content{}
	}
	for _, h := range m.c.Headers {
		if _, twice := m.header[h.Name]; !twice {
			m.header[h.Name] = h.Value
		}
	}
	if len(m.c.From) > 0 {
		m.from = m.c.From[0]
	}
	m.name = plain(m.from.Name)
	m.local, m.domain = splitAddress(m.from.Address)
	m.domain = readable(m.domain)
	m.subject = plain(m.c.Subject)
	_, m.leave = m.header["list-unsubscribe"]
	_, id := m.header["list-id"]
	_, post := m.header["list-post"]
	p := strings.ToLower(m.header["precedence"])
	m.list = id || post || p == "list" || p == "bulk" && m.header["x-mailman-version"] != ""
	if e.cfg.Served != nil {
		m.served = slices.Clone(e.cfg.Served(q.Workspace))
	}
	for _, r := range q.Recipients {
		if d := strings.ToLower(r.Domain.Name); d != "" && r.Direction != policy.Outbound && !slices.Contains(m.served, d) {
			m.served = append(m.served, d)
		}
	}
	for i, d := range m.served {
		m.served[i] = readable(d)
	}
	m.texts()
	perHost := map[string]int{}
	for _, l := range m.c.Links {
		if len(m.links) == linksSeen {
			break
		}
		if t, ok := parseTarget(l); ok && perHost[t.host] < hostSeen {
			perHost[t.host]++
			m.links = append(m.links, t)
		}
	}
	return m
}

// texts puts together what is read for words: first what the mail itself says,
// then its attachments.
func (m *mail) texts() {
	var own, attached strings.Builder
	own.WriteString(m.c.Subject)
	for _, t := range m.c.Texts {
		m.size += len(t.Text)
		b := &own
		if t.Name != "" {
			b = &attached
		}
		for _, s := range [...]string{t.Text, t.Hidden} {
			if room := textSeen - own.Len() - attached.Len(); room > 0 && s != "" {
				b.WriteString("\n")
				b.WriteString(strings.ToValidUTF8(s[:min(len(s), room)], ""))
			}
		}
	}
	m.own = plain(own.String())
	if m.text = m.own; attached.Len() > 0 {
		m.text += " " + plain(attached.String())
	}
}

// splitAddress is the local part as written, and the domain in lower case.
func splitAddress(a string) (local, domain string) {
	i := strings.LastIndexByte(a, '@')
	if i < 0 {
		return a, ""
	}
	return a[:i], strings.TrimSuffix(strings.ToLower(strings.TrimSpace(a[i+1:])), ".")
}

// same says whether two hosts are one organisation's: the same domain, or the
// same name under another suffix.
func same(a, b string) bool {
	ra, rb := registrable(a), registrable(b)
	if ra == rb {
		return true
	}
	na, _, _ := strings.Cut(ra, ".")
	nb, _, _ := strings.Cut(rb, ".")
	return na == nb && len(na) > 3
}

// longText is the length from which one phrase of a list is chance.
const longText = 4000 // bytes

// says whether the mail or its attachments have phrases of a list, and one of them.
func (m *mail) says(list string) (one string, ok bool) {
	if m.said == nil {
		m.said = m.e.data.phrases.in(m.text)
	}
	return m.among(list, m.said, len(m.text))
}

// saysItself is says for the mail without its attachments: a form that is sent
// round asks for the sex of a person, and a book of hundred pages has every word.
func (m *mail) saysItself(list string) (one string, ok bool) {
	if len(m.own) == len(m.text) {
		return m.says(list)
	}
	if m.saidItself == nil {
		m.saidItself = m.e.data.phrases.in(m.own)
	}
	return m.among(list, m.saidItself, len(m.own))
}

func (m *mail) among(list string, found map[string]map[int]bool, length int) (one string, ok bool) {
	need := 1
	if length > longText {
		need = 2
	}
	said := found[list]
	for i, w := range m.e.data.Words[list] {
		if !said[i] {
			continue
		}
		if one == "" {
			one = w
		}
		if need--; need == 0 {
			return one, true
		}
	}
	return "", false
}

// kinds says in which kinds of text the mail itself is written.
func (m *mail) kinds() (html, text bool) {
	for _, t := range m.c.Texts {
		if t.Name == "" {
			html, text = html || t.Kind == "html", text || t.Kind == "plain"
		}
	}
	return html, text
}

// answer says whether the mail belongs to a conversation.
func (m *mail) answer() bool { return m.header["in-reply-to"] != "" || m.header["references"] != "" }
