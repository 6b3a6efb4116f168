package phishing

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mailward/policy"
	"mailward/scanner/content"
)

// findPhishing looks for all signs of phishing.
func findPhishing(m *mail) {
	m.senderSigns()
	m.brandSigns()
	m.replySigns()
	m.linkSigns()
	m.formSigns()
	m.wordSigns()
	m.lookSigns()
	m.massSign()
	m.proofSigns()
	m.strangerSigns()
}

var addressIn = regexp.MustCompile(`[a-z0-9._%+-]+@([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,})`)

// senderSigns are those of the sender's name and address.
func (m *mail) senderSigns() {
	if a := addressIn.FindStringSubmatch(m.name); a != nil && !same(a[1], m.domain) {
		m.sign("NAME_HAS_ADDRESS", a[0])
	}
	if m.domain != "" && !strings.HasPrefix(m.domain, "[") && (!strings.Contains(m.domain, ".") || !exists(m.domain)) && !under(m.domain, m.served) {
		m.sign("SENDER_NO_DOMAIN", m.from.Address)
	}
	if under(m.domain, m.e.data.FreeHosting) {
		m.sign("SENDER_FREE_HOSTING", m.domain)
	}
	if randomLocal(m.local) {
		m.sign("SENDER_RANDOM", m.local)
	}
	if m.e.cfg.People != nil && m.name != "" && !under(m.domain, m.served) {
		for _, p := range m.e.cfg.People(m.q.Workspace) {
			if sameName(plain(p), m.name) {
				m.sign("OWN_PERSON", m.from.Name)
			}
		}
	}
	m.roleSign()
	m.ownDomainSign()
	if strings.ContainsRune(m.from.Name+m.from.Address+m.c.Subject, utf8.RuneError) {
		m.sign("HEADER_GARBLED", "")
	}
	for _, s := range [...]string{m.from.Name, m.c.Subject} {
		if w, ok := mixed(s); ok {
			m.sign("MIXED_SCRIPT", w)
		}
	}
}

// sameName says whether a sender's name is that of a person, also with the family
// name first, or with a title or function around it.
func sameName(person, name string) bool {
	if person == name {
		return true
	}
	if !strings.Contains(person, " ") {
		return false // One word alone is a name of many.
	}
	words := func(s string) []string {
		w := strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && r != '-' && r != '\'' })
		slices.Sort(w)
		return w
	}
	return slices.Equal(words(person), words(name)) || hasWord(name, person)
}

// ownDomainSign is a name like "example.org mailbox" of somebody outside. The
// name of a whole domain is looked for: words alone are too common.
func (m *mail) ownDomainSign() {
	if m.q.Direction == policy.Outbound || under(m.domain, m.served) {
		return
	}
	for _, d := range m.served {
		if hasWord(m.name, d) && !m.list {
			m.sign("OWN_DOMAIN_NAME", m.from.Name)
		}
	}
}

// camelCase is a name like JohnSmith.
var camelCase = regexp.MustCompile(`^(?:[A-Z][a-z]{2,})+$`)

// randomLocal is a local part that no person and no program for people has:
// capitals in the middle of letters, or digits and letters by turns.
func randomLocal(s string) bool {
	if len(s) < 7 || len(s) > 40 || strings.ContainsAny(s, ".+-_=") || camelCase.MatchString(s) {
		return false
	}
	changes, vowels, letters := 0, 0, 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' {
			letters++
			if strings.IndexByte("aeiouyAEIOUY", c) >= 0 {
				vowels++
			}
		}
		if i > 0 && kindOf(s[i-1]) != kindOf(c) {
			changes++
		}
	}
	return changes >= 3 && letters >= 5 || changes >= 2 && letters >= 6 && vowels*4 < letters
}

func kindOf(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return 0
	case c >= 'A' && c <= 'Z':
		return 1
	default:
		return 2
	}
}

// roleSign is a name like "Security Team" or "Bonus Service" of an address that
// has no word of it.
func (m *mail) roleSign() {
	role := false
	for _, r := range m.e.data.Roles {
		role = role || hasWord(m.name, plain(r))
	}
	if !role || m.domain == "" || under(m.domain, m.served) {
		return
	}
	address := strings.ToLower(m.local + "@" + m.domain)
	for w := range strings.FieldsFuncSeq(m.name, func(r rune) bool { return !alnum(byte(min(r, 0x80))) }) {
		if len(w) > 2 && strings.Contains(address, w) {
			return
		}
	}
	m.sign("SENDER_ROLE", m.from.Name)
}

// brandSigns hold names and domains against well-known brands and our own domains.
func (m *mail) brandSigns() {
	hosts := m.faces()
	foreign := slices.DeleteFunc(slices.Clone(hosts), func(h face) bool { return m.about(h.host).tracker })
	for i := range m.e.data.Brands {
		b := &m.e.data.Brands[i]
		if m.domain != "" && b.own(m.domain) {
			continue
		}
		if w, ok := b.named(m.name); ok && !m.list {
			m.sign("BRAND_NAME", w)
		}
		if w, ok := b.named(m.subject); ok && !m.list && !m.leadsTo(b) && len(m.links) > 0 {
			m.sign("BRAND_SUBJECT", w)
		}
		for _, h := range foreign {
			m.brandDomain(b, h)
		}
	}
	for _, d := range m.served {
		ours := faceOf(d)
		for _, h := range hosts {
			if h.looksLike(ours) {
				m.sign("DOMAIN_LOOKALIKE", h.host)
			}
		}
	}
}

// faces are the hosts of the sender and of what can be clicked that might imitate
// somebody, each once.
func (m *mail) faces() (list []face) {
	seen := map[string]bool{"": true}
	add := func(host string) {
		if !seen[host] && !under(host, m.served) {
			list = append(list, faceOf(host))
		}
		seen[host] = true
	}
	add(m.domain)
	for _, t := range m.links {
		if t.Kind != content.LinkImage && !t.ip {
			add(t.host)
		}
	}
	return list
}

// leadsTo says whether a link of the mail leads to the brand.
func (m *mail) leadsTo(b *brand) bool {
	for _, t := range m.links {
		if b.own(t.host) {
			return true
		}
	}
	return false
}

// brandDomain looks for the brand in one domain that is not its own.
func (m *mail) brandDomain(b *brand, h face) {
	if b.own(h.host) {
		return
	}
	for _, d := range b.faces {
		if h.looksLike(d) {
			m.sign("DOMAIN_LOOKALIKE", h.host)
		}
	}
	for _, w := range b.flat {
		if strings.Contains(h.flat, w) {
			m.sign("BRAND_IN_DOMAIN", h.host)
		}
	}
}

// looksLike says whether h's registered name is taken for the one of d.
func (h face) looksLike(d face) bool {
	if h.registered == d.registered || len(d.name) < 5 || h.name == d.name {
		return false // the same name under another suffix is mostly the same owner's
	}
	return h.eye == d.eye || len(d.name) >= 7 && h.suffix == d.suffix && similar(h.plain, d.name)
}

// replySigns are about where answers go. Mailing lists send them elsewhere too.
func (m *mail) replySigns() {
	if m.list || m.domain == "" {
		return
	}
	for _, a := range m.c.ReplyTo {
		local, d := splitAddress(a.Address)
		switch {
		case d == "" || same(d, m.domain) || under(d, m.served):
		case under(d, m.e.data.Freemail) && local != m.local:
			m.sign("REPLY_TO_FREEMAIL", a.Address)
		case !m.leave && local != m.local:
			m.sign("REPLY_TO_OTHER", a.Address)
		}
	}
	if _, d := splitAddress(m.q.EnvelopeFrom); d != "" && !same(d, m.domain) && !m.leave && !under(d, m.e.data.Trackers) {
		m.sign("ENVELOPE_OTHER", d)
	}
}

// formSigns are about forms, in the mail and in attached pages.
func (m *mail) formSigns() {
	names := map[string]string{}
	for _, t := range m.c.Texts {
		if t.Kind == "html" && t.Name != "" {
			names[t.Part] = t.Name
		}
	}
	for _, f := range m.c.Forms {
		if f.Password {
			m.sign("FORM_PASSWORD", f.Action)
		}
		if name, ok := names[f.Part]; ok {
			m.sign("FORM_ATTACHED", name)
		}
	}
	for _, l := range m.c.Links {
		if name, ok := names[l.Part]; ok && l.Kind == content.LinkMeta {
			m.sign("FORM_ATTACHED", name)
		}
	}
}

// wordSigns are about what the mail asks for. A mailing list talks about
// everything, also about phishing.
func (m *mail) wordSigns() {
	if m.list {
		return
	}
	for _, name := range [...]string{"WORDS_ACCOUNT", "WORDS_URGENT", "WORDS_PRIZE", "WORDS_PAYMENT"} {
		if w, ok := m.says(name); ok && (len(m.links) > 0 || len(m.c.Forms) > 0) {
			m.sign(name, w)
		}
	}
	if w, ok := m.says("EXTORTION"); ok && wallet.MatchString(m.text) {
		m.sign("EXTORTION", w)
	}
	for _, name := range [...]string{"WORDS_FAVOUR", "WORDS_FORTUNE", "WORDS_SEED"} {
		if w, ok := m.says(name); ok {
			m.sign(name, w)
		}
	}
}

// wallet is an address of Bitcoin, Litecoin, Ethereum or Monero, in small letters,
// beside a word for what it is.
var wallet = regexp.MustCompile(`(?s)(?:bitcoin|btc|ethereum|litecoin|monero|crypto|wallet).{0,400}\b(?:(?:bc1|ltc1)[a-z0-9]{25,60}|[13][a-z0-9]{25,34}|0x[a-f0-9]{40}|4[a-z0-9]{90,105})\b`)

// massSign is mail to many whose sender cannot be told and cannot be left.
func (m *mail) massSign() {
	if html, text := m.kinds(); html && !text && !m.leave && !m.list && !m.answer() && (m.has("LINK_OPAQUE") || m.has("SENDER_RANDOM")) {
		m.sign("MASS_HIDDEN", "")
	}
}

var leftover = regexp.MustCompile(`\{\{ ?[a-z_ ]{2,30} ?\}\}|\[(?:username|user|name|email|first_?name)\]|#(?:affid|email|name|s1)#|%%[a-z_]{2,30}%%`)

// lookSigns are about how the mail looks.
func (m *mail) lookSigns() {
	hidden, salted := 0, false
	for _, t := range m.c.Texts {
		hidden += len(t.Hidden)
		salted = salted || strings.ContainsFunc(t.Hidden, func(r rune) bool { return r >= '\u200b' && r <= '\u200f' || r == '\u2060' || r == '\ufeff' })
	}
	if hidden > 1000 && hidden*2 > m.size {
		m.sign("HIDDEN_TEXT", "")
	}
	if salted {
		m.sign("SALTED_WORDS", "")
	}
	pictures, clicks := 0, 0
	for _, t := range m.links {
		switch t.Kind {
		case content.LinkImage:
			pictures++
		case content.LinkAnchor:
			clicks++
		}
	}
	if pictures > 0 && clicks > 0 && m.size < 400 {
		m.sign("PICTURE_MAIL", "")
	}
	m.leftoverSign()
}

// leftoverSign looks for what a template's program should have filled in.
func (m *mail) leftoverSign() {
	in := func(s string) bool {
		if !strings.ContainsAny(s, "{[#%") { // most have none, and the search costs more than all else
			return false
		}
		w := leftover.FindString(s)
		if w != "" {
			m.sign("TEMPLATE_LEFTOVER", w)
		}
		return w != ""
	}
	if in(m.text) || in(plain(m.from.Name)) {
		return
	}
	for _, t := range m.links {
		if in(strings.ToLower(t.query)) {
			return
		}
	}
}

var signedBy = regexp.MustCompile(`(?:^|[;\s])d=\s*([A-Za-z0-9.-]+)`)

// proofSigns are what others have found out about the sender and the content.
func (m *mail) proofSigns() {
	switch {
	case m.q.Sender.DMARC == "fail":
		m.sign("DMARC_FAIL", m.domain)
	case m.q.Sender.SPF == "fail" && !m.list:
		m.sign("SPF_FAIL", m.q.EnvelopeFrom)
	}
	tenant, own := "", false
	for _, h := range m.c.Headers {
		if h.Name != "dkim-signature" {
			continue
		}
		if d := signedBy.FindStringSubmatch(h.Value); d != nil {
			signer := strings.ToLower(d[1])
			own = own || same(signer, m.domain) || under(m.domain, []string{signer})
			if strings.HasSuffix(signer, ".onmicrosoft.com") || strings.HasSuffix(signer, ".gappssmtp.com") {
				tenant = signer
			}
		}
	}
	if tenant != "" && !own && m.domain != "" {
		m.sign("SIGNED_BY_OTHER", tenant)
	}
	for _, f := range m.q.Findings {
		if f.Engine != policy.PhishingEngine && strings.Contains(strings.ToLower(f.Name), "phish") {
			m.sign("ENGINE_PHISHING", f.Name)
		}
	}
}
